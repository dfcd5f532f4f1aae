"""`predict --unknown`, and the notes beside a prediction, as their users meet them."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.artifact import read_json
from embedder.catalogue import read_catalogue
from embedder.run import Run
from embedder.statistics import Estimate
from ensemble.fusion.fitted import read_fusion, write_fusion
from ensemble.predictions import read_table

Command = Callable[..., Any]


@pytest.fixture
def files(trained: Run, synthesised: Path, tmp_path: Path) -> Path:
    """The run's test songs, in the folders in which they lie."""
    folder = tmp_path / "files"
    for song in read_catalogue(trained.catalogue).of("test"):
        target = folder / Path(song.path).relative_to(synthesised / "mix")
        target.parent.mkdir(parents=True)
        shutil.copy(song.path, target)
    return folder


@pytest.fixture
def predict(
    command: Command, trained: Run, files: Path, tmp_path: Path
) -> Callable[..., list[Any]]:
    """`predict("--unknown")`: the rows of the csv, after a run that must succeed."""

    def call(*more: object, name: str = "p") -> list[Any]:
        output = tmp_path / name / "p.csv"
        words = ("--test_dir", files, "--output", output, "--run_dir", trained.root)
        done = command("predict", *words, *more)
        assert done.code == 0, done
        return [done.out + done.err, *csv.reader(output.read_text("utf-8").splitlines())]

    return call


def with_threshold(run: Run, threshold: float) -> None:
    fusion = read_fusion(run.fusion)
    assert fusion.unknown is not None
    write_fusion(run.fusion, replace(fusion, unknown=replace(fusion.unknown, threshold=threshold)))


def test_unknown_is_said_where_the_confidence_is_below_the_threshold(
    predict: Command, trained: Run, tmp_path: Path
) -> None:
    plain = predict(name="plain")
    assert "of none of the known singers" not in plain[0]
    table = read_table(tmp_path / "plain" / "p.npz")
    assert table.confidence is not None
    assert ((table.confidence > 0) & (table.confidence <= 1)).all()
    sure = np.sort(table.confidence)
    with_threshold(trained, float((sure[1] + sure[2]) / 2))
    marked = predict("--unknown")
    assert "2 of 4 songs are of none of the known singers" in marked[0].splitlines()
    for row, before, confidence in zip(marked[1:], plain[1:], table.confidence, strict=True):
        if confidence < (sure[1] + sure[2]) / 2:
            assert row == [before[0], "unknown", *before[1:3]]
        else:
            assert row == before
    predict(name="again")  # without the flag the threshold changes nothing
    for name in ("p.csv", "p.npz"):
        one, other = (tmp_path / folder / name for folder in ("plain", "again"))
        assert one.read_bytes() == other.read_bytes()


def test_unknown_in_json(command: Command, trained: Run, files: Path, tmp_path: Path) -> None:
    with_threshold(trained, 1.0)
    words = ("--test_dir", files, "--format", "json", "--output", tmp_path / "p.json")
    done = command("predict", *words, "--unknown", "--run_dir", trained.root)
    assert done.code == 0
    assert "4 of 4 songs are called unknown" in done.err  # so many are worth a warning
    assert "4 of 4 songs are of none of the known singers" in done.out
    assert [row[0] for row in read_json(tmp_path / "p.json").values()] == ["unknown"] * 4


def test_without_a_threshold_it_is_refused_before_any_work(
    command: Command, trained: Run, files: Path, tmp_path: Path
) -> None:
    write_fusion(trained.fusion, replace(read_fusion(trained.fusion), unknown=None))
    output = tmp_path / "new" / "p.csv"
    words = ("--test_dir", files, "--output", output, "--unknown", "--run_dir", trained.root)
    done = command("predict", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: --unknown needs a threshold, which is fitted by leaving")
    assert not output.parent.exists()


def test_fuse_prints_how_strangers_are_told_and_keeps_the_target(
    command: Command, trained: Run
) -> None:
    done = command("fuse", "--method", "mean", "--target_fpr", 0.25, "--run_dir", trained.root)
    assert (done.code, done.err) == (0, "")
    unknown = read_fusion(trained.fusion).unknown
    assert unknown is not None
    assert unknown.target_fpr == 0.25
    rows = {
        cells[1].strip(): cells[2].strip()
        for line in done.out.splitlines()
        if len(cells := line.split("│")) == 4
    }
    for name, area in unknown.auroc.items():
        mark = " *" if name == unknown.measure else ""
        assert rows[f"AUROC of {name}{mark}"] == str(area)
    assert rows[f"false positives at 95 % recall, {unknown.measure}"] == str(unknown.fpr_95)
    at = f"at {unknown.measure} {unknown.threshold:.3f}, cross-fitted"
    assert rows[f"false positives {at} (target 0.25)"] == str(unknown.fpr)
    assert rows[f"top-1 of known singers {at}"] == str(unknown.accuracy)
    assert "Unknown singers: 4 validation songs of 4 singers" in done.out


def test_a_threshold_that_calls_most_known_singers_unknown_is_warned_of(
    command: Command, trained: Run, files: Path, tmp_path: Path
) -> None:
    """Where fewer than half of the right answers are left; else nothing is said."""
    fusion = read_fusion(trained.fusion)
    assert fusion.unknown is not None
    words = ("--test_dir", files, "--output", tmp_path / "p.csv", "--run_dir", trained.root)
    for kept, warned in ((0.44, True), (0.46, False)):
        unknown = replace(
            fusion.unknown,
            threshold=0.0,
            accuracy=Estimate(kept, 0.1, 0.7),
            accuracy_before=Estimate(0.9, 0.8, 1.0),
        )
        write_fusion(trained.fusion, replace(fusion, unknown=unknown))
        done = command("predict", *words, "--unknown")
        assert done.code == 0
        assert ("44% are named right with --unknown and 90% without" in done.err) == warned
        assert (done.err == "") == (not warned)
        assert command("predict", *words).err == ""  # nobody asked for unknown singers


# Notes ------------------------------------------------------------------------------------------


@pytest.fixture
def vocal_triplet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The member "triplet" listens to vocals."""
    from embedder.inference import embedder
    from embedder.settings import replaced

    load = embedder.load_member

    def of_vocals(run: Run, name: str, *more: Any) -> Any:
        member = load(run, name, *more)
        changes = {"stem": "vocals"} if name == "triplet" else {}
        return replace(member, config=replaced(member.config, changes))

    monkeypatch.setattr(embedder, "load_member", of_vocals)


@pytest.mark.usefixtures("vocal_triplet")
def test_songs_without_a_vocal_stem_are_answered_by_the_others_and_noted(
    predict: Command, files: Path, synthesised: Path, tmp_path: Path
) -> None:
    stems = tmp_path / "stems"
    shutil.copytree(synthesised / "vocals", stems / "vocals")
    whole = predict("--stems_dir", stems, name="whole")
    assert not (tmp_path / "whole" / "p.csv.notes.csv").exists()
    alone = predict("--members", "aam", name="alone")
    songs = sorted(path.relative_to(files) for path in files.rglob("*.flac"))
    for gone in (songs[0], songs[2]):
        (stems / "vocals" / gone).unlink()
    some = predict("--stems_dir", stems, "--batch_size", 1, name="some")
    tables = [read_table(tmp_path / name / "p.npz") for name in ("some", "whole", "alone")]
    names = [song.with_suffix("").as_posix() for song in songs]
    assert tables[0].ids == tuple(names)
    for row, name in enumerate(names):
        source = 2 if row in (0, 2) else 1
        assert some[row + 1] == (alone if source == 2 else whole)[row + 1]
        expected = tables[source].log_probabilities[row]
        assert np.array_equal(tables[0].log_probabilities[row], expected), name
        for expert, logs in tables[0].experts.items():
            silent = source == 2 and expert.startswith("triplet/")
            assert np.isnan(logs[row]).all() == silent
    note = "answered by 1 of 2 members: no vocals for triplet"
    notes = tmp_path / "some" / "p.csv.notes.csv"
    assert notes.read_text("utf-8") == f"ID,note\n{names[0]},{note}\n{names[2]},{note}\n"
    assert f"wrote {notes}: what is to be known of 2 answers" in some[0].splitlines()

    none = predict(name="none")
    assert "without vocal stems (--stems_dir) these are unavailable: triplet" in none[0]
    assert none[1:] == alone[1:]
    assert (tmp_path / "none" / "p.csv.notes.csv").read_text("utf-8").count(note) == 4
    (stems / "vocals").rename(tmp_path / "kept")
    shutil.copytree(synthesised / "vocals", stems / "vocals")
    predict("--stems_dir", stems, name="some")  # the old notes go
    assert not notes.exists()


@pytest.mark.usefixtures("vocal_triplet")
def test_vocals_without_voice_are_noted_and_so_is_a_song_without_any(
    command: Command,
    predict: Command,
    trained: Run,
    files: Path,
    synthesised: Path,
    tmp_path: Path,
    put_detector: Callable[[Run, float], None],
) -> None:
    import soundfile

    put_detector(trained, 20.0)  # hears voice in every mixture
    fuse = ("fuse", "--method", "mean", "--run_dir", trained.root)
    assert command(*fuse).code == 0
    stems = tmp_path / "stems"
    shutil.copytree(synthesised / "vocals", stems / "vocals")
    song = sorted(path.relative_to(files) for path in files.rglob("*.flac"))[1]
    wave, rate = soundfile.read(stems / "vocals" / song)
    soundfile.write(stems / "vocals" / song, np.zeros_like(wave), rate)
    predict("--stems_dir", stems)
    notes = tmp_path / "p" / "p.csv.notes.csv"
    name = song.with_suffix("").as_posix()
    silent = f"{name},answered by 1 of 2 members: no vocals for triplet\n"
    assert notes.read_text("utf-8") == f"ID,note\n{silent}"

    put_detector(trained, -20.0)  # hears none, in any
    assert command(*fuse).code == 0
    predict("--stems_dir", stems)
    lines = notes.read_text("utf-8").splitlines()
    # In each song some member with a part in the answer found no voice.
    assert lines[0] == "ID,note"
    assert lines.count(silent.strip()) == 1
    assert {line.partition(",")[2] for line in lines[1:]} == {
        silent.strip().partition(",")[2],
        "no voice was found: the whole recording is used",
    }
    assert len(lines) == 1 + 4 + 1  # both of one song
