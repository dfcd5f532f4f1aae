"""The separators that there are.

Enters: a key, a run folder, a file of weights where it is not the usual one. Leaves: a separator
that splits songs at 16 kHz into vocals and backing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from embedder.artifacts import Run
from embedder.errors import UserError, did_you_mean
from embedder.model.hdemucs import load_hdemucs
from embedder.model.own import load_own
from embedder.model.separation import SongSeparator
from embedder.model.umx import load_umx

Load = Callable[[Run, Path | None, torch.device], SongSeparator]

SEPARATORS: dict[str, Load] = {
    "hdemucs": lambda _, weights, device: load_hdemucs(weights, device),
    "umx": lambda _, weights, device: load_umx(weights, device),
    "own": load_own,
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
