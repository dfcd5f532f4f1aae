"""Unit vectors that can be searched: FAISS behind one small class; nothing here knows of songs.

Enters: unit vectors `(n, dim)`, float32. Leaves: `Vectors`, which finds the most similar of them,
and the file that keeps it. "flat" compares with all vectors and is exact; "ivfpq" and "hnsw" are
approximate, and `recall` says how close they come.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts import replacing
from embedder.inference.store import UNIT_TOLERANCE
from ensemble.index.kinds import CLASSES, KINDS, LEAST, Floats, faiss

__all__ = ["KINDS", "Floats", "Vectors", "build_vectors", "read_vectors", "recall", "write_vectors"]

TIE = 1e-5  # cosine; far more than the rounding by which two runs of one inner product differ


@dataclass(frozen=True, eq=False)
class Vectors:
    """Unit vectors in the order in which they were given, ready to be searched."""

    kind: str  # one of `KINDS`
    index: Any  # a faiss index whose metric is the inner product

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def dim(self) -> int:
        return int(self.index.d)

    def search(
        self, queries: Floats, k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The k most similar vectors (all, if there are fewer) of unit queries (q, dim).

        `among`: the rows (n,) that may be found, each once; None for all.

        Leaves their cosines (q, k') and rows (q, k'), best first, equal ones in row order; "flat"
        takes the first rows also of those that are equal across the k-th place. The queries go to
        faiss together: with hundreds of them it takes BLAS, which rounds otherwise by some 1e-7.
        Raises `ValueError` for another dimension or a k below 1.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries {queries.shape}, but the index has {self.dim} dim")
        if k < 1:
            raise ValueError(f"k must be 1 or more, not {k}")
        asked = np.ascontiguousarray(queries, dtype=np.float32)
        there = len(self) if among is None else len(among)
        k = min(k, there)
        if k == 0:
            return np.zeros((len(asked), 0)), np.zeros((len(asked), 0), np.int64)
        more = min(k + 1, there) if self.kind == "flat" else k
        near, rows = self.index.search(asked, more, params=self._only(among))
        order = np.lexsort((rows, -near), axis=1)[:, :k]
        similarities = np.take_along_axis(near, order, axis=1).astype(np.float64)
        found = np.take_along_axis(rows, order, axis=1).astype(np.int64)
        if more > k:
            for query in np.flatnonzero(near[:, k] == near[:, k - 1]):
                similarities[query], found[query] = self._first_of_equal(asked[query], k, among)
        for query in np.flatnonzero((found < 0).any(axis=1)):
            similarities[query], found[query] = self._exhaustive(asked[query], k, among)
        return similarities, found

    def _only(self, among: NDArray[np.int64] | None, exact: bool = False) -> Any | None:
        """What tells faiss to find no other rows."""
        if among is None:
            return None
        chosen = faiss.IDSelectorBatch(among)
        if self.kind == "flat" or exact:
            return faiss.SearchParameters(sel=chosen)
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(sel=chosen, efSearch=self.index.hnsw.efSearch)
        probed = faiss.downcast_index(faiss.extract_index_ivf(self.index)).nprobe
        base = faiss.SearchParametersIVF(sel=chosen, nprobe=probed)
        factor = self.index.k_factor
        return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=base)

    def _first_of_equal(
        self, query: Floats, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The k best of one query (dim,), where others are as similar as the k-th."""
        only = self._only(among)
        near, _ = self.index.search(query[None], k, params=only)
        least = float(near[0, -1]) - TIE
        _, near, rows = self.index.range_search(query[None], least, params=only)
        order = np.lexsort((rows, -near))[:k]
        return near[order].astype(np.float64), rows[order]

    def _exhaustive(
        self, query: Floats, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The k best of one query (dim,) among all vectors: the approximate way found too few."""
        stored = self.index.storage if self.kind == "hnsw" else self.index.refine_index
        only = self._only(among, exact=True)
        near, rows = faiss.downcast_index(stored).search(query[None], k, params=only)
        order = np.lexsort((rows[0], -near[0]))
        return near[0][order].astype(np.float64), rows[0][order]


def build_vectors(vectors: Floats, kind: str = "flat", seed: int = 0) -> Vectors:
    """Index unit vectors (n, dim); the same vectors, kind and seed give the same index.

    Raises `ValueError` for another kind, where there is no vector or one is not of unit length, and
    where there are too few for the kind.
    """
    if kind not in KINDS:
        raise ValueError(f"an index is one of {', '.join(KINDS)}, not {kind!r}")
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(f"need (n ≥ 1, dim ≥ 1) vectors, not {vectors.shape}")
    if len(vectors) < LEAST[kind]:
        raise ValueError(f"{kind} needs at least {LEAST[kind]} vectors, not {len(vectors)}")
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    if not np.abs(lengths - 1).max() <= UNIT_TOLERANCE:
        raise ValueError("vectors must be of unit length")
    return Vectors(kind, KINDS[kind](rows, seed))


def recall(approximate: Vectors, exact_vectors: Floats, queries: Floats, k: int = 10) -> float:
    """Share of each query's k most similar vectors that `approximate` finds, 0 to 1: recall@k.

    `exact_vectors` (n, dim) are those it was built from; queries (q ≥ 1, dim) are unit vectors.
    """
    if len(queries) == 0:
        raise ValueError("recall needs a query")
    _, truth = build_vectors(exact_vectors).search(queries, k)
    _, found = approximate.search(queries, k)
    hits = [len(np.intersect1d(one, other)) for one, other in zip(truth, found, strict=True)]
    return float(np.mean(hits) / truth.shape[1])


def threads() -> int:
    """How many threads faiss uses: the cores, or OMP_NUM_THREADS."""
    return int(faiss.omp_get_max_threads())


def write_vectors(path: Path, vectors: Vectors) -> None:
    """Write the faiss index, atomically."""
    # Through Python's file: on some systems faiss itself opens no path with other letters.
    with replacing(path) as temporary, temporary.open("wb") as file:
        faiss.write_index(vectors.index, faiss.PyCallbackIOWriter(file.write))


def read_vectors(path: Path, memory_map: bool = True) -> Vectors:
    """Read what `write_vectors` wrote; with `memory_map` pages are read when a search needs them.

    Raises `OSError` if the file cannot be opened, `ValueError` if it holds no such index.
    """
    with path.open("rb") as file:
        try:
            index = _mapped(path) if memory_map else None
            if index is None:
                index = faiss.read_index(faiss.PyCallbackIOReader(file.read))
        except RuntimeError as error:
            raise ValueError(f"{path} is no index of vectors: {error}") from None
    name = type(index).__name__
    if name not in CLASSES or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ValueError(f"{path} holds another index than {', '.join(KINDS)}: {name}")
    return Vectors(CLASSES[name], index)


def _mapped(path: Path) -> Any | None:
    """The index over the file's pages; None where the system or its file names do not allow it."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError:
        return None
