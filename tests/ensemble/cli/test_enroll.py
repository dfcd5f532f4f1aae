"""`enroll` and `unenroll` as their users meet them: whole or not at all, and taken back."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from embedder.catalogue import read_catalogue
from embedder.inference.store import read_store, write_store
from embedder.run import Run
from ensemble.fusion.fitted import read_fusion
from ensemble.index import database
from ensemble.index.table import history, read_indexes
from ensemble.predictions import read_table

Command = Callable[..., Any]
TRAINED = 4


def songs_of(run: Run, split: str) -> list[Path]:
    return [Path(song.path) for song in read_catalogue(run.catalogue).of(split)]


def in_fusion(run: Run) -> dict[str, bytes]:
    files = (path for path in sorted(run.fusion_folder.iterdir()) if path.is_file())
    return {path.name: path.read_bytes() for path in files}


def cells(text: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    return [row for row in rows if row]


@pytest.fixture
def recordings(trained: Run, tmp_path: Path) -> Path:
    """Two albums of one song each, in which somebody sings whom nobody was trained on."""
    folder = tmp_path / "somebody"
    for number, song in enumerate(songs_of(trained, "test")[:2], 1):
        (folder / f"album {number}").mkdir(parents=True)
        shutil.copy(song, folder / f"album {number}" / "01.flac")
    return folder


@pytest.fixture
def files(trained: Run, tmp_path: Path) -> Path:
    """Two more songs, to be predicted."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number, song in enumerate(songs_of(trained, "test")[2:], 1):
        shutil.copy(song, folder / f"{number}.flac")
    return folder


@pytest.fixture
def enroll(command: Command, trained: Run, recordings: Path) -> Command:
    def call(*more: object, singer: str = "Zoë") -> Any:
        words = ("--singer", singer, "--audio_dir", recordings, "--run_dir", trained.root)
        return command("enroll", *words, *more)

    return call


# Adding and taking out --------------------------------------------------------------------------


def test_a_singer_is_added_without_training_and_taken_back_without_a_trace(
    command: Command, enroll: Command, trained: Run, files: Path, tmp_path: Path
) -> None:
    def predicted(name: str) -> dict[str, bytes]:
        words = ("--test_dir", files, "--output", tmp_path / name / "p.csv")
        done = command("predict", *words, "--run_dir", trained.root)
        assert (done.code, done.err) == (0, "")
        return {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}

    weights = {name: trained.weights(name).read_bytes() for name in trained.member_names()}
    before = predicted("before")
    done = enroll()
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert "2 songs of Zoë are enrolled (change 1)" in lines
    assert f"1 singer is enrolled beside the {TRAINED} trained ones: Zoë" in lines
    rows = cells(done.out)
    assert [row[0] for row in rows] == ["top-1", "top-3", "score", "NLL"]
    for _, plain, enlarged, difference in rows:
        first, second, apart = (float(cell.split()[0]) for cell in (plain, enlarged, difference))
        assert second - first == pytest.approx(apart, abs=2e-3)
    index = read_indexes(trained.index_table)["triplet"]
    assert index.singers[TRAINED:] == ("Zoë",)
    assert index.song_ids[-2:] == ("Zoë/album 1/01", "Zoë/album 2/01")
    assert index.albums[-2:] == ("Zoë/album 1", "Zoë/album 2")

    predicted("after")
    table = read_table(tmp_path / "after" / "p.npz")
    assert table.singers == index.singers
    assert np.allclose(np.exp(table.log_probabilities).sum(axis=1), 1, atol=1e-5)
    assert np.isfinite(table.log_probabilities).all()
    old = read_table(tmp_path / "before" / "p.npz").log_probabilities
    less = table.log_probabilities[:, :TRAINED] - old
    assert np.allclose(less, less[:, :1], atol=1e-4)

    said = lines[-1].removeprefix("to take it back: python app.py ")
    done = command(*shlex.split(said))
    assert (done.code, done.err) == (0, "")
    assert "taken back: 2 songs of Zoë are enrolled (change 1)" in done.out
    assert f"no singer is enrolled beside the {TRAINED} trained ones" in done.out
    assert cells(done.out) == []
    assert predicted("again") == before
    assert {name: trained.weights(name).read_bytes() for name in weights} == weights


def test_a_singer_is_taken_out_and_put_back(
    command: Command, enroll: Command, trained: Run
) -> None:
    there = ("--run_dir", trained.root)
    enroll()
    known = read_indexes(trained.index_table)["aam"]
    done = command("unenroll", "--singer", "Zoë", *there)
    assert (done.code, done.err) == (0, "")
    assert "2 songs of Zoë were taken out (change 2)" in done.out
    assert "no singer is enrolled" in done.out
    assert read_indexes(trained.index_table)["aam"].singers == known.singers[:TRAINED]
    done = command(*shlex.split(done.out.splitlines()[-1].partition("app.py ")[2]))
    assert "taken back: 2 songs of Zoë were taken out (change 2)" in done.out
    back = read_indexes(trained.index_table)["aam"]
    assert (back.singers, back.song_ids) == (known.singers, known.song_ids)
    assert [change.action for change in history(trained.index_table)] == ["enroll"]


def test_songs_of_a_trained_singer_join_that_singer_s(
    command: Command, enroll: Command, trained: Run, recordings: Path
) -> None:
    singers = read_fusion(trained.fusion).singers
    shutil.rmtree(recordings / "album 2")
    done = enroll(singer=f" {singers[2]} ")
    assert (done.code, done.err) == (0, "")
    assert f"1 song of {singers[2]} is enrolled (change 1)" in done.out
    assert f"no singer is enrolled beside the {TRAINED} trained ones" in done.out
    assert len(cells(done.out)) == 4  # it may cost the others something all the same
    assert f"Trained singers beside 1 enrolled song: {TRAINED} validation songs" in done.out
    for index in read_indexes(trained.index_table).values():
        assert index.singers == singers
        assert index.labels[-1] == 2
    done = command("unenroll", "--singer", singers[2], "--run_dir", trained.root)
    assert f"1 song of {singers[2]} was taken out (change 2)" in done.out


def test_loose_songs_are_an_album_named_as_their_folder(
    command: Command, trained: Run, recordings: Path
) -> None:
    for number in (1, 2):
        folder = recordings / f"album {number}"
        words = ("--singer", "Zoë", "--audio_dir", folder, "--run_dir", trained.root)
        assert command("enroll", *words).code == 0
    index = read_indexes(trained.index_table)["aam"]
    assert index.song_ids[-2:] == ("Zoë/album 1/01", "Zoë/album 2/01")
    assert index.singers[TRAINED:] == ("Zoë",)


def test_files_that_cannot_be_used_are_named_and_left_out_if_asked(
    enroll: Command, refused: Command, trained: Run, recordings: Path
) -> None:
    soundfile.write(recordings / "album 1" / "02.wav", np.zeros(32000), 16000)
    before = in_fusion(trained)
    words = ("--singer", "Zoë", "--audio_dir", recordings, "--run_dir", trained.root)
    line = refused("enroll", *words)
    assert "1 of 3 files cannot be used" in line
    assert "02.wav: silent" in line
    assert in_fusion(trained) == before
    done = enroll("--skip_bad")
    assert done.code == 0
    assert "left out" in done.err
    assert "2 songs of Zoë are enrolled" in done.out


def test_recordings_that_the_run_has_are_named_and_measure_nothing(
    enroll: Command, trained: Run, recordings: Path
) -> None:
    train = read_catalogue(trained.catalogue).of("train")[0]
    shutil.copy(train.path, recordings / "album 1" / "02.flac")
    shutil.copy(songs_of(trained, "validation")[3], recordings / "album 1" / "03.flac")
    done = enroll()
    assert done.code == 0
    lines = done.out.splitlines()
    same = f"Zoë/album 1/02 is the same recording as {train.id} of {train.singer}, which stays in"
    assert sum(same in line for line in done.err.splitlines()) == 2  # at once, and at the end
    assert done.err.count("the same recording") == 2
    said = "1 validation song stood among the enrolled ones and cannot say what they cost"
    assert said in lines
    assert "Trained singers beside 4 enrolled songs: 3 validation songs" in done.out


def test_without_songs_nothing_is_measured(enroll: Command, trained: Run) -> None:
    """As in the run folder of a bundle."""
    trained.catalogue.unlink()
    done = enroll()
    assert (done.code, done.err) == (0, "")
    assert "2 songs of Zoë are enrolled" in done.out
    assert "what that costs the trained ones cannot be measured here" in done.out
    assert read_indexes(trained.index_table)["aam"].singers[TRAINED:] == ("Zoë",)


def test_fuse_keeps_who_was_enrolled_or_says_who_would_be_lost(
    command: Command, refused: Command, enroll: Command, trained: Run
) -> None:
    there = ("--method", "mean", "--run_dir", trained.root)
    enroll()
    done = command("fuse", *there)
    assert (done.code, done.err) == (0, "")
    assert "still enrolled: Zoë" in done.out.splitlines()
    assert command("fuse", "--members", "triplet", *there).code == 0
    assert read_indexes(trained.index_table)["triplet"].singers[TRAINED:] == ("Zoë",)
    before = in_fusion(trained)
    for words in ([], ["--tta", 2]):  # another member; another way of hearing
        line = refused("fuse", *words, *there)
        assert "what was enrolled of Zoë was embedded by other members or in another way" in line
        assert "--drop_enrolled lets it go" in line
        assert in_fusion(trained) == before
    store = trained.store("triplet", "validation")
    assert "and 2 more" not in read_store(store).made_from["grid"]  # refused before any work
    done = command("fuse", "--drop_enrolled", *there)
    assert (done.code, done.err) == (0, "")
    assert "no longer enrolled: Zoë" in done.out.splitlines()
    assert history(trained.index_table) == []


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("enroll", "enroll needs --singer NAME and --audio_dir D, or --undo"),
        ("enroll --singer a", "enroll needs --singer NAME and --audio_dir D, or --undo"),
        ("enroll --audio_dir HERE", "enroll needs --singer NAME and --audio_dir D, or --undo"),
        ("enroll --singer a --audio_dir HERE/none", "HERE/none does not exist; --audio_dir takes"),
        ("enroll --singer a --audio_dir EMPTY", "EMPTY holds no audio file"),
        ("enroll --singer unknown --audio_dir HERE", "--singer unknown is what predictions call"),
        ("enroll --singer ' ' --audio_dir HERE", "--singer needs another name"),
        (
            "enroll --singer AC/DC --audio_dir HERE",
            "--singer needs another name: 'AC/DC'",
        ),
        ("enroll --singer a\u2028b --audio_dir HERE", "--singer needs another name"),
        ("enroll --undo --singer a", "--undo takes the last change back; it goes with no other"),
        ("enroll --undo --audio_dir HERE", "--undo takes the last change back; it goes with no"),
        ("enroll --undo", "there is nothing to undo: no singer was enrolled since the run"),
        ("unenroll", "unenroll needs --singer NAME, or --undo"),
        ("unenroll --singer a --undo", "--undo takes the last change back; it goes with no other"),
        ("unenroll --undo", "there is nothing to undo"),
        ("unenroll --singer nobody", "nobody is not enrolled; enrolled are: none"),
        ("unenroll --singer FIRST", "FIRST has no enrolled song; the songs that members were"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    words: str, expected: str, refused: Command, trained: Run, recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    names = {
        "HERE": str(recordings),
        "EMPTY": str(tmp_path / "empty"),
        "FIRST": read_fusion(trained.fusion).singers[0],
    }
    for short, full in names.items():
        words, expected = words.replace(short, shlex.quote(full)), expected.replace(short, full)
    before = in_fusion(trained)
    assert refused(*shlex.split(words), "--run_dir", trained.root).startswith(expected)
    assert in_fusion(trained) == before


def test_songs_that_are_enrolled_already_are_refused_before_any_work(
    enroll: Command, command: Command, trained: Run
) -> None:
    enroll()
    before = in_fusion(trained)
    done = enroll()
    assert done.code == 2
    assert done.err == (
        "error: 2 of 2 songs are in the index already, such as Zoë/album 1/01 of Zoë\n"
    )
    assert done.out == ""  # not even a file was checked
    assert in_fusion(trained) == before
    assert enroll(singer="Ada").code == 0  # another singer has songs of other names
    done = command("unenroll", "--singer", "Eva", "--run_dir", trained.root)
    assert "enrolled are: Ada, Zoë" in done.err


def test_a_table_in_use_is_one_line(
    refused: Command, trained: Run, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_S", 0.01)
    there = ("--run_dir", trained.root)
    before = in_fusion(trained)
    with closing(sqlite3.connect(trained.index_table)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for words in (
            ("enroll", "--singer", "a", "--audio_dir", recordings),
            ("enroll", "--undo"),
            ("unenroll", "--singer", "a"),
            ("fuse", "--method", "mean"),
        ):
            assert "is in use by another command; run this one again" in refused(*words, *there)
    assert in_fusion(trained) == before


def test_what_cannot_be_measured_afterwards_is_refused_beforehand(
    enroll: Command, refused: Command, trained: Run
) -> None:
    enroll()
    path = trained.store("aam", "validation")
    store = read_store(path)
    write_store(path, replace(store, made_from={**store.made_from, "checkpoint": "other"}))
    before = in_fusion(trained)
    for words in (("unenroll", "--singer", "Zoë"), ("enroll", "--undo")):
        line = refused(*words, "--run_dir", trained.root)
        assert "the validation store of member aam was made from checkpoint other" in line
    assert enroll(singer="Ada").code == 2
    assert in_fusion(trained) == before


def test_every_member_must_take_the_songs(
    command: Command, trained: Run, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedder.inference import embedder
    from embedder.settings import replaced

    load = embedder.load_member

    def of_vocals(run: Run, name: str, *more: Any) -> Any:
        member = load(run, name, *more)
        changes = {"stem": "vocals"} if name == "triplet" else {}
        return replace(member, config=replaced(member.config, changes))

    monkeypatch.setattr(embedder, "load_member", of_vocals)
    before = in_fusion(trained)
    words = ("--singer", "a", "--audio_dir", recordings, "--run_dir", trained.root)
    done = command("enroll", *words)
    assert done.code == 2
    (error,) = done.err.splitlines()
    assert error.startswith(
        "error: nobody can be enrolled: triplet cannot take recordings without vocals"
    )
    assert "python app.py train-separator" in error
    assert in_fusion(trained) == before
