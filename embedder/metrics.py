"""How good predictions are: every number this project prints of them is computed here.

Of true labels (songs,), int, and log-probabilities or scores (songs, singers) or predicted labels
(songs,): top-k, the course's score, macro F1, NLL, Brier score, ECE, confusion counts, recall per
singer, reliability, and risk against coverage. `summarise` gives all metrics with 95 % intervals
from a bootstrap of whole albums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.statistics import (
    CHUNK,
    RESAMPLES,
    Estimate,
    Floats,
    Groups,
    Integers,
    Statistic,
    bootstrap_interval,
    mean_of,
    value_of,
    wilson,
)

BINS = 15  # of the ECE


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
    return value_of(mean_of(top_k_hits(truth, scores, k)), len(truth))


def score(truth: Integers, scores: Floats) -> float:
    """The course's score, top-1 + 0.5 · top-3, 0 to 1.5."""
    return top_k(truth, scores, 1) + 0.5 * top_k(truth, scores, 3)


def macro_f1(truth: Integers, predicted: Integers) -> float:
    """Mean over the singers that occur in `truth` of F1 = 2·TP / (songs + predictions), 0 to 1.

    A singer who is predicted but never occurs has no F1 of its own; it costs the others recall.
    """
    return value_of(macro_f1_of(truth, predicted), len(truth))


def nll(truth: Integers, log_probabilities: Floats) -> float:
    """Mean negative natural log-probability of the true singer, in nats, from 0."""
    return value_of(mean_of(song_nll(truth, log_probabilities)), len(truth))


def brier(truth: Integers, log_probabilities: Floats) -> float:
    """Mean squared error of all probabilities, 0 to 2 (Brier 1950)."""
    return value_of(mean_of(song_brier(truth, log_probabilities)), len(truth))


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


def _check(truth: Integers, scores: Floats) -> None:
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ValueError(f"truth {truth.shape} does not fit scores {scores.shape}")
    if len(truth) and not (truth.min() >= 0 and truth.max() < scores.shape[1]):
        raise ValueError(f"true labels must lie in 0..{scores.shape[1] - 1}")


# How far a confidence can be trusted -------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """Songs of similar confidence."""

    songs: int
    confidence: float  # mean
    accuracy: Estimate  # share whose first choice is right, with Wilson's interval


def first_choices(
    truth: Integers, probabilities: Floats
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(confidence in the first choice, whether it is right), each (songs,)."""
    right: NDArray[np.bool_] = ranking(probabilities)[:, 0] == truth
    return probabilities.max(axis=1).astype(np.float64), right


def reliability_bins(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Bins of equal mass by ascending confidence, those of `ece`; fewer for fewer songs.

    Σ songs / all songs · |confidence − accuracy| is the expected calibration error.
    """
    order, hits = _surest_last(confidence, right)
    found = []
    for part in np.array_split(order, min(bins, len(order))):
        accuracy = wilson(float(hits[part].sum()), len(part))
        found.append(Bin(len(part), float(confidence[part].mean()), accuracy))
    return found


def risk_coverage(confidence: Floats, right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of errors among the 1, 2, … all surest songs, (songs,).

    Risk at coverage 1/n, 2/n, … 1 of a selective classifier (El-Yaniv & Wiener 2010).
    """
    order, hits = _surest_last(confidence, right)
    errors = np.cumsum(1.0 - hits[order[::-1]])
    return np.asarray(errors / np.arange(1, len(order) + 1))


def aurc_of(confidence: Floats, right: NDArray[np.bool_]) -> Statistic:
    """The statistic 'area under the risk-coverage curve', 0 to 1: the mean of `risk_coverage`.

    0 without an error; the error rate itself, on average, where confidence says nothing (Geifman,
    Uziel & El-Yaniv 2019).
    """
    levels, level = np.unique(-confidence, return_inverse=True)
    order = np.argsort(level, kind="stable")  # the surest first

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        means = []
        for times in weights.astype(np.int64):
            errors = np.bincount(level, times * ~right, len(levels))
            rate = errors / np.maximum(np.bincount(level, times, len(levels)), 1)
            drawn = np.repeat(level[order], times[order])
            means.append((np.cumsum(rate[drawn]) / np.arange(1, len(drawn) + 1)).mean())
        return np.array(means)

    return statistic


def _surest_last(
    confidence: Floats, right: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
    """Rows by ascending confidence, and each song's share in the right ones of its level."""
    if confidence.shape != right.shape or confidence.ndim != 1 or not len(right):
        raise ValueError(f"confidence {confidence.shape} does not fit right {right.shape}")
    _, level = np.unique(confidence, return_inverse=True)
    shares = np.bincount(level, right) / np.bincount(level)
    return np.argsort(confidence, kind="stable"), shares[level]
