"""How good predictions are, with intervals: every number this project prints is computed here.

Enters: true labels (songs,), int, and log-probabilities or scores (songs, singers) or predicted
labels (songs,). Leaves: top-k, the course's score, macro F1, NLL, Brier score, ECE, confusion
counts, recall per singer, and bootstrap 95 % intervals over songs.

A `Statistic` maps draws (resamples, songs), indices of the songs drawn, to one value per resample.
Each metric is one, so that its value (every song drawn once) and its interval share a definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
BINS = 15  # of the ECE
CHUNK = 100_000  # songs drawn at a time: bounds the memory of a bootstrap

Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]
Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A metric's value and its bootstrap 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


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
    ece: Estimate


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
    return _whole(ece_of(truth, log_probabilities), len(truth))


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
    return lambda draws: np.asarray(numbers[draws].mean(axis=1))


def macro_f1_of(truth: Integers, predicted: Integers) -> Statistic:
    """The statistic `macro_f1`, over the singers that occur in each resample."""
    singers = int(max(truth.max(), predicted.max())) + 1

    def statistic(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = np.arange(len(draws))[:, None] * singers
        true, guessed = truth[draws], predicted[draws]

        def count(cells: Integers) -> NDArray[np.int64]:
            return np.bincount(cells.ravel(), minlength=len(draws) * singers)

        songs, predictions = count(rows + true), count(rows + guessed)
        hits = count((rows + true)[true == guessed])
        f1 = 2 * hits / np.maximum(songs + predictions, 1)
        occurs = (songs > 0).reshape(-1, singers)
        total = np.where(occurs, f1.reshape(-1, singers), 0).sum(axis=1)
        return np.asarray(total / occurs.sum(axis=1))

    return statistic


def ece_of(truth: Integers, log_probabilities: Floats) -> Statistic:
    """The statistic `ece`, with the bins made anew in each resample."""
    _check(truth, log_probabilities)
    confidence = np.exp(log_probabilities.max(axis=1).astype(np.float64))
    correct = (ranking(log_probabilities)[:, 0] == truth).astype(np.float64)
    levels, level = np.unique(confidence, return_inverse=True)

    def statistic(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        resamples, songs = draws.shape
        cells = np.arange(resamples)[:, None] * len(levels) + level[draws]
        drawn = np.bincount(cells.ravel(), minlength=resamples * len(levels))
        right = np.bincount(cells.ravel(), correct[draws].ravel(), resamples * len(levels))
        accuracy = right / np.maximum(drawn, 1)
        cells.sort(axis=1)  # by confidence within each resample
        gap = levels[cells % len(levels)] - accuracy[cells]
        bins = min(BINS, songs)
        starts = [len(part) for part in np.array_split(np.arange(songs), bins)]
        edges = np.concatenate(([0], np.cumsum(starts)[:-1]))
        return np.asarray(np.abs(np.add.reduceat(gap, edges, axis=1)).sum(axis=1) / songs)

    return statistic


def resamples(songs: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Draws (resamples, songs) of a bootstrap, some at a time; the same for the same arguments.

    Raises `ValueError` without songs.
    """
    if songs < 1:
        raise ValueError("no songs to evaluate")
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK // songs)
    for start in range(0, RESAMPLES, chunk):
        yield rng.integers(songs, size=(min(chunk, RESAMPLES - start), songs))


def bootstrap_interval(
    statistic: Statistic, songs: int, seed: int = 0, centred: bool = False
) -> Estimate:
    """Value over all songs and percentile 95 % interval over 2,000 resamples of whole songs.

    The same seed and number of songs draw the same songs, so intervals of two metrics or two
    experts are comparable. Songs of one album are drawn on their own, so a set with few albums has
    wider uncertainty than this says; a metric that is perfect on all songs has an interval of width
    zero (by the rule of three, 3/n errors are still likely). `centred` moves the interval by the
    bootstrap's estimate of bias and cuts it at 0: resampling inflates a sum of absolute values such
    as the ECE. A resample on which the statistic is not defined, NaN, is left out. Raises
    `ValueError` without songs.
    """
    values = np.concatenate([statistic(draws) for draws in resamples(songs, seed)])
    value = _whole(statistic, songs)
    if not np.isnan(value):
        values = values[~np.isnan(values)]
    low, high = np.quantile(values, [0.025, 0.975])
    if centred:
        bias = values.mean() - value
        low, high = max(low - bias, 0.0), max(high - bias, 0.0)
    return Estimate(value, float(low), float(high))


def paired_difference(first: Statistic, second: Statistic, songs: int, seed: int = 0) -> Estimate:
    """first − second with both taken on the same resamples of the same songs."""
    return bootstrap_interval(lambda draws: first(draws) - second(draws), songs, seed)


def summarise(truth: Integers, log_probabilities: Floats, seed: int = 0) -> Summary:
    """Every metric with its interval, for truth (songs,) and log-probabilities (songs, singers)."""
    songs = len(truth)
    first = top_k_hits(truth, log_probabilities, 1)
    third = top_k_hits(truth, log_probabilities, 3)

    def interval(statistic: Statistic, centred: bool = False) -> Estimate:
        return bootstrap_interval(statistic, songs, seed, centred)

    return Summary(
        songs=songs,
        top_1=interval(mean_of(first)),
        top_3=interval(mean_of(third)),
        score=interval(mean_of(song_score(truth, log_probabilities))),
        macro_f1=interval(macro_f1_of(truth, ranking(log_probabilities)[:, 0])),
        nll=interval(mean_of(song_nll(truth, log_probabilities))),
        brier=interval(mean_of(song_brier(truth, log_probabilities))),
        ece=interval(ece_of(truth, log_probabilities), centred=True),
    )


def _whole(statistic: Statistic, songs: int) -> float:
    """The statistic with every song drawn once."""
    if songs < 1:
        raise ValueError("no songs to evaluate")
    return float(statistic(np.arange(songs, dtype=np.int64)[None])[0])


def _check(truth: Integers, scores: Floats) -> None:
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ValueError(f"truth {truth.shape} does not fit scores {scores.shape}")
    if len(truth) and not (truth.min() >= 0 and truth.max() < scores.shape[1]):
        raise ValueError(f"true labels must lie in 0..{scores.shape[1] - 1}")
