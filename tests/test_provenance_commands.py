"""Commands on runs whose songs changed, and on runs on which another process is at work."""

from __future__ import annotations

import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import app
from embedder.catalogue import read_catalogue
from embedder.config import PretrainConfig
from embedder.inference.checkpoint import load_member
from embedder.recipes import Recipe
from embedder.run import InUse, Run, locked
from embedder.training.speed import Speed
from ensemble.index import database

Command = Callable[..., Any]
Refused = Callable[..., str]


def test_songs_that_are_replaced_are_answered_for_no_longer(
    command: Command, refused: Refused, trained: Run, synthesised: Path, tmp_path: Path
) -> None:
    songs = Path(shutil.copytree(synthesised / "mix", tmp_path / "other songs"))
    shutil.rmtree(next(songs.iterdir()))
    words = ("prepare", "--data_dir", songs, "--split", "album", "--run_dir", trained.root)
    before = trained.catalogue.read_bytes()
    said = refused(*words)
    assert str(synthesised / "mix") in said
    assert str(songs) in said
    assert trained.catalogue.read_bytes() == before
    test = ("predict", "--test_dir", songs, "--output", tmp_path / "p.csv")
    assert command(*test, "--run_dir", trained.root).code == 0
    outcome = command(*shlex.split(said.partition(", or: ")[2])[2:])
    assert outcome.code == 0, outcome.err
    for answers in (
        test,
        ("analyze",),
        ("similar", next(songs.rglob("*.flac"))),
        ("enroll", "--singer", "Ann", "--audio_dir", songs),
    ):
        assert "other songs" in refused(*answers, "--run_dir", trained.root)
    assert "another catalogue" in refused("fuse", "--run_dir", trained.root)


def test_a_recipe_sees_songs_that_were_added(
    command: Command, refused: Refused, synthesised: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("embedder.training.speed.measure_speed", lambda *_: Speed(100.0, 400.0))
    monkeypatch.setattr(app, "RECIPES", {"laptop": Recipe("one member", {"m": {"epochs": 1}})})
    for step in ("app.run_member_training", "app.fuse", "analysis.cli.analyze"):
        monkeypatch.setattr(step, lambda *_, **__: None)
    songs, run = Path(shutil.copytree(synthesised / "mix", tmp_path / "songs")), Run(tmp_path / "r")
    singer = next(songs.iterdir())
    away = shutil.move(singer, tmp_path / "away")
    words = ("recipe", "laptop", "--data_dir", songs, "--split", "song", "--run_dir", run.root)
    assert command(*words).code == 0
    assert len(read_catalogue(run.catalogue).songs) == 9
    shutil.move(away, singer)
    assert "min: prepare" in command(*words).out
    assert len(read_catalogue(run.catalogue).songs) == 12
    assert "min: prepare" not in command(*words).out
    run.weights("m").parent.mkdir(parents=True)
    run.weights("m").touch()  # from here on something is made from them
    shutil.rmtree(singer)
    assert "12 songs" in refused(*words)


@contextmanager
def at_work(run: Run, what: str) -> Iterator[None]:
    """Another thread holds the lock, as another process would."""
    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(run, what):
            begun.set()
            ended.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("catalogue", ("prepare", "--data_dir", "SONGS")),
        ("catalogue", ("separate", "--method", "folder", "--stems_dir", "SONGS")),
        ("members/aam", ("train-embedder", "--name", "aam")),
        ("members/ecapa-triplet", ("train-embedder", "--loss", "triplet")),
        ("pretrained/p", ("pretrain", "--name", "p")),
        ("detector", ("train-detector",)),
        ("separator", ("train-separator",)),
        ("fusion", ("fuse",)),
        ("fusion", ("unenroll", "--singer", "Ann")),
        ("fusion", ("enroll", "--undo")),
        ("fusion", ("enroll", "--singer", "Ann", "--audio_dir", "SONGS")),
    ],
)
def test_what_another_process_is_at_work_on_is_left_alone(
    what: str,
    words: tuple[str, ...],
    refused: Refused,
    trained: Run,
    synthesised: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "LOCK_S", 0.0)
    mine = [str(synthesised / "mix") if word == "SONGS" else word for word in words]
    with at_work(trained, what):
        said = refused(*mine, "--run_dir", trained.root)
    assert "process " in said
    assert f"is at work on {what}" in said


def test_a_training_that_python_starts_is_alone_too(trained: Run) -> None:
    from embedder.training.detector import train_detector
    from embedder.training.members import train_member
    from embedder.training.pretrain import pretrain
    from embedder.training.separator import train_separator

    songs, config = read_catalogue(trained.catalogue), load_member(trained, "aam").config
    pretraining = PretrainConfig()
    for what, train in (
        ("members/aam", lambda: train_member(trained, songs, "aam", config, overwrite=True)),
        ("pretrained/p", lambda: pretrain(trained, songs, "p", pretraining)),
        ("detector", lambda: train_detector(trained, songs)),
        ("separator", lambda: train_separator(trained, catalogue=songs)),
    ):
        with at_work(trained, what), pytest.raises(InUse, match=f"is at work on {what}"):
            train()
    assert trained.weights("aam").is_file()
