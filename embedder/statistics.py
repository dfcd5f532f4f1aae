"""Intervals and differences: what a number of songs, albums or singers can tell.

A `Statistic` maps weights (resamples, songs), how often each song was drawn, to one value per
resample, so that a value (every song drawn once) and its interval share a definition. Songs of an
album are right or wrong together: what is resampled is what was drawn independently, albums, or
singers. scipy's bootstrap resamples no groups, and percentiles of 20 albums cover too seldom, so
the resampling and the interval are ours; their coverage is simulated in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
CHUNK = 500_000  # songs drawn at a time: bounds the memory of a bootstrap

Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]
Groups = Sequence[str] | Integers  # of each song, what it was drawn with: its album, its singer
Statistic = Callable[[Matrix], Matrix]


@dataclass(frozen=True)
class Estimate:
    """A metric's value and its 95 % interval."""

    value: float
    low: float
    high: float
    groups: int = 0  # albums, singers or songs that were resampled; 0 where none were

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_of(values: NDArray[Any]) -> Statistic:
    """The statistic 'mean of a value per song' (songs,)."""
    numbers = values.astype(np.float64)
    return lambda weights: np.asarray((weights @ numbers) / weights.sum(axis=1))


def resamples(
    songs: int, seed: int = 0, groups: Groups | None = None
) -> Iterator[NDArray[np.float64]]:
    """How often each song is drawn (resamples, songs) by a bootstrap of whole groups.

    Some resamples at a time; the same for the same arguments. `groups` (songs,) names each song's;
    None: every song is its own. Raises `ValueError` without songs.
    """
    place = group_numbers(songs, groups)
    count = int(place.max()) + 1
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK // songs)
    for start in range(0, RESAMPLES, chunk):
        rows = min(chunk, RESAMPLES - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, place].astype(np.float64)


def group_numbers(songs: int, groups: Groups | None) -> NDArray[np.int64]:
    """The number (songs,) of each song's group, from 0; `ValueError` without songs."""
    if songs < 1:
        raise ValueError("no songs to evaluate")
    if groups is None:
        return np.arange(songs)
    if len(groups) != songs:
        raise ValueError(f"{len(groups)} groups do not fit {songs} songs")
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)


def bootstrap_interval(
    statistic: Statistic,
    songs: int,
    seed: int = 0,
    groups: Groups | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Value over all songs and its 95 % interval, from 2,000 resamples of whole groups.

    Args:
        statistic: what is estimated.
        songs: how many there are, 1 or more.
        seed: of the resamples; with the same songs and groups they are the same for all statistics.
        groups: what was drawn independently: the songs' albums (songs,), or their singers. None:
            songs, whose interval is too narrow where songs of an album are right or wrong together.
        limits: between which the statistic lies. See `interval_limits`.

    Raises:
        ValueError: there are no songs, or groups of other songs.
    """
    values = np.concatenate([statistic(weights) for weights in resamples(songs, seed, groups)])
    value = value_of(statistic, songs)
    count = int(group_numbers(songs, groups).max()) + 1
    if np.isnan(value):
        return Estimate(value, value, value, count)
    values = values[~np.isnan(values)]
    heaviest = _heaviest(statistic, songs, groups) if limits == (0.0, np.inf) else 0.0
    low, high = interval_limits(
        np.array(value), np.array(values.var()), count, songs, limits, heaviest
    )
    return Estimate(value, float(low), float(high), count)


def _heaviest(statistic: Statistic, songs: int, groups: Groups | None) -> float:
    """The most that any group adds to a mean over songs."""
    place = group_numbers(songs, groups)
    sizes, most = np.bincount(place), 0.0
    for part in np.array_split(np.arange(len(sizes)), -(-len(sizes) * songs // CHUNK)):
        alone = statistic((place == part[:, None]).astype(np.float64)) * sizes[part] / songs
        most = max(most, float(np.nan_to_num(alone).max()))
    return most


def interval_limits(
    value: Floats,
    variance: Floats,
    groups: int,
    songs: int,
    limits: tuple[float, float],
    heaviest: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % limits of statistics (…) from their bootstrap variance (…) over so many groups.

    Percentiles of a bootstrap of 20 albums cover a share too seldom (0.85 of 0.95 where one album
    holds the mistakes), so only the variance is taken of it, times groups / (groups − 1), with
    quantiles of Student's t of groups − 1 degrees of freedom:

    - From 0 to a finite limit: Wilson's (1927) interval of as many songs as would give a share this
      variance (Dean & Pagano, J. Survey Statistics and Methodology 2015). With nothing or all of
      the limit reached the variance says nothing; then the limit is the exact one of a share of
      groups, 1 − 0.05^(1/groups), about 3 / groups.
    - From 0 without end (a loss): of a gamma distribution, where one group more like the
      `heaviest`, which adds that much to the mean, may always come (Fay & Feuer, Statistics in
      Medicine 1997).
    - Else, as differences: symmetric; where all groups agree on 0, the exact limit as above.
    """
    from scipy.special import gammaincinv, stdtrit  # applying a fusion does without scipy

    low, high = limits
    if groups < 2:
        return np.full_like(value, low, np.float64), np.full_like(value, high, np.float64)
    t = float(stdtrit(groups - 1, 0.975))
    variance = np.asarray(variance, np.float64) * groups / (groups - 1)
    variance = np.where(variance > 1e-18, variance, 0.0)  # rounding is no variance
    error, exact = np.sqrt(variance), 1 - 0.05 ** (1 / groups)
    if low == 0 and np.isinf(high):
        spread, far = np.maximum((t / Z * error) ** 2, 1e-18), np.maximum(value, 1e-9)
        lowest = gammaincinv(far**2 / spread, 0.025) * spread / far
        spread, far = spread + heaviest**2, far + heaviest
        return lowest, np.asarray(gammaincinv(far**2 / spread, 0.975) * spread / far)
    if low < 0:
        error = np.where(variance > 0, t * error, np.where(np.isinf(high), 0.0, exact * high))
        return np.maximum(value - error, low), np.minimum(value + error, high)
    share = np.clip(value / high, 0, 1)
    spread = share * (1 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(variance > 0, spread * high**2 / variance, songs)
        size = np.maximum(size, 1e-12)
    middle = (share + t**2 / (2 * size)) / (1 + t**2 / size)
    half = t * np.sqrt(spread / size + t**2 / (4 * size**2)) / (1 + t**2 / size)
    lowest = np.where(spread < 1e-12, np.where(share > 0.5, 1 - exact, 0.0), middle - half)
    highest = np.where(spread < 1e-12, np.where(share > 0.5, 1.0, exact), middle + half)
    return high * np.clip(lowest, 0, share), high * np.clip(highest, share, 1)


def paired_difference(
    first: Statistic,
    second: Statistic,
    songs: int,
    seed: int = 0,
    groups: Groups | None = None,
    most: float = np.inf,
) -> Estimate:
    """first − second with both taken on the same resamples; neither lies outside 0 to `most`."""

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return first(weights) - second(weights)

    return bootstrap_interval(statistic, songs, seed, groups, (-most, most))


# Shares and differences --------------------------------------------------------------------------


def wilson(hits: float, count: int) -> Estimate:
    """The share `hits` / `count` with its 95 % score interval (Wilson 1927).

    `hits` may be a fraction, where songs of equal rank share theirs. Raises `ValueError` without
    songs or with more hits than songs.
    """
    if count < 1 or not 0 <= hits <= count + 1e-9:
        raise ValueError(f"a share needs songs and at most as many hits, not {hits} of {count}")
    share = min(hits / count, 1.0)
    spread = Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return Estimate(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def unpaired_difference(first: Estimate, second: Estimate) -> Estimate:
    """first − second, measured on different songs, with the interval that theirs imply.

    The distances from the values to the limits add like standard errors (Zou & Donner 2008).
    """
    value = first.value - second.value
    low = math.hypot(first.value - first.low, second.high - second.value)
    high = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, value - low, value + high)


# Agreement ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pairs:
    """A measure of every pair of experts, (experts, experts) each."""

    value: Matrix
    low: Matrix
    high: Matrix


def kappas(named: Integers, seed: int = 0, groups: Groups | None = None) -> Pairs:
    """Cohen's kappa (1960) of every two experts, −1 to 1: agreement beyond that of chance.

    (p_o − p_e) / (1 − p_e), p_o the share of songs on which they agree, p_e that which their own
    frequencies of naming each singer would give. NaN where both name one singer for all songs.

    Args:
        named: (experts, songs), the singer that each names.
        seed: of the resamples.
        groups: (songs,), as in `bootstrap_interval`.
    """
    singers = np.eye(int(named.max()) + 1)[named]  # (experts, songs, singers)

    def kappa(one: int, other: int) -> Statistic:
        agree = (named[one] == named[other]).astype(np.float64)

        def statistic(weights: Matrix) -> Matrix:
            weights = weights / weights.sum(axis=1, keepdims=True)
            chance = ((weights @ singers[one]) * (weights @ singers[other])).sum(axis=1)
            # Where chance alone explains everything, rounding must not make a number of 0 / 0.
            possible = np.where(chance < 1 - 1e-12, 1 - chance, np.nan)
            return np.asarray((weights @ agree - chance) / possible)

        return statistic

    return _of_pairs(kappa, named, seed, groups, -1.0)


def double_faults(
    truth: Integers, named: Integers, seed: int = 0, groups: Groups | None = None
) -> Pairs:
    """Share of songs that both experts of a pair get wrong, 0 to 1 (Giacinto & Roli 2001).

    On the diagonal stands each expert's own error rate.
    """
    wrong = named != truth
    return _of_pairs(lambda a, b: mean_of(wrong[a] & wrong[b]), named, seed, groups, 0.0)


def _of_pairs(
    statistic: Callable[[int, int], Statistic],
    named: Integers,
    seed: int,
    groups: Groups | None,
    low: float,
) -> Pairs:
    """A symmetric statistic, `low` to 1, of every two experts."""
    experts, songs = named.shape
    found = np.full((3, experts, experts), np.nan)
    for one in range(experts):
        for other in range(one, experts):
            pair = bootstrap_interval(statistic(one, other), songs, seed, groups, (low, 1.0))
            found[:, one, other] = found[:, other, one] = pair.value, pair.low, pair.high
    return Pairs(*found)


def value_of(statistic: Statistic, songs: int) -> float:
    """The statistic with every song drawn once."""
    if songs < 1:
        raise ValueError("no songs to evaluate")
    return float(statistic(np.ones((1, songs)))[0])
