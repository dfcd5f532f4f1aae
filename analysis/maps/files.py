"""A finished map on disk: what new points are placed by, and what need not be fitted again.

Enters: unit embeddings and their positions. Leaves: `FittedMap` in one `.npz` without pickle, with
a fingerprint of what it was fitted to.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.maps.fit import EXACT, Tell, fit_maps, place
from embedder.artifacts import fingerprint, replacing
from ensemble.index.members import as_unit, halves

MAP_FORMAT = 1  # of the file, and of how maps are fitted: another number is fitted again


@dataclass(frozen=True, eq=False)
class FittedMap:
    """Embeddings and where they lie on the maps of a few perplexities."""

    vectors: NDArray[np.float32]  # (n, dim), unit length
    perplexities: tuple[float, ...]
    points: NDArray[np.float64]  # (perplexities, n, 2), the middle of each map at 0

    def place(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Where new unit vectors (m, dim) lie on each map: (perplexities, m, 2)."""
        if not len(vectors):
            return np.zeros((len(self.points), 0, 2))
        return np.stack([place(self.vectors, points, vectors) for points in self.points])


def finished_map(
    path: Path,
    vectors: NDArray[np.float32],
    perplexities: Sequence[float],
    seed: int,
    tell: Tell = lambda _: None,
) -> FittedMap:
    """The map of unit vectors (n, dim) that lies at `path`; if that is another, a new one there.

    The embeddings of more than `EXACT` points are kept in half precision. `tell` hears how far a
    fit is.
    """
    settings = f"{MAP_FORMAT} {seed} {tuple(perplexities)} {vectors.shape}"
    made_from = fingerprint(settings, np.ascontiguousarray(vectors).tobytes())
    found = read_map(path, made_from)
    if found is None:
        points = fit_maps(vectors, perplexities, seed, tell)
        kept = vectors if len(vectors) <= EXACT else halves(vectors)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                made_from=np.array(made_from),
                perplexities=np.array(perplexities),
                vectors=kept,
                points=points.astype(np.float32),
            )
        found = read_map(path, made_from)
    if found is None:
        raise OSError(f"{path} was written and cannot be read")
    return found


def read_map(path: Path, made_from: str | None = None) -> FittedMap | None:
    """The map at `path`; None if there is none, or one of other things, or none that is whole.

    Without `made_from` it is taken whatever it was fitted to.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            if made_from is not None and str(file["made_from"]) != made_from:
                return None
            kept = file["vectors"]
            return FittedMap(
                as_unit(kept) if kept.dtype == np.float16 else kept,
                tuple(float(one) for one in file["perplexities"]),
                file["points"].astype(np.float64),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
