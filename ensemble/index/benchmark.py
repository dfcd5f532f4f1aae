"""How long an index takes to build and to search, how much memory it needs, and what it finds.

Enters: a number of made-up vectors and the kinds of index. Leaves: a row for each kind, and in a
folder the vectors and the indexes. Each kind is built and searched in processes of its own, so that
the memory of one does not count for another.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from embedder.artifacts import replacing
from ensemble.index.madeup import made_up_queries, made_up_segments
from ensemble.index.vectors import build_vectors, read_vectors, write_vectors

K = 10  # neighbours that are asked for
BATCH = 1000  # queries handed to faiss at a time: with enough of them, "flat" multiplies with BLAS
MB = 1e6


@dataclass(frozen=True)
class Measured:
    """What one kind of index costs and gives."""

    kind: str
    build_s: float
    build_mb: float  # most resident memory while building, vectors and program included
    disk_mb: float
    queries_per_s: float  # warm: a first pass has brought the pages into memory
    query_mb: float  # most resident memory while searching, program included
    recall: float  # recall@10 against exact search, 0 to 1


def benchmark(
    folder: Path, count: int, dim: int, queries: int, kinds: Sequence[str], seed: int
) -> Iterator[Measured]:
    """Measure each kind on `count` made-up vectors; the files stay in the folder.

    The exact answers come from a flat index, which is built first and measured if it is asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vectors, asked = folder / "vectors.npy", folder / "queries.npy"
    with replacing(vectors) as temporary:
        rows = open_memmap(temporary, mode="w+", dtype=np.float32, shape=(count, dim))
        start = 0
        for block in made_up_segments(count, dim, seed):
            rows[start : start + len(block)] = block
            start += len(block)
        rows.flush()
    with replacing(asked) as temporary, temporary.open("wb") as file:
        np.save(file, made_up_queries(queries, count, dim, seed))
    truth = None
    for kind in dict.fromkeys(("flat", *kinds)):
        path = folder / f"{kind}.faiss"
        build_s, build_mb = alone(_build, vectors, path, kind, seed)
        search_s, query_mb, found = alone(_search, path, asked)
        truth = found if truth is None else truth
        if kind in kinds:
            yield Measured(
                kind=kind,
                build_s=build_s,
                build_mb=build_mb,
                disk_mb=path.stat().st_size / MB,
                queries_per_s=queries / search_s,
                query_mb=query_mb,
                recall=shared(truth, found),
            )


def shared(truth: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Share of the true neighbours (queries, k) that are among those found."""
    hits = [len(np.intersect1d(one, other)) for one, other in zip(truth, found, strict=True)]
    return float(np.sum(hits) / truth.size)


def _build(vectors: Path, path: Path, kind: str, seed: int) -> tuple[float, float]:
    """Seconds and MB that building takes."""
    rows = np.load(vectors)
    started = time.perf_counter()
    built = build_vectors(rows, kind, seed)
    seconds = time.perf_counter() - started
    write_vectors(path, built)
    return seconds, peak_mb()


def _search(path: Path, asked: Path) -> tuple[float, float, NDArray[np.int64]]:
    """Seconds of the second of two passes over the queries, MB, and rows found (queries, k)."""
    queries = np.load(asked)
    index = read_vectors(path)
    seconds, parts = 0.0, []
    for _ in range(2):
        started = time.perf_counter()
        parts = [
            index.search(queries[start : start + BATCH], K)[1]
            for start in range(0, len(queries), BATCH)
        ]
        seconds = time.perf_counter() - started
    return seconds, peak_mb(), np.concatenate(parts)


def peak_mb() -> float:
    """The most memory that this process has had resident, in MB.

    Linux's ru_maxrss is no answer: a new process begins with that of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="utf-8").splitlines()
        (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
        return int(kilobytes) * 1024 / MB
    if sys.platform == "win32":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB  # macOS counts bytes


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(function, *arguments).result()
