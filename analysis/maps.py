"""The maps of a run: which songs or segments are mapped and drawn, of a member and of all together.

Members together are their unit embeddings one after the other, each divided by the root of their
number: the cosine of two such vectors is the mean of the members' cosines. Finished maps lie in the
run's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis.neighbourhoods import HeldOut, Preservation, preservation
from analysis.projections import FittedMap, OnProgress, finished_map, perplexities_for
from analysis.run_data import RunData, Songs
from embedder.inference.store import Store
from embedder.run import SPLITS
from ensemble.results import PlacedFiles

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


MAPPED = 60_000  # points that are mapped at most; more are thinned, evenly over songs
DRAWN = {"song": 5000, "segment": 3000}  # of these, points that are drawn at most
ROOM = 30_000  # points drawn on all maps of a page together, for which there is room
COMPARED = 3000  # points that trustworthiness compares, all with all
EVERYBODY = ""  # stands for all members together
WORK = {"song": 1, "segment": 20}  # how long maps take to fit, of a song's segments about fifty


@dataclass(frozen=True, eq=False)
class NewPoints:
    """Files, or segments of them, on a finished map."""

    points: NDArray[np.float64]  # (perplexities, new, 2)
    files: NDArray[np.int64]  # (new,), number of the file
    starts_s: NDArray[np.float64] | None  # (new,), as in `View`


@dataclass(frozen=True, eq=False)
class View:
    """One embedding at one level, mapped for a few perplexities."""

    member: str  # its name, or `EVERYBODY`
    level: str  # "song" or "segment"
    perplexities: tuple[float, ...]
    points: NDArray[np.float64]  # (perplexities, drawn, 2), arbitrary unit
    songs: NDArray[np.int64]  # (drawn,), row of `Songs`
    starts_s: NDArray[np.float64] | None  # (drawn,), start of the segment; None at song level
    mapped: int  # points that were mapped
    total: int  # points there were
    kept: tuple[Preservation, ...]  # for each perplexity
    new: NewPoints | None = None  # None: no file was placed here


def fit_all(run_data: RunData, tick: Callable[[int, int], object]) -> None:
    """Fit the maps that do not lie in the run's folder yet; `tick` is given percent and 100."""
    plan = [(group, level) for group in groups(run_data.members) for level in LEVELS]
    total = sum(WORK[level] for _, level in plan)
    done = shown = 0
    for group, level in plan:

        def on_progress(share: float, done: int = done, part: int = WORK[level]) -> None:
            nonlocal shown
            percent = int(100 * (done + share * part) / total)
            if percent > shown:
                tick(percent, 100)
            shown = percent

        _finished(run_data, group, level, on_progress)
        done += WORK[level]
        on_progress(1.0)


def groups(members: Sequence[str]) -> list[Sequence[str]]:
    """Who has maps: all members together, where there are several, then each."""
    return [members] * (len(members) > 1) + [(name,) for name in members]


def all_views(run_data: RunData) -> Iterator[View]:
    """The views of all members together, where there are several, then of each member.

    All together have none at segment level where the members' segments lie at different places.
    """
    found = groups(run_data.members)
    share = ROOM // (len(found) * len(LEVELS))
    for group in found:
        for level in LEVELS:
            view = _view(run_data, group, level, min(DRAWN[level], share))
            if view is not None:
                yield view


def _view(run_data: RunData, members: Sequence[str], level: str, most: int) -> View | None:
    found = _finished(run_data, members, level)
    if found is None:
        return None
    mapped, fitted = found
    seed, songs = run_data.seed, run_data.songs
    of = songs.labels[mapped.songs] if level == "song" else mapped.songs
    drawn, compared = (stratified(of, cap, seed) for cap in (most, COMPARED))
    kept = preservation(mapped.vectors, fitted.points, held_out(songs, mapped), compared, seed)
    new = placed_cloud(run_data.placed, members, level) if run_data.placed else None
    return View(
        member=_name(members),
        level=level,
        perplexities=fitted.perplexities,
        points=fitted.points[:, drawn],
        songs=mapped.songs[drawn],
        starts_s=None if mapped.starts_s is None else mapped.starts_s[drawn],
        mapped=len(mapped.vectors),
        total=mapped.total,
        kept=tuple(kept),
        new=NewPoints(fitted.place(new.vectors), new.songs, new.starts_s) if new else None,
    )


def _finished(
    run_data: RunData, members: Sequence[str], level: str, on_progress: OnProgress = lambda _: None
) -> tuple[Cloud, FittedMap] | None:
    """What is mapped and its map, fitted if need be; None: segments lie at different places."""
    take = partial(_evenly, cap=MAPPED, seed=run_data.seed)
    mapped = together(cloud(run_data.stores(name), level, take) for name in members)
    if mapped is None:
        return None
    path = run_data.run.map(_name(members), level)
    perplexities = perplexities_for(len(mapped.vectors))
    return mapped, finished_map(path, mapped.vectors, perplexities, run_data.seed, on_progress)


def _name(members: Sequence[str]) -> str:
    return EVERYBODY if len(members) > 1 else members[0]


def _evenly(groups: NDArray[np.int64], cap: int, seed: int) -> NDArray[np.int64]:
    return stratified(groups, cap, seed)


def held_out(songs: Songs, mapped: Cloud) -> HeldOut:
    """Validation songs of known singers, or their segments, and the training ones."""
    labels, splits = songs.labels[mapped.songs], songs.splits[mapped.songs]
    among = np.flatnonzero((splits == SPLITS.index("train")) & (labels >= 0))
    queries = np.flatnonzero((splits == SPLITS.index("validation")) & (labels >= 0))
    albums = np.array([album or song for album, song in zip(songs.albums, songs.ids, strict=True)])
    numbers = np.unique(albums, return_inverse=True)[1]
    of = mapped.songs[queries]
    return HeldOut("validation", among, labels[among], queries, labels[queries], of, numbers[of])


def placed_cloud(placed: PlacedFiles, members: Sequence[str], level: str) -> Cloud | None:
    """The files that all of `members` embedded, as `Cloud` with numbers of files in place of songs.

    None if there is no such file, or if their segments lie at different places.
    """
    files = placed.taken_by(members)
    if not len(files):
        return None
    clouds = []
    for name in members:
        stores, numbers = placed.stores(name)
        one = cloud(stores, level, lambda songs: np.arange(len(songs)))
        rows = np.flatnonzero(np.isin(numbers[one.songs], files))
        clouds.append(
            replace(
                one,
                vectors=one.vectors[rows],
                songs=numbers[one.songs][rows],
                starts_s=None if one.starts_s is None else one.starts_s[rows],
                total=len(rows),
            )
        )
    return together(clouds)
