"""How well a score tells target trials from non-target ones: EER, minimum DCF, Cllr.

Enters: scores and kinds of the trials. Leaves: each measure as a number, and with a bootstrap 95 %
interval. A `Measure` maps the trials' weights to its value, so that the value (every trial once)
and its interval share a definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.statistics import Estimate, bootstrap_interval

P_TARGET = 0.05  # prior probability of a target trial in the detection cost

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Measure = Callable[[Floats], float]  # weights (trials,) → value; NaN if a kind of trial has none


@dataclass(frozen=True, eq=False)
class Curve:
    """Error rates at every threshold that changes a decision.

    Operating point i rejects the trials of the i lowest distinct scores and accepts the others: the
    first point accepts all, the last one none.
    """

    scores: NDArray[np.float64]  # (n,), distinct, ascending
    miss: NDArray[np.float64]  # (n + 1,), share of the target trials that are rejected, ascending
    false_alarm: NDArray[np.float64]  # (n + 1,), share of the others accepted, descending

    def equal_error(self) -> tuple[float, float]:
        """The equal error rate, 0 to 1, and the score at which it is reached.

        The points are joined by straight lines, which equal scores need (they can only be accepted
        or rejected together), and nothing else is smoothed: no convex hull. The rate is where that
        line crosses miss = false alarm. If several thresholds reach it, the middle one is named.
        """
        if np.isnan(self.miss).any() or np.isnan(self.false_alarm).any():
            return float("nan"), float("nan")
        gap = self.miss - self.false_alarm  # from -1 to 1, never falling
        point = int(np.argmax(gap >= 0))
        if gap[point] == 0:
            last = int(np.searchsorted(gap, 0.0, side="right")) - 1
            between = self.scores[point - 1], self.scores[min(last, len(self.scores) - 1)]
            return float(self.miss[point]), float(sum(between) / 2)
        share = -gap[point - 1] / (gap[point] - gap[point - 1])
        rate = self.miss[point - 1] + share * (self.miss[point] - self.miss[point - 1])
        return float(rate), float(self.scores[point - 1])

    def minimum_cost(self, p_target: float = P_TARGET) -> float:
        """The normalised detection cost at the threshold that suits these trials best, 0 to 1.

        min over thresholds of (p · miss + (1 − p) · false alarm) / min(p, 1 − p): NIST's detection
        cost function with both costs 1, divided by what one who never listens pays.
        """
        cost = p_target * self.miss + (1 - p_target) * self.false_alarm
        return float(cost.min() / min(p_target, 1 - p_target))


def curve_measure(scores: Floats, target: Flags, value: Callable[[Curve], float]) -> Measure:
    """The measure `value` of the trials' curve; scores (trials,), kinds (trials,)."""
    if scores.shape != target.shape or scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"scores {scores.shape} do not fit kinds {target.shape}")
    order = np.argsort(scores, kind="stable")
    ranked, kind = scores[order].astype(np.float64), target[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each distinct score

    def measure(weights: Floats) -> float:
        there = weights[order]
        rejected = np.where(kind, there, 0.0).cumsum()[last]
        others = np.where(kind, 0.0, there).cumsum()[last]
        if not (rejected[-1] > 0 and others[-1] > 0):
            return float("nan")
        miss = np.concatenate(([0.0], rejected / rejected[-1]))
        # Not 1 − share: whole weights give rates that are equal when they are equal.
        false_alarm = np.concatenate(([1.0], (others[-1] - others) / others[-1]))
        return value(Curve(ranked[last], miss, false_alarm))

    return measure


def eer_measure(scores: Floats, target: Flags) -> Measure:
    """The equal error rate as a measure."""
    return curve_measure(scores, target, lambda curve: curve.equal_error()[0])


def min_dcf_measure(scores: Floats, target: Flags, p_target: float = P_TARGET) -> Measure:
    """The minimum normalised detection cost as a measure."""
    return curve_measure(scores, target, lambda curve: curve.minimum_cost(p_target))


def eer_threshold(scores: Floats, target: Flags) -> float:
    """The score at which both error rates are equal."""
    return curve_measure(scores, target, lambda curve: curve.equal_error()[1])(np.ones(len(scores)))


def cllr_measure(log_odds: Floats, target: Flags) -> Measure:
    """Cllr, the cost of log-likelihood ratios, in bits: 0 is perfect, 1 says nothing.

    Half the mean over target trials of log2(1 + exp(−l)), plus half the mean over the others of
    log2(1 + exp(l)) (Brümmer & du Preez, Computer Speech & Language 2006).
    """
    bits = np.logaddexp(0.0, np.where(target, -log_odds, log_odds)) / np.log(2.0)
    return lambda weights: (_mean(bits, weights, target) + _mean(bits, weights, ~target)) / 2


def share_measure(errors: Flags, among: Flags) -> Measure:
    """The share of errors among some of the trials: misses of targets, false alarms of others."""
    return lambda weights: _mean(errors.astype(np.float64), weights, among)


def _mean(values: Floats, weights: Floats, among: Flags) -> float:
    total = weights[among].sum()
    return float((values[among] * weights[among]).sum() / total) if total > 0 else float("nan")


def over_albums(
    measure: Measure, album_pairs: NDArray[np.int64], seed: int = 0, most: float = 1.0
) -> Estimate:
    """A measure of all trials, 0 to `most`, and its 95 % interval by a bootstrap of albums.

    `album_pairs` (trials, 2): the album of either song, numbered from 0, below 0 where a song is
    not drawn. Trials are not independent, since each song is in many: what is drawn anew is the
    albums of the evaluated songs, with all their songs. A trial counts as often as its albums were
    drawn, one count multiplied by the other. Training songs stay, as they do in use. A resample
    without a target or without a non-target trial counts for nothing.
    """
    albums = int(album_pairs.max()) + 1
    first, second = np.where(album_pairs < 0, albums, album_pairs).T.copy()

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        times = np.pad(weights, ((0, 0), (0, 1)), constant_values=1.0)
        return np.array([measure(row[first] * row[second]) for row in times])

    return bootstrap_interval(statistic, albums, seed, limits=(0.0, most))
