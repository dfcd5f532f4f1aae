"""How far a confidence can be trusted: reliability bins, and risk against coverage.

Enters: each song's confidence in its first choice (songs,), 0 to 1, and whether that is right
(songs,). Leaves: `Bin`s for a reliability diagram, the errors among the surest songs, and the area
under that curve. Songs of equal confidence share their mean accuracy, so that the order of the
songs does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.intervals import wilson
from embedder.metrics import BINS, Estimate, Floats, Integers, Statistic, ranking

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Songs of similar confidence."""

    songs: int
    confidence: float  # mean
    accuracy: Estimate  # share whose first choice is right, with Wilson's interval


def first_choices(truth: Integers, probabilities: Floats) -> tuple[Numbers, NDArray[np.bool_]]:
    """(confidence in the first choice, whether it is right), each (songs,)."""
    right: NDArray[np.bool_] = ranking(probabilities)[:, 0] == truth
    return probabilities.max(axis=1).astype(np.float64), right


def reliability_bins(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Bins of equal mass by ascending confidence, those of `metrics.ece`; fewer for fewer songs.

    Σ songs / all songs · |confidence − accuracy| is the expected calibration error.
    """
    order, hits = _surest_last(confidence, right)
    found = []
    for part in np.array_split(order, min(bins, len(order))):
        accuracy = wilson(float(hits[part].sum()), len(part))
        found.append(Bin(len(part), float(confidence[part].mean()), accuracy))
    return found


def risk_coverage(confidence: Floats, right: NDArray[np.bool_]) -> Numbers:
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

    def statistic(weights: Numbers) -> Numbers:
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
