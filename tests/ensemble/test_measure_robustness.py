"""The measure of robustness as a user runs it: on tiny members, stopped halfway, and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ensemble.measure_robustness as measured
import ensemble.robustness
from embedder.catalogue import read_catalogue
from embedder.data.cache import AudioCache
from embedder.measures.robustness import (
    DEGRADATIONS,
    EXCERPT,
    severity_levels,
)
from embedder.run import Run
from ensemble.measure_robustness import degraded, measure_robustness, rows_of
from ensemble.robustness import Measured, fitting

FEW = {
    EXCERPT: replace(DEGRADATIONS[EXCERPT], levels=(0.0, 10.0, 1.0)),
    "noise": DEGRADATIONS["noise"],
    "gain": replace(DEGRADATIONS["gain"], levels=(-20.0, 40.0)),
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine levels instead of all."""
    for name in set(DEGRADATIONS) - set(FEW):
        monkeypatch.delitem(DEGRADATIONS, name)
    for name, ladder in FEW.items():
        monkeypatch.setitem(DEGRADATIONS, name, ladder)


@pytest.mark.usefixtures("few")
def test_a_stopped_measure_goes_on_and_ends_alike(
    trained: Run, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = trained.measure("robustness.csv")
    ask = ("measure", "--what", "robustness", "--songs", 3, "--device", "cpu")
    outcome = command(*ask, "--run_dir", trained.root)
    assert outcome.code == 0, outcome
    assert "3 songs at 9 levels: 0.0 hours of audio, about 0.1 minutes" in outcome.out
    assert "degraded songs: 27 in " in outcome.out
    assert f"wrote {table}" in outcome.out
    undisturbed = table.read_bytes()
    table.unlink()

    real = measured.degraded
    taken: list[str] = []

    def stopping(song: Any, *rest: Any) -> Any:
        taken.append(song.id)
        if len(taken) == 3:  # the estimate's, the first song, the second
            raise KeyboardInterrupt
        return real(song, *rest)

    monkeypatch.setattr(measured, "degraded", stopping)
    assert command(*ask, "--run_dir", trained.root).code == 130
    assert table.read_bytes().splitlines() == undisturbed.splitlines()[:10]  # whole songs only
    monkeypatch.setattr(measured, "degraded", real)
    again = command(*ask, "--run_dir", trained.root)
    assert "3 songs at 9 levels, 1 of them measured already" in again.out
    assert table.read_bytes() == undisturbed
    nothing = command(*ask, "--run_dir", trained.root)
    assert nothing.code == 0
    assert "levels" not in nothing.out
    assert table.read_bytes() == undisturbed


@pytest.mark.usefixtures("few")
def test_the_undegraded_level_is_what_predict_answers(
    trained: Run, command: Callable[..., Any], tmp_path: Any
) -> None:
    measure_robustness(trained, "cpu", songs=4, seconds=0.0)
    found = fitting(trained)
    assert isinstance(found, Measured)
    assert found.conditions.split == "test"
    assert (found.wanted, found.available) == (4, 4)
    named = {row.song: row.named for row in found.rows if row.step == (EXCERPT, 0.0)}
    folder = tmp_path / "songs"
    folder.mkdir()
    songs = {song.id: song for song in read_catalogue(trained.catalogue).of("test")}
    for number, song in enumerate(songs.values()):
        (folder / f"{number}.wav").symlink_to(song.path)
    output = tmp_path / "prediction.csv"
    command("predict", "--test_dir", folder, "--output", output, "--run_dir", trained.root)
    predicted = dict(line.split(",")[:2] for line in output.read_text().splitlines())
    assert named == {song: predicted[str(number)] for number, song in enumerate(songs)}
    assert {row.step for row in found.rows} == set(severity_levels())
    fused = [row for row in found.rows if row.step == (EXCERPT, 0.0)]
    assert all((row.ranks[0] == 1) == (row.named == row.singer) for row in fused)


@pytest.mark.usefixtures("few")
def test_every_level_is_of_the_same_excerpt(trained: Run) -> None:
    song = read_catalogue(trained.catalogue).of("test")[0]
    cache = AudioCache(trained.cache)
    waves = dict(zip(severity_levels(), degraded(song, cache, 1.0), strict=True))
    again = dict(zip(severity_levels(), degraded(song, cache, 1.0), strict=True))
    clean = waves[EXCERPT, 1.0].astype(float)
    assert len(clean) == 16000
    np.testing.assert_array_equal(waves[EXCERPT, 0.0], cache.samples(song.audio))
    np.testing.assert_allclose(waves["gain", -20.0], clean / 10, atol=0.51)
    loud = np.clip(clean * 100, -32768, 32767)  # as a file clips it
    np.testing.assert_allclose(waves["gain", 40.0], loud, atol=1)
    for level in DEGRADATIONS["noise"].levels:
        noise = waves["noise", level] - clean
        assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(level, abs=0.3)
    assert all((again[step] == waves[step]).all() for step in waves)


@pytest.mark.usefixtures("few")
def test_ranks_are_places_of_the_true_singer() -> None:
    from embedder.catalogue import Song
    from ensemble.scoring import SongScores

    songs = len(severity_levels())
    fused = np.log(np.tile([0.5, 0.3, 0.2], (songs, 1)))
    fused[1] = np.log([0.2, 0.4, 0.4])
    head = fused[:, ::-1].copy()
    head[2] = np.nan
    scores = {"m/head": head, "fused": fused}
    ones = np.ones(songs)
    answered = SongScores(("A", "B", "C"), scores, ones, ones, ones, ((),) * songs)
    song = Song("B/x/1.mp3", "", "B", "x", "1")
    rows = rows_of(song, answered, ("fused", "m/head", "gone/head"))
    assert [row.step for row in rows] == severity_levels()
    assert [row.ranks for row in rows[:4]] == [(2, 2, 0), (1, 2, 0), (2, 0, 0), (2, 2, 0)]
    assert [row.named for row in rows[:3]] == ["A", "B", "A"]


@pytest.mark.parametrize("seconds", ["2", "-1"])
def test_a_length_without_an_undegraded_level_is_refused(
    seconds: str, trained: Run, refused: Callable[..., str]
) -> None:
    line = refused(
        "measure", "--seconds", seconds, "--what", "robustness", "--run_dir", trained.root
    )
    assert line == (
        f"--seconds {seconds} is not legal; it must be one of 30, 10, 5, 3, 1, or 0: all"
    )


def test_the_page_and_the_measure_share_their_levels() -> None:
    assert ensemble.robustness.current_ladders() == {
        name: list(ladder.levels) for name, ladder in DEGRADATIONS.items()
    }
