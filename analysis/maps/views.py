"""The maps of a run: every member's songs and segments, and those of all members together.

Enters: `Material`. Leaves: a `View` for each map, with the points that are drawn, the new files
placed on it, and what the map keeps of its embedding. Finished maps lie in the run's pages folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis.inputs import Songs
from analysis.maps.clouds import LEVELS, Cloud, cloud, stratified, together
from analysis.maps.files import FittedMap, finished_map
from analysis.maps.fit import Tell, perplexities_for
from analysis.maps.preservation import Asked, Preservation, preservation
from analysis.material import Material
from embedder.artifacts import SPLITS
from ensemble.placed import Placed

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


def fit_all(material: Material, tick: Callable[[int, int], object]) -> None:
    """Fit the maps that do not lie in the run's folder yet; `tick` is given percent and 100."""
    plan = [(group, level) for group in groups(material.members) for level in LEVELS]
    total = sum(WORK[level] for _, level in plan)
    done = told = 0
    for group, level in plan:

        def tell(share: float, done: int = done, part: int = WORK[level]) -> None:
            nonlocal told
            percent = int(100 * (done + share * part) / total)
            if percent > told:
                tick(percent, 100)
            told = percent

        _finished(material, group, level, tell)
        done += WORK[level]
        tell(1.0)


def groups(members: Sequence[str]) -> list[Sequence[str]]:
    """Who has maps: all members together, where there are several, then each."""
    return [members] * (len(members) > 1) + [(name,) for name in members]


def all_views(material: Material) -> Iterator[View]:
    """The views of all members together, where there are several, then of each member.

    All together have none at segment level where the members' segments lie at different places.
    """
    found = groups(material.members)
    share = ROOM // (len(found) * len(LEVELS))
    for group in found:
        for level in LEVELS:
            view = _view(material, group, level, min(DRAWN[level], share))
            if view is not None:
                yield view


def _view(material: Material, members: Sequence[str], level: str, most: int) -> View | None:
    found = _finished(material, members, level)
    if found is None:
        return None
    mapped, fitted = found
    seed, songs = material.seed, material.songs
    of = songs.labels[mapped.songs] if level == "song" else mapped.songs
    drawn, compared = (stratified(of, cap, seed) for cap in (most, COMPARED))
    kept = preservation(mapped.vectors, fitted.points, asked(songs, mapped), compared, seed)
    new = placed_cloud(material.placed, members, level) if material.placed else None
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
    material: Material, members: Sequence[str], level: str, tell: Tell = lambda _: None
) -> tuple[Cloud, FittedMap] | None:
    """What is mapped and its map, fitted if need be; None: segments lie at different places."""
    take = partial(_evenly, cap=MAPPED, seed=material.seed)
    mapped = together(cloud(material.stores(name), level, take) for name in members)
    if mapped is None:
        return None
    path = material.run.map(_name(members), level)
    perplexities = perplexities_for(len(mapped.vectors))
    return mapped, finished_map(path, mapped.vectors, perplexities, material.seed, tell)


def _name(members: Sequence[str]) -> str:
    return EVERYBODY if len(members) > 1 else members[0]


def _evenly(groups: NDArray[np.int64], cap: int, seed: int) -> NDArray[np.int64]:
    return stratified(groups, cap, seed)


def asked(songs: Songs, mapped: Cloud) -> Asked:
    """Validation songs of known singers, or their segments, asked of the training ones."""
    labels, splits = songs.labels[mapped.songs], songs.splits[mapped.songs]
    among = np.flatnonzero((splits == SPLITS.index("train")) & (labels >= 0))
    queries = np.flatnonzero((splits == SPLITS.index("validation")) & (labels >= 0))
    albums = np.array([album or song for album, song in zip(songs.albums, songs.ids, strict=True)])
    numbers = np.unique(albums, return_inverse=True)[1]
    of = mapped.songs[queries]
    return Asked("validation", among, labels[among], queries, labels[queries], of, numbers[of])


def placed_cloud(placed: Placed, members: Sequence[str], level: str) -> Cloud | None:
    """The files that all of `members` heard, as `Cloud` with numbers of files in place of songs.

    None if there is no such file, or if their segments lie at different places.
    """
    files = placed.heard_by(members)
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
