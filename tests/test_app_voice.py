"""Voice and grids from the command line: trained, fused and predicted with, never mixed up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.catalogue import read_catalogue
from embedder.inference.config import InferenceConfig, detector_fingerprint
from embedder.inference.store import read_store
from embedder.run import Run
from embedder.training import detector as detector_train
from ensemble.fusion.fitted import read_fusion
from ensemble.predictions import read_table

Command = Callable[..., Any]
Put = Callable[[Run, float], None]


@pytest.fixture
def songs(trained: Run, tmp_path: Path) -> Path:
    """The run's test songs as a folder to predict, under other names."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for number, song in enumerate(read_catalogue(trained.catalogue).of("test"), 1):
        shutil.copy(song.path, folder / f"{number}.flac")
    return folder


def log_probabilities(path: Path) -> np.ndarray:
    return read_table(path).log_probabilities


def test_a_detector_is_trained_and_everything_after_it_listens(
    command: Command,
    refused: Command,
    trained: Run,
    songs: Path,
    tmp_path: Path,
    put_detector: Put,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detector_train, "BATCH", 2)
    monkeypatch.setattr(detector_train.DetectorTrainConfig, "__init__", _short)
    there = ("--run_dir", trained.root)
    output = ("--test_dir", songs, "--output", tmp_path / "p.csv")
    done = command("train-detector", *there)
    assert (done.code, done.err) == (0, "")
    assert "Voice detector on 4 validation songs: frames of 50 ms" in done.out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines()]
    heard = [row[0] for row in rows if len(row) == 7]
    assert heard == ["vocals + backing", "vocals 8 dB lower", "mixture"]
    assert done.out.splitlines()[-1].startswith("next: python app.py fuse")
    assert "already trained with these settings" in command("train-detector", *there).out
    assert "other songs or settings; --overwrite" in refused("train-detector", "--seed", 4, *there)

    line = refused("predict", *output, *there)
    assert "was fitted with voice detector none" in line
    assert "python app.py fuse" in line
    done = command("fuse", *there)
    assert done.code == 0
    assert "aam: train songs: 4" in done.out  # embedded again
    fingerprint = detector_fingerprint(trained)
    assert read_fusion(trained.fusion).listening == InferenceConfig(detector=fingerprint)
    assert read_store(trained.store("aam", "test")).made_from["activity"] == fingerprint
    assert command("predict", *output, *there).code == 0

    put_detector(trained, 1.0)
    assert f"fitted with voice detector {fingerprint}" in refused("predict", *output, *there)
    shutil.rmtree(trained.detector)
    assert "which is now none" in refused("predict", *output, *there)


def _short(self: Any, epochs: int = 1, steps: int = 1, seed: int = 0) -> None:
    """A plan of one batch, whatever the command asks for."""
    del epochs
    for name, value in (("epochs", 1), ("steps", steps), ("seed", seed)):
        object.__setattr__(self, name, value)


def test_files_without_voice_are_named_and_heard_as_a_whole(
    command: Command, trained: Run, songs: Path, tmp_path: Path, put_detector: Put
) -> None:
    there = ("--run_dir", trained.root, "--test_dir", songs, "--output")
    assert command("predict", *there, tmp_path / "plain.csv").code == 0
    assert not (tmp_path / "plain.csv.notes.csv").exists()
    assert read_table(tmp_path / "plain.npz").voice is None
    put_detector(trained, -20.0)
    assert command("fuse", "--run_dir", trained.root).code == 0
    done = command("predict", *there, tmp_path / "deaf.csv")
    notes = tmp_path / "deaf.csv.notes.csv"
    assert f"wrote {notes}: what is to be known of 4 answers" in done.out.splitlines()
    said = [f"{number},no voice was found: the whole recording is used" for number in (1, 2, 3, 4)]
    assert notes.read_text("utf-8").splitlines() == ["ID,note", *said]
    voice = read_table(tmp_path / "deaf.npz").voice
    assert voice is not None
    assert voice.tolist() == [0] * 4
    plain, deaf = (log_probabilities(tmp_path / f"{name}.npz") for name in ("plain", "deaf"))
    assert np.array_equal(plain, deaf)
    assert (tmp_path / "plain.csv").read_bytes() == (tmp_path / "deaf.csv").read_bytes()


def test_where_all_is_sung_nothing_changes(
    command: Command, trained: Run, songs: Path, tmp_path: Path, put_detector: Put
) -> None:
    there = ("--run_dir", trained.root, "--test_dir", songs, "--output")
    assert command("predict", *there, tmp_path / "plain.csv").code == 0
    put_detector(trained, 20.0)
    assert command("fuse", "--run_dir", trained.root).code == 0
    assert command("predict", *there, tmp_path / "sung.csv").code == 0
    assert not (tmp_path / "sung.csv.notes.csv").exists()
    plain, sung = (log_probabilities(tmp_path / f"{name}.npz") for name in ("plain", "sung"))
    assert np.array_equal(plain, sung)


def test_predict_hears_as_the_fusion_heard(
    command: Command, trained: Run, songs: Path, tmp_path: Path, put_detector: Put
) -> None:
    """The test songs as files get the answers that `fuse` gave them, on its grid."""
    put_detector(trained, 0.0)
    there = ("--run_dir", trained.root)
    before = log_probabilities(trained.predictions / "test.npz")
    asked = ("--segment_s", 1.5, "--hop_s", 0.75, "--tta", 3)
    done = command("fuse", *asked, *there)
    assert (done.code, done.err) == (0, "")
    listening = read_fusion(trained.fusion).listening
    assert listening == InferenceConfig(1.5, 0.75, 3, detector_fingerprint(trained))
    store = read_store(trained.store("triplet", "validation"))
    assert store.made_from["grid"] == "1.5 s every 0.75 s and 3 more"
    assert np.bincount(store.segment_song).tolist() == [7 + 3] * 4  # of 6 s
    assert 0 < store.segment_weight.mean() < 1
    wanted = log_probabilities(trained.predictions / "test.npz")
    assert not np.allclose(wanted, before, atol=1e-3)
    for batch_size in (1, 3):
        output = tmp_path / f"{batch_size}.csv"
        words = ("--test_dir", songs, "--output", output, "--batch_size", batch_size)
        assert command("predict", *words, *there).code == 0
        assert np.array_equal(log_probabilities(output.with_suffix(".npz")), wanted)
    assert "embedding" not in command("fuse", *asked, *there).out
    assert "aam: train songs: 4" in command("fuse", *there).out  # back to the members' own grid
    assert read_fusion(trained.fusion).listening.segment_s is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--segment_s", "0.2"], "--segment_s 0.2 is not legal; it must be a number from 0.5 to"),
        (["--hop_s", "0"], "--hop_s 0 is not legal; it must be a number from 0.1 to 30"),
        (["--tta", "-1"], "--tta -1 is not legal; it must be from 0 to 1000"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(
    words: list[str], expected: str, refused: Command, trained: Run
) -> None:
    before = trained.fusion.read_bytes()
    assert expected in refused("fuse", *words, "--run_dir", trained.root)
    assert trained.fusion.read_bytes() == before


def test_a_run_without_stems_or_with_a_broken_detector_is_one_line(
    command: Command, refused: Command, trained: Run, synthesised: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    done = command("prepare", "--data_dir", synthesised / "mix", "--run_dir", bare)
    assert done.code == 0
    line = refused("train-detector", "--run_dir", bare)
    assert "has both a vocal and a backing stem" in line
    assert "python app.py prepare" in line
    assert "--stems_dir STEMS" in line
    assert not (bare / "detector").exists()
    trained.detector.mkdir()
    trained.detector_weights.write_bytes(b"no weights")
    line = refused("fuse", "--run_dir", trained.root)
    assert "is not a readable voice detector" in line
    assert "python app.py train-detector --overwrite" in line
