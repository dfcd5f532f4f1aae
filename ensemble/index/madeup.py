"""Made-up segment embeddings in any number, for measuring indexes.

Enters: how many, and a seed. Leaves: unit vectors clustered like what a member makes of songs.

A vector is √0.10·c + √0.50·s + √0.16·g + √0.24·e, of unit length again: one direction c common to
all, one for each singer, one for each song, one for each segment. Two segments of a song then have
a cosine of 0.76 on average, two songs of a singer 0.60, two singers 0.10: what an ECAPA member gave
for segments of its training songs (0.76, 0.60 and 0.10; 8,506 segments of 400 songs). Directions
have variances that fall as 1/i along the axes, so that singers crowd in few dimensions (some 20 of
192 by the participation ratio), as embeddings do, and not each in a corner of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SHARES = {"all": 0.10, "singer": 0.50, "song": 0.16, "segment": 0.24}  # they add up to 1
SONGS = 20  # of a singer
SEGMENTS = 16  # of a song
BLOCK = 32  # singers drawn at a time

Floats = NDArray[np.float32]


def made_up_segments(count: int, dim: int, seed: int) -> Iterator[Floats]:
    """Unit vectors (n, dim) in blocks, singer by singer and song by song; `count` together."""
    left = count
    block = 0
    while left > 0:
        rng = np.random.default_rng([seed, 0, block])
        singers = np.arange(block * BLOCK, (block + 1) * BLOCK).repeat(SONGS * SEGMENTS)[:left]
        songs = directions(BLOCK * SONGS, dim, rng).repeat(SEGMENTS, axis=0)[: len(singers)]
        yield _segments(singers, songs, seed, rng)
        left -= len(singers)
        block += 1


def made_up_queries(count: int, among: int, dim: int, seed: int) -> Floats:
    """Segments (count, dim) of new songs by the singers of the first `among` segments."""
    rng = np.random.default_rng([seed, 1])
    singers = rng.integers(-(-among // (SONGS * SEGMENTS)), size=count)
    return _segments(singers, directions(count, dim, rng), seed, rng)


def directions(count: int, dim: int, rng: np.random.Generator) -> Floats:
    """Random unit vectors (count, dim), whose variance falls from axis to axis."""
    rows = rng.standard_normal((count, dim), dtype=np.float32)
    rows /= np.sqrt(np.arange(1, dim + 1, dtype=np.float32))
    return _unit(rows)


def _segments(
    singers: NDArray[np.int64], songs: Floats, seed: int, rng: np.random.Generator
) -> Floats:
    dim = songs.shape[1]
    common = directions(1, dim, np.random.default_rng([seed, 2]))
    names, place = np.unique(singers, return_inverse=True)
    own = np.concatenate(
        [directions(1, dim, np.random.default_rng([seed, 3, int(name)])) for name in names]
    )
    parts = {
        "all": common,
        "singer": own[place],
        "song": songs,
        "segment": directions(len(singers), dim, rng),
    }
    mixed = sum(np.float32(SHARES[name] ** 0.5) * part for name, part in parts.items())
    return _unit(np.asarray(mixed))


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
