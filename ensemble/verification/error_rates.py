"""How well a score tells target trials from non-target ones: EER, minimum DCF, Cllr.

A `Measure` maps the trials' weights to its value, so that the value (every trial once) and its
bootstrap interval share a definition. The trials are sorted once for all resamples:
`sklearn.metrics.roc_curve` would sort them for each, in four times the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.statistics import Estimate, bootstrap_interval

P_TARGET = 0.05  # prior probability of a target trial in the detection cost

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Measure = Callable[[Floats], float]  # weights (trials,) → value; NaN if a kind of trial has none
Rates = tuple[NDArray[np.float64], NDArray[np.float64]]  # misses and false alarms, (n + 1,) each


def eer_measure(scores: Floats, target: Flags) -> Measure:
    """The equal error rate, 0 to 1, as a measure."""
    distinct, rates = _det_curve(scores, target)
    return lambda weights: _equal_error(distinct, rates(weights))[0]


def eer_threshold(scores: Floats, target: Flags) -> float:
    """The score at which both error rates are equal; of several the middle one."""
    distinct, rates = _det_curve(scores, target)
    return _equal_error(distinct, rates(np.ones(len(scores))))[1]


def min_dcf_measure(scores: Floats, target: Flags, p_target: float = P_TARGET) -> Measure:
    """The detection cost at the threshold that suits these trials best, 0 to 1, as a measure.

    min over thresholds of (p · miss + (1 − p) · false alarm) / min(p, 1 − p): NIST's detection cost
    function with both costs 1, divided by what one who never listens pays.
    """
    _, rates = _det_curve(scores, target)

    def measure(weights: Floats) -> float:
        miss, false_alarm = rates(weights)
        cost = p_target * miss + (1 - p_target) * false_alarm
        return float(cost.min() / min(p_target, 1 - p_target))

    return measure


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


def over_albums(
    measure: Measure, album_pairs: NDArray[np.int64], seed: int = 0, most: float = 1.0
) -> Estimate:
    """A measure of all trials, 0 to `most`, and its 95 % interval by a bootstrap of albums.

    Trials are not independent, since each song is in many: what is drawn again is the albums of the
    evaluated songs, with all their songs. A trial counts as often as its albums were drawn, one
    count multiplied by the other. Training songs stay, as they do in use. A resample without a
    target or without a non-target trial counts for nothing.

    Args:
        measure: what is estimated.
        album_pairs: (trials, 2), the album of either song, numbered from 0; below 0 where a song is
            not drawn.
        seed: of the resamples.
        most: the highest value of the measure.
    """
    albums = int(album_pairs.max()) + 1
    first, second = np.where(album_pairs < 0, albums, album_pairs).T.copy()

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        times = np.pad(weights, ((0, 0), (0, 1)), constant_values=1.0)
        return np.array([measure(row[first] * row[second]) for row in times])

    return bootstrap_interval(statistic, albums, seed, limits=(0.0, most))


def _det_curve(
    scores: Floats, target: Flags
) -> tuple[NDArray[np.float64], Callable[[Floats], Rates]]:
    """The distinct scores (n,), ascending, and from weights (trials,) the rates at n + 1 points.

    Point i rejects the trials of the i lowest distinct scores and accepts the others: the first
    point accepts all, the last one none. NaN where a kind of trial has no weight.
    """
    if scores.shape != target.shape or scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"scores {scores.shape} do not fit kinds {target.shape}")
    order = np.argsort(scores, kind="stable")
    ranked, kind = scores[order].astype(np.float64), target[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each distinct score

    def rates(weights: Floats) -> Rates:
        sorted_weights = weights[order]
        missed = np.where(kind, sorted_weights, 0.0).cumsum()[last]
        rejected = np.where(kind, 0.0, sorted_weights).cumsum()[last]
        if not (missed[-1] > 0 and rejected[-1] > 0):
            nothing = np.full(len(last) + 1, np.nan)
            return nothing, nothing
        miss = np.concatenate(([0.0], missed / missed[-1]))
        # Not 1 − share: whole weights give rates that are equal when they are equal.
        return miss, np.concatenate(([1.0], (rejected[-1] - rejected) / rejected[-1]))

    return ranked[last], rates


def _equal_error(scores: NDArray[np.float64], rates: Rates) -> tuple[float, float]:
    """The equal error rate and the score at which it is reached.

    The points are joined by straight lines, which equal scores need (they can only be accepted or
    rejected together), and nothing else is smoothed: no convex hull. The rate is where that line
    crosses miss = false alarm.
    """
    miss, false_alarm = rates
    gap = miss - false_alarm  # from -1 to 1, never falling
    if np.isnan(gap).any():
        return float("nan"), float("nan")
    point = int(np.argmax(gap >= 0))
    if gap[point] == 0:
        last = int(np.searchsorted(gap, 0.0, side="right")) - 1
        between = scores[point - 1], scores[min(last, len(scores) - 1)]
        return float(miss[point]), float(sum(between) / 2)
    share = -gap[point - 1] / (gap[point] - gap[point - 1])
    rate = miss[point - 1] + share * (miss[point] - miss[point - 1])
    return float(rate), float(scores[point - 1])


def _mean(values: Floats, weights: Floats, among: Flags) -> float:
    total = weights[among].sum()
    return float((values[among] * weights[among]).sum() / total) if total > 0 else float("nan")
