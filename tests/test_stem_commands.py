"""`separate` as its users meet it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from openunmix.model import OpenUnmix

import app
from embedder.catalogue import read_catalogue
from embedder.cli.songs import FOLDER, METHODS
from embedder.data.cache import AudioCache
from embedder.data.prepare import prepare
from embedder.models.separators import SEPARATORS
from embedder.run import Run, create_run
from ensemble.predictions import read_table

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`command("--method", "umx")` → exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = app.main(["separate", *map(str, words), "--run_dir", str(tmp_path / "run")])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def run(synthesised: Path, tmp_path: Path) -> Run:
    run = create_run(tmp_path / "run")
    prepare(run, synthesised / "mix", "album")
    return run


def some_weights(folder: Path) -> Path:
    torch.manual_seed(0)
    torch.save(OpenUnmix(nb_bins=513, hidden_size=8).state_dict(), folder / "vocals.pth")
    return folder / "vocals.pth"


def test_the_methods_in_the_help_are_those_of_the_dict() -> None:
    assert " | ".join((*SEPARATORS, FOLDER)) == METHODS


def test_a_separator_splits_a_run_and_the_next_command_is_named(
    run: Run, command: Command, tmp_path: Path
) -> None:
    words = ("--method", "umx", "--weights", some_weights(tmp_path), "--device", "cpu")
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert "separating: 12 in" in out
    assert "stems: vocals of 12, backing of 12 songs" in out
    assert f"next: python app.py train-embedder --stem vocals --run_dir {run.root}" in out
    before = run.catalogue.read_bytes()
    assert all(song.vocals for song in read_catalogue(run.catalogue).songs)
    code, out, _ = command(*words)
    assert code == 0
    assert "separating: 0 in" in out
    assert run.catalogue.read_bytes() == before


def test_files_are_separated_for_members_that_listen_to_vocals(
    run: Run,
    command: Command,
    tmp_path: Path,
    tiny_options: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The same answers as from the stems that the separator made before."""
    weights = some_weights(tmp_path)
    assert command("--method", "umx", "--weights", weights, "--device", "cpu")[0] == 0

    def call(*words: object) -> str:
        code = app.main([*map(str, words), "--device", "cpu", "--run_dir", str(run.root)])
        printed = capfd.readouterr()
        assert code == 0, printed.err
        return printed.out

    call("train-embedder", "--name", "mix", *tiny_options)
    call("train-embedder", "--name", "vox", "--stem", "vocals", *tiny_options)
    call("fuse")
    test_dir, stems = tmp_path / "test", tmp_path / "stems"
    cache = AudioCache(run.cache)
    for song in read_catalogue(run.catalogue).of("test"):
        for folder, key in ((test_dir, song.audio), (stems / "vocals", song.vocals)):
            folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / f"{song.singer}.flac", cache.samples(key), 16000)
    said = call("predict", "--test_dir", test_dir, "--output", tmp_path / "a.csv")
    assert "vocals are separated from the files with umx\n" in said
    assert "stay silent" not in said
    given = ("--stems_dir", stems, "--output", tmp_path / "b.csv")
    assert "are separated" not in call("predict", "--test_dir", test_dir, *given)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    one, other = (read_table(tmp_path / f"{name}.npz") for name in "ab")
    for expert, scores in one.experts.items():
        np.testing.assert_array_equal(scores, other.experts[expert])
    assert any(expert.startswith("vox") for expert in one.experts)
    only = ("--members", "mix", "--output", tmp_path / "c.csv")
    assert "are separated" not in call("predict", "--test_dir", test_dir, *only)
    weights.unlink()
    assert app.main(["predict", "--test_dir", str(test_dir), "--run_dir", str(run.root)]) == 2
    assert f"--weights {weights} does not exist" in capfd.readouterr().err


def test_a_folder_of_stems_is_read(run: Run, command: Command, synthesised: Path) -> None:
    backing = read_catalogue(run.catalogue).songs[0].id
    code, out, err = command("--method", "folder", "--stems-dir", synthesised)
    assert (code, err) == (0, "")
    assert "stems: vocals of 12, backing of 12 songs" in out
    assert backing not in out  # no song is complained of
    code, _, err = command("--method", "folder", "--stems_dir", synthesised / "vocals")
    assert code == 2
    assert "12 of 12 songs have stems already" in err


def test_without_weights_one_line_says_what_to_do(
    run: Run, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    for method, file in (
        ("hdemucs", "torchaudio/models/hdemucs_high_trained.pt"),
        ("umx", "checkpoints/vocals-bccbd9aa.pth"),
    ):
        code, _, err = command("--method", method, "--device", "cpu")
        assert code == 2
        assert err.count("\n") == 1
        assert f"put that file at {tmp_path}/torch/hub/{file}, or name another copy" in err
    assert not run.stems.exists()


def test_options_that_do_not_go_together_are_refused(command: Command, tmp_path: Path) -> None:
    for words, line in [
        (("--method", "fast"), f"--method fast is not legal; it must be {METHODS}"),
        (("--method", "folder"), "--method folder needs --stems_dir"),
        (("--method", "umx", "--stems_dir", tmp_path), "--method umx takes no --stems_dir"),
        (
            ("--method", "folder", "--stems_dir", tmp_path, "--weights", tmp_path),
            "--method folder takes no --weights",
        ),
        (("--method", "umx"), f"no run folder at {tmp_path / 'run'}"),
    ]:
        code, _, err = command(*words)
        assert code == 2
        assert err.startswith(f"error: {line}")
        assert err.count("\n") == 1
