"""How long an index takes to build and to search, how much memory it needs, and what it finds.

It is measured on synthetic segment embeddings, clustered like what a member makes of songs. Each
kind is built and searched in processes of its own, so that the memory of one does not count for
another.

An embedding is √0.10·c + √0.50·s + √0.16·g + √0.24·e, of unit length again: one direction c common
to all, one for each singer, one for each song, one for each segment. Two segments of a song then
have a cosine of 0.76 on average, two songs of a singer 0.60, two singers 0.10: what an ECAPA member
gave for segments of its training songs (0.76, 0.60 and 0.10; 8,506 segments of 400 songs).
Directions have variances that fall as 1/i along the axes, so that singers crowd in few dimensions
(some 20 of 192 by the participation ratio), as embeddings do.
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
from numpy.typing import NDArray

from embedder.artifact import replacing
from ensemble.index.vectors import (
    Floats,
    build_vectors,
    read_vectors,
    share_found,
    write_vectors,
)

SHARES = {"all": 0.10, "singer": 0.50, "song": 0.16, "segment": 0.24}  # they add up to 1
SONGS = 20  # of a singer
SEGMENTS = 16  # of a song

K = 10  # neighbours that are searched
BATCH = 1000  # queries handed to faiss at a time: with enough of them, "flat" multiplies with BLAS
MB = 1e6


@dataclass(frozen=True)
class IndexCost:
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
) -> Iterator[IndexCost]:
    """Measure each kind on `count` synthetic vectors; the files stay in the folder.

    The exact answers come from a flat index, which is built first and measured if it is asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vector_file, query_file = folder / "vectors.npy", folder / "queries.npy"
    for path, rows in (
        (vector_file, synthetic_segments(count, dim, seed)),
        (query_file, synthetic_queries(queries, count, dim, seed)),
    ):
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, rows)
    exact = None
    for kind in dict.fromkeys(("flat", *kinds)):
        path = folder / f"{kind}.faiss"
        build_s, build_mb = in_own_process(_build, vector_file, path, kind, seed)
        search_s, query_mb, found = in_own_process(_search, path, query_file)
        exact = found if exact is None else exact
        if kind in kinds:
            yield IndexCost(
                kind=kind,
                build_s=build_s,
                build_mb=build_mb,
                disk_mb=path.stat().st_size / MB,
                queries_per_s=queries / search_s,
                query_mb=query_mb,
                recall=share_found(exact, found),
            )


def synthetic_segments(count: int, dim: int, seed: int) -> Floats:
    """Unit vectors (count, dim), singer by singer and song by song."""
    rows = np.empty((count, dim), np.float32)
    for singer, start in enumerate(range(0, count, SONGS * SEGMENTS)):
        part = rows[start : start + SONGS * SEGMENTS]
        rng = np.random.default_rng([seed, 0, singer])
        songs = directions(SONGS, dim, rng).repeat(SEGMENTS, axis=0)
        part[:] = _segments(singer, songs[: len(part)], seed, rng)
    return rows


def synthetic_queries(count: int, among: int, dim: int, seed: int) -> Floats:
    """Segments (count, dim) of new songs by the singers of the first `among` segments."""
    rng = np.random.default_rng([seed, 1])
    singers = rng.integers(-(-among // (SONGS * SEGMENTS)), size=count)
    return np.concatenate(
        [_segments(int(singer), directions(1, dim, rng), seed, rng) for singer in singers]
    )


def directions(count: int, dim: int, rng: np.random.Generator) -> Floats:
    """Random unit vectors (count, dim), whose variance falls from axis to axis."""
    rows = rng.standard_normal((count, dim), dtype=np.float32)
    rows /= np.sqrt(np.arange(1, dim + 1, dtype=np.float32))
    return _unit(rows)


def _segments(singer: int, songs: Floats, seed: int, rng: np.random.Generator) -> Floats:
    """Segments (n, dim) of a singer, each of the song of that direction (n, dim)."""
    count, dim = songs.shape
    parts = {
        "all": directions(1, dim, np.random.default_rng([seed, 2])),
        "singer": directions(1, dim, np.random.default_rng([seed, 3, singer])),
        "song": songs,
        "segment": directions(count, dim, rng),
    }
    mixed = sum(np.float32(SHARES[name] ** 0.5) * part for name, part in parts.items())
    return _unit(np.asarray(mixed))


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _build(vectors: Path, path: Path, kind: str, seed: int) -> tuple[float, float]:
    """Seconds and MB that building takes."""
    rows = np.load(vectors)
    started = time.perf_counter()
    built = build_vectors(rows, kind, seed)
    seconds = time.perf_counter() - started
    write_vectors(path, built)
    return seconds, peak_mb()


def _search(path: Path, query_file: Path) -> tuple[float, float, NDArray[np.int64]]:
    """Seconds of the second of two passes over the queries, MB, and rows found (queries, k)."""
    queries, index = np.load(query_file), read_vectors(path)
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


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(function, *arguments).result()
