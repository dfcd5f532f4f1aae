"""Accuracy at every level of every degradation, and whether it is below that of clean songs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from embedder.measures.robustness import DEGRADATIONS, EXCERPT, FULL
from embedder.statistics import Estimate, bootstrap_interval, mean_of, paired_difference
from ensemble.robustness import Measured, Step

SIGNIFICANT = 0.05  # of the adjusted p-values
NO_ANSWER = 10**6  # a rank that is right nowhere


@dataclass(frozen=True)
class Point:
    """One level."""

    level: float | None  # None: undegraded
    songs: int
    top_1: Estimate
    top_3: Estimate
    change: Estimate  # of top-1 against the undegraded songs, paired
    p: float  # exact sign test over albums, adjusted for all levels; 1 where undegraded

    @property
    def falls(self) -> bool:
        """Whether top-1 is below that of undegraded songs by more than chance explains."""
        return self.change.value < 0 and self.p < SIGNIFICANT


@dataclass(frozen=True)
class Curve:
    """One degradation as one source of answers takes it."""

    degradation: str
    points: tuple[Point, ...]  # in the order of the axis, the undegraded one among them

    @property
    def clean(self) -> Point:
        """The undegraded songs."""
        return next(point for point in self.points if point.level is None)

    @property
    def degraded(self) -> tuple[Point, ...]:
        """All but the undegraded point."""
        return tuple(point for point in self.points if point.level is not None)

    def directions(self) -> list[tuple[Point, ...]]:
        """The degraded points from mild to harsh: one way, or below and above the neutral level."""
        neutral = DEGRADATIONS[self.degradation].neutral
        if neutral is None:
            return [self.degraded]
        below = [point for point in self.degraded if point.level is not None]
        return [
            tuple(p for p in reversed(below) if p.level is not None and p.level < neutral),
            tuple(p for p in below if p.level is not None and p.level > neutral),
        ]


def curves(measured: Measured, source: str) -> list[Curve]:
    """The curves of a source of answers; where it has no answer, it is not right.

    An excerpt is compared with the full song, all else with the undegraded part of it that was
    degraded. p-values are adjusted by Holm's method over all levels of all degradations. Empty if
    the source never answered.
    """
    ranks = _ranks(measured, source)
    if not ranks:
        return []
    # A song is <singer>/<album>/<file>: whatever stands before its name is its album.
    names = [song.rpartition("/")[0] or song for song in songs_of(measured)]
    albums = np.unique(names, return_inverse=True)[1]
    found = []
    for name, ladder in DEGRADATIONS.items():
        base = (EXCERPT, FULL if name == EXCERPT else measured.conditions.seconds)
        clean = _point(None, ranks[base], ranks[base], albums)
        points = [
            _point(level, ranks[name, level], ranks[base], albums)
            for level in ladder.levels
            if (name, level) != (EXCERPT, FULL)
        ]
        place = 0
        if ladder.neutral is not None:
            place = sum(level < ladder.neutral for level in ladder.levels)
        found.append(Curve(name, (*points[:place], clean, *points[place:])))
    return _adjusted(found)


def sources(measured: Measured) -> list[str]:
    """Whose answers there are: "fused" first."""
    return [name for name in measured.conditions.sources if _ranks(measured, name)]


def songs_of(measured: Measured) -> list[str]:
    """The measured songs' ids, each once."""
    return list(dict.fromkeys(row.song for row in measured.rows))


def sign_test(lost: int, won: int) -> float:
    """Two-sided exact p-value of `lost` albums with fewer songs right and `won` with more."""
    return float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold for all tests together (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(one) for one in adjusted]


def _ranks(measured: Measured, source: str) -> dict[Step, NDArray[np.int64]]:
    """step → rank of the true singer in every song (songs,), `NO_ANSWER` where the source has none.

    Empty if it never answered.
    """
    column = measured.conditions.sources.index(source)
    found: dict[Step, list[int]] = {}
    for row in measured.rows:
        found.setdefault(row.step, []).append(row.ranks[column] or NO_ANSWER)
    if all(rank == NO_ANSWER for ranks in found.values() for rank in ranks):
        return {}
    return {step: np.array(ranks, np.int64) for step, ranks in found.items()}


def _point(
    level: float | None,
    ranks: NDArray[np.int64],
    clean: NDArray[np.int64],
    albums: NDArray[np.int64],
) -> Point:
    right, before = ranks == 1, clean == 1
    songs = len(ranks)
    change = np.bincount(albums, right) - np.bincount(albums, before)
    return Point(
        level,
        songs,
        bootstrap_interval(mean_of(right), songs, groups=albums),
        bootstrap_interval(mean_of(ranks <= 3), songs, groups=albums),
        paired_difference(mean_of(right), mean_of(before), songs, groups=albums, most=1.0),
        sign_test(int((change < 0).sum()), int((change > 0).sum())),
    )


def _adjusted(found: Sequence[Curve]) -> list[Curve]:
    adjusted = iter(holm([point.p for curve in found for point in curve.degraded]))
    return [
        replace(
            curve,
            points=tuple(
                point if point.level is None else replace(point, p=next(adjusted))
                for point in curve.points
            ),
        )
        for curve in found
    ]
