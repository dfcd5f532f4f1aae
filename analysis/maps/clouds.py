"""What is mapped: the songs or the segments of a member, or of all members together.

Enters: members' stores. Leaves: `Cloud`, unit vectors with the song that each belongs to. Members
together are their unit embeddings one after the other, each divided by the root of their number:
the cosine of two such vectors is the mean of the members' cosines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store

LEVELS = ("song", "segment")


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one level."""

    vectors: NDArray[np.float32]  # (points, dim), unit length
    songs: NDArray[np.int64]  # (points,), row of the song, of all stores one after the other
    starts_s: NDArray[np.float64] | None  # (points,), start of the segment; None at song level
    total: int  # points there were before some were taken


Take = Callable[[NDArray[np.int64]], NDArray[np.int64]]  # songs of all points → rows to take


def cloud(stores: Sequence[Store], level: str, take: Take) -> Cloud:
    """The points of one member's stores, in their order, that `take` takes."""
    firsts = np.cumsum([0, *(len(store.song_ids) for store in stores)])
    if level == "song":
        songs = np.arange(firsts[-1])
        parts = [store.embeddings for store in stores]
    else:
        pairs = zip(stores, firsts, strict=False)
        songs = np.concatenate([store.segment_song + first for store, first in pairs])
        parts = [store.segment_embeddings for store in stores]
    rows = take(songs)
    ends = np.cumsum([0, *map(len, parts)])
    vectors = np.concatenate(
        [
            part[rows[(rows >= low) & (rows < high)] - low]
            for part, low, high in zip(parts, ends, ends[1:], strict=False)
        ]
    )
    starts = None
    if level == "segment":
        starts = np.concatenate([store.segment_start_s for store in stores])[rows].astype(float)
    return Cloud(vectors, songs[rows], starts, len(songs))


def together(clouds: Iterable[Cloud]) -> Cloud | None:
    """Members' points as one; None where their segments do not lie at the same places."""
    first, columns = None, []
    for one in clouds:
        first = first or one
        if not same_places(first, one):
            return None
        columns.append(one.vectors)
    if first is None:
        raise ValueError("need the points of a member")
    joined = np.concatenate(columns, axis=1) / np.float32(len(columns) ** 0.5)
    return Cloud(joined, first.songs, first.starts_s, first.total)


def same_places(one: Cloud, other: Cloud) -> bool:
    """Whether two members' points are the same songs, or the same segments of them."""
    if one.total != other.total or not np.array_equal(one.songs, other.songs):
        return False
    if one.starts_s is None or other.starts_s is None:
        return one.starts_s is other.starts_s
    return bool(np.allclose(one.starts_s, other.starts_s, atol=1e-3))


def stratified(groups: NDArray[np.int64], cap: int, seed: int) -> NDArray[np.int64]:
    """At most `cap` row numbers, ascending, with as equal a share for each group as can be.

    `groups` (rows,) numbers each row's group. A group smaller than its share gives all its rows and
    leaves the rest to the others; within a group the rows are spread evenly over their order.
    Raises `ValueError` if `cap` is below 1.
    """
    if cap < 1:
        raise ValueError(f"cap must be at least 1, not {cap}")
    if len(groups) <= cap:
        return np.arange(len(groups))
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    share = max(s for s in range(int(sizes.max()) + 1) if np.minimum(sizes, s).sum() <= cap)
    quota = np.minimum(sizes, share)
    larger = np.flatnonzero(sizes > share)
    extra = np.random.default_rng(seed).permutation(larger)[: cap - int(quota.sum())]
    quota[extra] += 1
    order = np.argsort(number, kind="stable")
    ends = np.cumsum(sizes)
    chosen = [
        order[end - size + (2 * np.arange(count) + 1) * size // (2 * count)]
        for end, size, count in zip(ends, sizes, quota, strict=True)
        if count
    ]
    return np.sort(np.concatenate(chosen))
