"""Unit vectors that can be searched: FAISS behind one small class. Nothing here knows of songs.

"flat" compares a query with all vectors and is exact; "ivfpq" and "hnsw" are approximate, and
`recall` says how close they come. `cached_vectors` keeps an index in a file that is named after
what it was made from, so that a file which is there fits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np
from numpy.typing import NDArray

from embedder.artifact import replacing
from embedder.inference.store import UNIT_TOLERANCE

# Its type stubs lack what is used here of the index classes.
faiss: Any = typed_faiss
Floats = NDArray[np.float32]

BUILT_AS = 2  # raised whenever a number below or a builder changes: older files are built again
TIE = 1e-5  # cosine; far more than the rounding by which two runs of one inner product differ

# IVF-PQ: an inverted file of product-quantised residuals, whose candidates are compared again with
# their vectors in half precision (Jégou et al. 2011).
POINTS_PER_CENTROID = 39  # fewer, and faiss itself calls the centroids badly trained
MAX_POINTS = 64  # training points a list: faiss itself would take 256, in four times the time
CODES = 256  # centroids of a sub-quantiser: 8 bits
# recall@10 of a million vectors of `benchmark-index`: 0.907 with 4, 0.977 with 8, 0.990 with 16,
# 0.992 with 32 candidates; with 16 and 8 lists 0.976, with 128 lists 0.995 at half the speed.
PROBED = 32  # lists that are looked into
REFINED = 16  # candidates compared again, times k

# A graph in which each vector is linked to near ones, HNSW (Malkov & Yashunin 2018). 100,000
# vectors: recall@10 with 40, 80 and 160 while building 0.994, 0.999 and 1.000. A million: with 32,
# 64, 128 and 256 while searching 0.933, 0.968, 0.988 and 0.991.
LINKS = 32  # M: of a vector; twice as many on the lowest level
EF_CONSTRUCTION = 80  # candidates kept while a vector is linked
EF_SEARCH = 128  # candidates kept while one is looked for


def _flat(vectors: Floats, _: int) -> Any:
    index = _from_factory(vectors, "Flat")
    index.add(vectors)
    return index


def _ivfpq(vectors: Floats, seed: int) -> Any:
    count, dim = vectors.shape
    lists = min(round(4 * count**0.5), count // POINTS_PER_CENTROID)
    parts = max(m for m in range(1, max(1, dim // 4) + 1) if dim % m == 0)
    index = _from_factory(vectors, f"IVF{lists},PQ{parts}x8,Refine(SQfp16)")
    index.k_factor = REFINED
    ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    ivf.do_polysemous_training = False  # orders codes for a filter that is not used here
    ivf.nprobe = min(PROBED, lists)
    ivf.cp.seed = ivf.pq.cp.seed = seed + 1
    points = min(count, max(MAX_POINTS * lists, 256 * CODES))
    chosen = np.random.default_rng(seed).choice(count, points, replace=False)
    index.train(vectors[np.sort(chosen)])
    index.add(vectors)
    return index


def _hnsw(vectors: Floats, seed: int) -> Any:
    index = _from_factory(vectors, f"HNSW{LINKS}")
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.hnsw.efSearch = EF_SEARCH
    index.hnsw.rng = faiss.RandomGenerator(seed + 1)
    index.add(vectors)  # since faiss 1.15 any number of threads makes the same graph
    return index


def _from_factory(vectors: Floats, description: str) -> Any:
    return faiss.index_factory(vectors.shape[1], description, faiss.METRIC_INNER_PRODUCT)


KINDS: dict[str, Callable[[Floats, int], Any]] = {"flat": _flat, "ivfpq": _ivfpq, "hnsw": _hnsw}
# Vectors that a kind needs: ivfpq learns its codes from them.
MIN_VECTORS = {"flat": 1, "ivfpq": POINTS_PER_CENTROID * CODES, "hnsw": 1}
CLASSES = {
    "IndexFlat": "flat",
    "IndexFlatIP": "flat",
    "IndexRefine": "ivfpq",
    "IndexHNSWFlat": "hnsw",
}


@dataclass(frozen=True, eq=False)
class Vectors:
    """Unit vectors in the order in which they were given, ready to be searched."""

    kind: str  # a key of `KINDS`
    index: Any  # a faiss index whose metric is the inner product

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def dim(self) -> int:
        return int(self.index.d)

    def search(
        self, queries: Floats, k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The k most similar vectors (all, if there are fewer) of each query.

        The queries go to faiss together: with hundreds of them it takes BLAS, which rounds
        otherwise by some 1e-7.

        Args:
            queries: (q, dim), unit length.
            k: 1 or more.
            among: the rows (n,) that may be found, each once; None for all.

        Returns:
            Cosines (q, k') and rows (q, k'), best first, equal ones in row order; "flat" takes the
            first rows also of those that are equal across the k-th place.

        Raises:
            ValueError: another dimension, or a k below 1.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries {queries.shape}, but the index has {self.dim} dim")
        if k < 1:
            raise ValueError(f"k must be 1 or more, not {k}")
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        available = len(self) if among is None else len(among)
        k = min(k, available)
        if k == 0:
            return np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int64)
        searched = min(k + 1, available) if self.kind == "flat" else k
        near, places = self.index.search(queries, searched, params=self._only(among))
        order = np.lexsort((places, -near), axis=1)[:, :k]
        cosines = np.take_along_axis(near, order, axis=1).astype(np.float64)
        rows = np.take_along_axis(places, order, axis=1).astype(np.int64)
        if searched > k:
            for query in np.flatnonzero(near[:, k] == near[:, k - 1]):
                cosines[query], rows[query] = self._first_of_equal(queries[query], k, among)
        for query in np.flatnonzero((rows < 0).any(axis=1)):
            cosines[query], rows[query] = self._exhaustive(queries[query], k, among)
        return cosines, rows

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
        _, near, rows = self.index.range_search(query[None], float(near[0, -1]) - TIE, params=only)
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

    Raises:
        ValueError: another kind, no vector, one that is not of unit length, or too few for the
            kind.
    """
    if kind not in KINDS:
        raise ValueError(f"an index is one of {', '.join(KINDS)}, not {kind!r}")
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(f"need (n ≥ 1, dim ≥ 1) vectors, not {vectors.shape}")
    if len(vectors) < MIN_VECTORS[kind]:
        raise ValueError(f"{kind} needs at least {MIN_VECTORS[kind]} vectors, not {len(vectors)}")
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    if not np.abs(lengths - 1).max() <= UNIT_TOLERANCE:
        raise ValueError("vectors must be of unit length")
    return Vectors(kind, KINDS[kind](rows, seed))


def recall(approximate: Vectors, vectors: Floats, queries: Floats, k: int = 10) -> float:
    """Share of each query's k most similar vectors that an index finds, 0 to 1: recall@k.

    `vectors` (n, dim) are those it was built from; queries (q ≥ 1, dim) are unit vectors.
    """
    if len(queries) == 0:
        raise ValueError("recall needs a query")
    exact = build_vectors(vectors).search(queries, k)[1]
    return share_found(exact, approximate.search(queries, k)[1])


def share_found(exact: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Share of the exact neighbours (queries, k) that are among those found (queries, k)."""
    hits = [len(np.intersect1d(*pair)) for pair in zip(exact, found, strict=True)]
    return float(np.sum(hits) / exact.size)


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

    Raises:
        OSError: the file cannot be opened.
        ValueError: it holds no such index.
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


def cached_vectors(
    path: Path, kind: str, shape: tuple[int, int], vectors: Callable[[], Floats]
) -> tuple[Vectors, Floats | None]:
    """The index in a file, or built and written there, and its vectors if it was built.

    The file's name must say what it is made from. What is no whole index of that kind and shape is
    built again. A folder that cannot be written is no error: the index is built in memory then.

    Args:
        path: the file.
        kind: a key of `KINDS`.
        shape: (n, dim) of the vectors.
        vectors: returns them (n, dim), unit length; called only where they are needed.
    """
    with suppress(OSError, ValueError):
        cached = read_vectors(path)
        if (cached.kind, len(cached), cached.dim) == (kind, *shape):
            return cached, None
    rows = vectors()
    built = build_vectors(rows, kind)
    with suppress(OSError):
        write_vectors(path, built)
        # Searching the file's pages gives the memory back that building took.
        return read_vectors(path), rows
    return built, rows
