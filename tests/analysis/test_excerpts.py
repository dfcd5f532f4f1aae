"""Excerpts for players: the right ten seconds, cut once, and none of what is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from analysis.excerpts import Excerpt, Wanted, excerpts, file_players, song_players, sung
from analysis.run_data import read_run_data
from embedder.catalogue import Catalogue, Song, write_catalogue
from embedder.inference.store import Store
from embedder.run import Run
from ensemble.results import PlacedFiles

RATE = 16000


def tones(seconds: int) -> np.ndarray:
    """A second of 200 Hz, one of 300 Hz, …: what a piece is, can be heard."""
    time = np.arange(RATE) / RATE
    parts = [np.sin(2 * np.pi * (200 + 100 * second) * time) for second in range(seconds)]
    return 0.5 * np.concatenate(parts)


def pitch(wave: np.ndarray, second: float, rate: int = RATE) -> float:
    part = wave[int(second * rate) : int((second + 0.5) * rate)]
    return float(np.fft.rfftfreq(len(part), 1 / rate)[np.abs(np.fft.rfft(part)).argmax()])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def heard(run: Run, excerpt: Excerpt | None) -> np.ndarray:
    assert excerpt is not None
    wave, rate = soundfile.read(run.pages / excerpt.source)
    assert rate == RATE
    return np.asarray(wave)


def test_an_excerpt_is_ten_seconds_from_its_start(run: Run) -> None:
    run.cache.mkdir(parents=True)
    np.save(run.decoded("key"), (tones(16) * 2**15).astype(np.int16))
    (found,) = excerpts(run, [Wanted(Path("gone.mp3"), "key", 4.7)])
    assert found == Excerpt("audio/key-4.mp3", 4.0)
    wave = heard(run, found)
    assert len(wave) / RATE == pytest.approx(10, abs=0.1)
    for second in (0, 5, 9):
        assert pitch(wave, second + 0.25) == pytest.approx(600 + 100 * second, abs=5)
    assert wave.std() == pytest.approx(0.5 / 2**0.5, rel=0.05)
    (late,) = excerpts(run, [Wanted(Path("gone.mp3"), "key", 14.0)])
    assert len(heard(run, late)) / RATE == pytest.approx(2, abs=0.1)


def test_what_was_not_decoded_is_read_from_its_file(run: Run, tmp_path: Path) -> None:
    stereo = np.stack([tones(8), np.zeros(8 * RATE)], axis=1)
    soundfile.write(tmp_path / "a.wav", np.repeat(stereo, 2, axis=0), 2 * RATE)
    (found,) = excerpts(run, [Wanted(tmp_path / "a.wav", "key", 3.0)])
    wave = heard(run, found)
    assert len(wave) / RATE == pytest.approx(5, abs=0.1)
    assert pitch(wave, 0.25) == pytest.approx(500, abs=5)
    assert wave.std() == pytest.approx(0.25 / 2**0.5, rel=0.05)


def test_what_is_there_is_not_cut_again_and_what_is_gone_has_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio", encoding="utf-8")
    soundfile.write(tmp_path / "short.wav", tones(2), RATE)
    wanted = [
        Wanted(tmp_path / "gone.wav", "a", 0.0),
        Wanted(tmp_path / "text.wav", "b", 0.0),
        Wanted(tmp_path / "short.wav", "c", 5.0),  # it ends before
        Wanted(tmp_path / "short.wav", "d", 0.0),
    ]
    found = excerpts(run, wanted)
    assert found[:3] == [None, None, None]
    assert [path.name for path in run.page_audio.iterdir()] == ["d-0.mp3"]
    (tmp_path / "short.wav").unlink()
    assert excerpts(run, wanted[3:]) == found[3:]


def test_an_excerpt_begins_where_most_is_sung(build_store: Callable[..., Store]) -> None:
    store = build_store("aam", "train", ["a"], ["x"])
    weights = store.segment_weight.copy()
    weights[:6] = [0.1, 0.2, 0.9, 0.2, 0.9, 0.9]
    weights[6:12] = [0.3, 0.1, 0.1, 0.1, 0.1, 0.1]
    found = sung(replace(store, segment_weight=weights))
    assert found == [10.0, 0.0, 7.5]  # of equal ones the middle


def test_every_song_and_file_has_the_player_of_its_own(
    build_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = build_run(members=("aam",))
    run_data = read_run_data(run)
    ids = run_data.songs.ids
    songs = [
        Song(id=ids[row], path=str(tmp_path / f"{row}.wav"), singer=ids[row].split("/")[0],
             album="x", title="t", split="train", audio=f"hash{row}")
        for row in (3, 5)
    ]  # fmt: skip
    write_catalogue(run.catalogue, Catalogue(tuple(songs)))
    run.cache.mkdir()
    np.save(run.decoded("hash5"), (tones(12) * 2**15).astype(np.int16))
    found = song_players(run_data)
    assert len(found) == len(ids)
    assert {row: one for row, one in enumerate(found) if one} == {
        5: Excerpt("audio/hash5-7.mp3", 7.0)
    }
    assert file_players(run_data) == []
    soundfile.write(tmp_path / "new.wav", tones(12), RATE)
    store = run_data.stores("aam")[1].take(np.array([0]))
    placed = PlacedFiles(
        (tmp_path / "new.wav",), ("new",), store.singers, np.ones((1, 4)) / 4, ((store,),), ((),)
    )
    (one,) = file_players(replace(run_data, placed=placed))
    assert one is not None
    assert pitch(heard(run, one), 0.25) == pytest.approx(900, abs=5)  # the segment from 7.5 s
