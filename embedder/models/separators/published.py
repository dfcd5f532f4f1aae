"""Weights that others have published: found where their libraries keep them, or fetched.

Nothing that a file holds is ever executed.
"""

from __future__ import annotations

import pickle
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from embedder.errors import UserError

PATIENCE_S = 10.0  # without an answer for this long, the network counts as unreachable


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
