"""How good predictions are, with intervals: every number this project prints is computed here.

Enters: true labels (songs,), int, and log-probabilities or scores (songs, singers) or predicted
labels (songs,). Leaves: top-k, the course's score, macro F1, NLL, Brier score, ECE, confusion
counts, recall per singer, and 95 % intervals from a bootstrap of whole albums.

A `Statistic` maps weights (resamples, songs), how often each song was drawn, to one value per
resample. Each metric is one, so that its value (every song drawn once) and its interval share a
definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
BINS = 15  # of the ECE
Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
CHUNK = 500_000  # songs drawn at a time: bounds the memory of a bootstrap

Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]
Groups = Sequence[str] | Integers  # of each song, what it was drawn with: its album, its singer
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A metric's value and its 95 % interval."""

    value: float
    low: float
    high: float
    groups: int = 0  # albums, singers or songs that were resampled; 0 where none were

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error beside that of a model whose confidences are exactly right."""

    value: float  # 0 to 1; biased upwards, for the model with exact confidences too
    limit: float  # that model stays below it in 95 of 100 such sets of songs

    @property
    def calibrated(self) -> bool:
        """Whether exact confidences would explain the value."""
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.value:.3f} (calibrated: to {self.limit:.3f})"


@dataclass(frozen=True)
class Summary:
    """All metrics of one set of log-probabilities."""

    songs: int
    top_1: Estimate
    top_3: Estimate
    score: Estimate
    macro_f1: Estimate
    nll: Estimate
    brier: Estimate
    ece: CalibrationError


def ranking(scores: Floats) -> NDArray[np.int64]:
    """Labels (songs, singers), best first; equal scores keep the order of the labels."""
    return np.argsort(-scores, axis=1, kind="stable").astype(np.int64)


def top_k_hits(truth: Integers, scores: Floats, k: int) -> NDArray[np.bool_]:
    """Whether the true singer is among the k best (songs,), ties broken as in `ranking`."""
    _check(truth, scores)
    hits: NDArray[np.bool_] = (ranking(scores)[:, :k] == truth[:, None]).any(axis=1)
    return hits


def top_k(truth: Integers, scores: Floats, k: int) -> float:
    """Share of songs whose true singer is among the k best, 0 to 1."""
    return _whole(mean_of(top_k_hits(truth, scores, k)), len(truth))


def score(truth: Integers, scores: Floats) -> float:
    """The course's score, top-1 + 0.5 · top-3, 0 to 1.5."""
    return top_k(truth, scores, 1) + 0.5 * top_k(truth, scores, 3)


def macro_f1(truth: Integers, predicted: Integers) -> float:
    """Mean over the singers that occur in `truth` of F1 = 2·TP / (songs + predictions), 0 to 1.

    A singer who is predicted but never occurs has no F1 of its own; it costs the others recall.
    """
    return _whole(macro_f1_of(truth, predicted), len(truth))


def nll(truth: Integers, log_probabilities: Floats) -> float:
    """Mean negative natural log-probability of the true singer, in nats, from 0."""
    return _whole(mean_of(song_nll(truth, log_probabilities)), len(truth))


def brier(truth: Integers, log_probabilities: Floats) -> float:
    """Mean squared error of all probabilities, 0 to 2 (Brier 1950)."""
    return _whole(mean_of(song_brier(truth, log_probabilities)), len(truth))


def ece(truth: Integers, log_probabilities: Floats) -> float:
    """Expected calibration error of the first choice, 0 to 1.

    Σ_b |b|/n · |mean confidence of b − accuracy of b| over 15 bins of equal mass: the songs sorted
    by confidence and cut into runs whose sizes differ by one at most (Nguyen & O'Connor 2015;
    Nixon et al. 2019). Songs of equal confidence share their mean accuracy, so that the order of
    the songs does not matter. It is biased upwards where bins hold few songs.
    """
    confidence, correct = _first_choices(truth, log_probabilities)
    if not len(truth):
        raise ValueError("no songs to evaluate")
    order = np.argsort(confidence, kind="stable")
    return float(_binned_error(confidence[order], correct[order][None])[0])


def song_nll(truth: Integers, log_probabilities: Floats) -> NDArray[np.float64]:
    """Negative log-probability of each song's true singer (songs,), in nats."""
    _check(truth, log_probabilities)
    return -log_probabilities[np.arange(len(truth)), truth].astype(np.float64)


def song_brier(truth: Integers, log_probabilities: Floats) -> NDArray[np.float64]:
    """Σ_c (p_c − 1[c is the true singer])² of each song (songs,), 0 to 2."""
    _check(truth, log_probabilities)
    errors = np.exp(log_probabilities.astype(np.float64))
    errors[np.arange(len(truth)), truth] -= 1.0
    return np.asarray((errors**2).sum(axis=1))


def song_score(truth: Integers, scores: Floats) -> NDArray[np.float64]:
    """What each song adds to the course's score (songs,): 1.5, 0.5 or 0."""
    first, third = top_k_hits(truth, scores, 1), top_k_hits(truth, scores, 3)
    return first.astype(np.float64) + 0.5 * third


def confusion_matrix(truth: Integers, predicted: Integers, singers: int) -> NDArray[np.int64]:
    """Counts (singers, singers): row the true singer, column the predicted one."""
    cells = np.bincount(truth * singers + predicted, minlength=singers * singers)
    return cells.astype(np.int64).reshape(singers, singers)


def per_singer_recall(
    truth: Integers, predicted: Integers, singers: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Share of each singer's songs predicted right (NaN without songs), and the songs' count."""
    counts = confusion_matrix(truth, predicted, singers)
    songs = counts.sum(axis=1)
    recall = np.full(singers, np.nan)
    np.divide(counts.diagonal(), songs, out=recall, where=songs > 0)
    return recall, songs


def mean_of(values: NDArray[Any]) -> Statistic:
    """The statistic 'mean of a value per song' (songs,)."""
    numbers = values.astype(np.float64)
    return lambda weights: np.asarray((weights @ numbers) / weights.sum(axis=1))


def macro_f1_of(truth: Integers, predicted: Integers) -> Statistic:
    """The statistic `macro_f1`, each singer counting as often as its songs were drawn.

    Else a resample of whole singers, of whom some are drawn twice, would vary too little.
    """
    singers = np.eye(int(max(truth.max(), predicted.max())) + 1)
    true, guessed = singers[truth], singers[predicted]
    hits = true * (truth == predicted)[:, None]
    every = np.maximum(true.sum(axis=0), 1)

    def statistic(weights: Floats) -> NDArray[np.float64]:
        songs, predictions = weights @ true, weights @ guessed
        f1 = 2 * (weights @ hits) / np.maximum(songs + predictions, 1e-12)
        times = songs / every
        return np.asarray((times * f1).sum(axis=1) / times.sum(axis=1))

    return statistic


def calibration_error(
    truth: Integers, log_probabilities: Floats, seed: int = 0
) -> CalibrationError:
    """The `ece` beside what chance makes of it where every confidence is exactly right.

    Consistency resampling (Bröcker & Smith, Weather and Forecasting 2007, 3b): each first choice is
    called right with the probability that it claims, 2,000 times. That songs of one album are right
    together moves the limit little (tests/embedder/test_metrics.py measures how little).
    """
    confidence, _ = _first_choices(truth, log_probabilities)
    value = ece(truth, log_probabilities)
    order = np.sort(confidence)
    rng, drawn = np.random.default_rng(seed), []
    chunk = max(1, CHUNK // len(order))
    for start in range(0, RESAMPLES, chunk):
        rows = rng.random((min(chunk, RESAMPLES - start), len(order)))
        drawn.append(_binned_error(order, (rows < order).astype(np.float64)))
    return CalibrationError(value, float(np.quantile(np.concatenate(drawn), 0.95)))


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
    value = _whole(statistic, songs)
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


def summarise(
    truth: Integers, log_probabilities: Floats, seed: int = 0, groups: Groups | None = None
) -> Summary:
    """Every metric with its interval, for truth (songs,) and log-probabilities (songs, singers).

    `groups` (songs,): the songs' albums, as in `bootstrap_interval`.
    """
    songs = len(truth)
    first = top_k_hits(truth, log_probabilities, 1)
    third = top_k_hits(truth, log_probabilities, 3)

    def interval(statistic: Statistic, most: float = 1.0) -> Estimate:
        return bootstrap_interval(statistic, songs, seed, groups, (0.0, most))

    return Summary(
        songs=songs,
        top_1=interval(mean_of(first)),
        top_3=interval(mean_of(third)),
        score=interval(mean_of(song_score(truth, log_probabilities)), 1.5),
        macro_f1=interval(macro_f1_of(truth, ranking(log_probabilities)[:, 0])),
        nll=interval(mean_of(song_nll(truth, log_probabilities)), np.inf),
        brier=interval(mean_of(song_brier(truth, log_probabilities)), 2.0),
        ece=calibration_error(truth, log_probabilities, seed),
    )


def _first_choices(
    truth: Integers, log_probabilities: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Confidence in each song's first choice (songs,), and 1 where it is right, else 0."""
    _check(truth, log_probabilities)
    confidence = np.exp(log_probabilities.max(axis=1).astype(np.float64))
    return confidence, (ranking(log_probabilities)[:, 0] == truth).astype(np.float64)


def _binned_error(confidence: Floats, correct: Floats) -> NDArray[np.float64]:
    """The ECE (resamples,) of ascending confidences (songs,), right or not (resamples, songs)."""
    songs = len(confidence)
    _, first, level = np.unique(confidence, return_index=True, return_inverse=True)
    shares = np.add.reduceat(correct, first, axis=1) / np.bincount(level)
    gap = confidence - shares[:, level]
    sizes = [len(part) for part in np.array_split(np.arange(songs), min(BINS, songs))]
    edges = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    return np.asarray(np.abs(np.add.reduceat(gap, edges, axis=1)).sum(axis=1) / songs)


def _whole(statistic: Statistic, songs: int) -> float:
    """The statistic with every song drawn once."""
    if songs < 1:
        raise ValueError("no songs to evaluate")
    return float(statistic(np.ones((1, songs)))[0])


def _check(truth: Integers, scores: Floats) -> None:
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ValueError(f"truth {truth.shape} does not fit scores {scores.shape}")
    if len(truth) and not (truth.min() >= 0 and truth.max() < scores.shape[1]):
        raise ValueError(f"true labels must lie in 0..{scores.shape[1] - 1}")
