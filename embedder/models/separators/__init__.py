"""The separators: from a key of `SEPARATORS` to what splits songs at 16 kHz into their stems."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from embedder.errors import UserError, did_you_mean
from embedder.run import Run

if TYPE_CHECKING:
    import torch

    from embedder.models.separators.song_separator import SongSeparator


def _hdemucs(run: Run, weights: Path | None, device: torch.device) -> SongSeparator:  # noqa: ARG001
    from embedder.models.separators.hdemucs import load_hdemucs

    return load_hdemucs(weights, device)


def _umx(run: Run, weights: Path | None, device: torch.device) -> SongSeparator:  # noqa: ARG001
    from embedder.models.separators.umx import load_umx

    return load_umx(weights, device)


def _spleeter(run: Run, weights: Path | None, device: torch.device) -> SongSeparator:  # noqa: ARG001
    from embedder.models.separators.spleeter import load_spleeter

    return load_spleeter(weights, device)


def _own(run: Run, weights: Path | None, device: torch.device) -> SongSeparator:
    from embedder.models.separators.own import load_own

    return load_own(run, weights, device)


SEPARATORS: dict[str, Callable[[Run, Path | None, torch.device], SongSeparator]] = {
    "spleeter": _spleeter,
    "hdemucs": _hdemucs,
    "umx": _umx,
    "own": _own,
}


def open_separator(
    method: str, run: Run, weights: Path | None, device: torch.device
) -> SongSeparator:
    """A separator, ready to split.

    Raises:
        UserError: no such method, no weights, or weights that do not fit.
    """
    if method not in SEPARATORS:
        raise UserError(
            f"--method {method}{did_you_mean(method, SEPARATORS)} is not legal; "
            f"it must be {' | '.join(SEPARATORS)}"
        )
    if weights is not None and not weights.exists():
        raise UserError(f"--weights {weights} does not exist")
    return SEPARATORS[method](run, weights, device)
