"""Error rates: by hand, recomputed threshold by threshold, and resampled by copying songs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_curve

from embedder.statistics import interval_limits
from ensemble.verification.error_rates import (
    Measure,
    cllr_measure,
    eer_measure,
    eer_threshold,
    min_dcf_measure,
    over_albums,
    share_measure,
)


def kinds(targets: list[float], others: list[float]) -> tuple[np.ndarray, np.ndarray]:
    scores = np.array([*targets, *others], dtype=np.float64)
    return scores, np.arange(len(scores)) < len(targets)


def whole(measure: Measure, trials: int) -> float:
    return measure(np.ones(trials))


def eer(scores: np.ndarray, target: np.ndarray) -> float:
    return whole(eer_measure(scores, target), len(scores))


def min_dcf(scores: np.ndarray, target: np.ndarray, p: float = 0.05) -> float:
    return whole(min_dcf_measure(scores, target, p), len(scores))


def points(scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Misses and false alarms at every threshold, by scikit-learn."""
    false_alarm, hits, _ = roc_curve(target, scores, drop_intermediate=False)
    return 1 - hits[::-1], false_alarm[::-1]


def drawn(seed: int, trials: int = 60, levels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Trials whose targets score higher, with many equal scores."""
    rng = np.random.default_rng(seed)
    target = rng.random(trials) < 0.3
    target[:2] = True, False
    return np.round(rng.normal(size=trials) * levels / 4 + 2 * target), target


# Equal error rate -------------------------------------------------------------------------------

BY_HAND = [
    ([3, 4], [1, 2], 0.0, 2.5),  # apart: the threshold is in the middle of the gap
    ([1, 2], [3, 4], 1.0, 2.5),  # the wrong way round
    ([1, 3], [0, 2], 0.5, 1.5),
    ([5, 5], [5, 5, 5], 0.5, 5.0),  # equal scores say nothing
    # Points (0, 1), (1/4, 1/2), (1, 0): a fifth of the way from the second to the third.
    ([0, 1, 1, 1], [0, 1], 0.4, 1.0),
    ([0, 7, 8, 9], [1, 2, 3, 4], 0.25, 3.5),  # one miss of four, one false alarm of four
    ([0, 7, 8], [1, 2, 9], 1 / 3, 4.5),  # thirds, which are no binary fractions
    ([0, 3, 4], [1, 1, 1, 2], 1 / 3, 1.0),  # at the step of three equal scores
]


@pytest.mark.parametrize(("targets", "others", "rate", "threshold"), BY_HAND)
def test_the_equal_error_rate_by_hand(
    targets: list[float], others: list[float], rate: float, threshold: float
) -> None:
    scores, target = kinds(targets, others)
    assert eer(scores, target) == pytest.approx(rate, abs=1e-12)
    assert eer_threshold(scores, target) == threshold


@pytest.mark.parametrize("seed", range(20))
def test_the_equal_error_rate_is_where_the_line_through_all_points_crosses(seed: int) -> None:
    scores, target = drawn(seed)
    miss, false_alarm = points(scores, target)
    crossing = np.interp(0.0, miss - false_alarm, miss)
    assert eer(scores, target) == pytest.approx(crossing, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_at_the_threshold_both_rates_are_within_one_trial_of_the_equal_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, target = kinds(list(rng.normal(1, 1, 30)), list(rng.normal(0, 1, 50)))
    threshold, rate = eer_threshold(scores, target), eer(scores, target)
    assert np.mean(scores[target] < threshold) == pytest.approx(rate, abs=1 / 30)
    assert np.mean(scores[~target] >= threshold) == pytest.approx(rate, abs=1 / 50)


def test_the_equal_error_rate_of_two_gaussians_is_known() -> None:
    grid = norm.ppf((np.arange(4000) + 0.5) / 4000)
    scores, target = kinds(list(grid + 2), list(grid))
    assert eer(scores, target) == pytest.approx(norm.cdf(-1), abs=1e-3)
    assert eer_threshold(scores, target) == pytest.approx(1.0, abs=0.01)


@given(seed=st.integers(0, 500), trials=st.integers(2, 40), levels=st.integers(1, 9))
def test_only_the_order_of_the_scores_matters(seed: int, trials: int, levels: int) -> None:
    scores, target = drawn(seed, trials, levels)
    order = np.random.default_rng(seed).permutation(trials)
    for rate in (eer, min_dcf):
        found = rate(scores, target)
        assert 0 <= found <= 1
        assert rate(scores[order], target[order]) == pytest.approx(found, abs=1e-12)
        assert rate(np.exp(scores / 5), target) == pytest.approx(found, abs=1e-12)
    # Kinds and scores turned over: misses are false alarms, and the rate is the same.
    assert eer(-scores, ~target) == pytest.approx(eer(scores, target), abs=1e-12)


# Detection cost ---------------------------------------------------------------------------------


def test_the_detection_cost_by_hand() -> None:
    # 10 targets, one of them below all others; 100 non-targets, one of them above 4 targets.
    targets = [-5, *range(20, 25), *range(31, 35)]
    scores, target = kinds([*map(float, targets)], [*np.linspace(0, 10, 99), 30.0])
    # Below 20: miss 1/10 and false alarm 1/100. Above 30: miss 6/10 and no false alarm.
    assert min_dcf(scores, target) == pytest.approx(min(0.1 + 19 * 0.01, 0.6))
    assert min_dcf(scores, target, 0.01) == pytest.approx(min(0.1 + 99 * 0.01, 0.6))
    assert min_dcf(scores, target, 0.5) == pytest.approx(0.1 + 0.01)


@pytest.mark.parametrize("p", [0.01, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_the_detection_cost_is_the_least_over_all_thresholds(seed: int, p: float) -> None:
    scores, target = drawn(seed)
    miss, false_alarm = points(scores, target)
    slow = (p * miss + (1 - p) * false_alarm).min() / min(p, 1 - p)
    assert min_dcf(scores, target, p) == pytest.approx(slow, abs=1e-12)


def test_one_who_never_listens_pays_1() -> None:
    scores, target = kinds([0.0] * 5, [0.0] * 50)
    assert min_dcf(scores, target) == 1
    assert min_dcf(scores, target, 0.99) == pytest.approx(1)


# Cost of log-likelihood ratios, shares ------------------------------------------------------------


def test_cllr_by_hand() -> None:
    target = np.array([True, True, False, False, False])
    assert whole(cllr_measure(np.zeros(5), target), 5) == pytest.approx(1)
    sure = np.where(target, 900.0, -900.0)
    assert whole(cllr_measure(sure, target), 5) == pytest.approx(0)
    assert whole(cllr_measure(-sure, target), 5) == pytest.approx(900 / math.log(2))
    odds = np.array([1.0, -2.0, 0.5, -3.0, 0.0])
    first = (math.log2(1 + math.exp(-1)) + math.log2(1 + math.exp(2))) / 2
    second = (math.log2(1 + math.exp(0.5)) + math.log2(1 + math.exp(-3)) + 1) / 3
    assert whole(cllr_measure(odds, target), 5) == pytest.approx((first + second) / 2)


def test_shares_are_among_one_kind() -> None:
    errors = np.array([True, False, False, True, True])
    target = np.array([True, True, True, False, False])
    assert whole(share_measure(errors, target), 5) == pytest.approx(1 / 3)
    assert whole(share_measure(errors, ~target), 5) == 1


# Weights and resamples ----------------------------------------------------------------------------

MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], Measure]] = {
    "eer": eer_measure,
    "min_dcf": min_dcf_measure,
    "cllr": cllr_measure,
    "miss": lambda scores, target: share_measure(scores < 1, target),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("seed", range(5))
def test_a_weight_of_three_is_the_trial_three_times(name: str, seed: int) -> None:
    scores, target = drawn(seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(scores))
    weights[:2] = 1, 2
    copied = MEASURES[name](scores.repeat(weights), target.repeat(weights))
    found = MEASURES[name](scores, target)(weights.astype(np.float64))
    assert found == pytest.approx(whole(copied, weights.sum()), abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("kind", [True, False])
def test_without_one_kind_of_trial_there_is_no_value(name: str, kind: bool) -> None:
    scores, target = drawn(0)
    measure = MEASURES[name](scores, target)
    only_of_targets = name == "miss"
    value = measure((target == kind).astype(float))
    assert math.isnan(value) == (not (kind and only_of_targets))


@pytest.mark.parametrize("name", MEASURES)
def test_the_interval_is_that_of_songs_copied_with_their_albums(name: str) -> None:
    rng = np.random.default_rng(3)
    albums, songs, known = 5, 3, 4  # evaluated albums, songs of each, training songs
    owner = np.repeat(np.arange(albums), songs)
    singer = np.array([0, 1, 2, 0, 1])[owner]
    voice = np.append(singer, [0, 1, 2, 2]) * 1.0 + rng.normal(0, 0.6, len(owner) + known)
    singers = np.append(singer, [0, 1, 2, 2])

    def trials(copies: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score, kind and album pair of the trials of copied albums, song by song."""
        rows: list[tuple[float, bool, tuple[int, int]]] = []

        def add(one: int, other: int, pair: tuple[int, int]) -> None:
            score = float(np.round(-abs(voice[one] - voice[other]), 1))
            rows.append((score + 1.5, bool(singers[one] == singers[other]), pair))

        for place, album in enumerate(copies):
            for one in np.flatnonzero(owner == album):
                for after in copies[place + 1 :]:
                    for other in np.flatnonzero(owner == after):
                        if after != album:
                            add(one, other, (album, after))
                for other in range(len(owner), len(voice)):
                    add(one, other, (album, -1))
        scores, kind, pairs = zip(*rows, strict=True)
        return np.array(scores), np.array(kind), np.array(pairs)

    scores, target, pairs = trials(list(range(albums)))
    found = over_albums(MEASURES[name](scores, target), pairs, seed=7)
    assert found.value == whole(MEASURES[name](scores, target), len(scores))

    draws = np.random.default_rng(7).integers(albums, size=(2000, albums))
    different, where = np.unique(np.sort(draws, axis=1), axis=0, return_inverse=True)
    slow = []
    for drawn in different:
        copied, kind, _ = trials(drawn.tolist())
        slow.append(whole(MEASURES[name](copied, kind), len(copied)))
    values = np.array(slow)[where]
    variance = np.array(values[~np.isnan(values)].var())
    low, high = interval_limits(np.array(found.value), variance, albums, albums, (0.0, 1.0))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_albums_that_differ_give_wider_intervals_than_trials_that_differ() -> None:
    rng = np.random.default_rng(0)
    album = np.repeat(np.arange(10), 200)
    target = np.tile([True, False], 1000)
    wrong = rng.random(10)[album] < 0.5  # all trials of an album are right, or all wrong
    pairs = np.stack([album, np.full(2000, -1)], axis=1)
    found = over_albums(share_measure(wrong, target), pairs)
    alone = np.stack([np.arange(2000), np.full(2000, -1)], axis=1)
    naive = over_albums(share_measure(wrong, target), alone)
    assert found.value == naive.value
    assert found.high - found.low > 5 * (naive.high - naive.low)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        eer_measure(np.zeros(3), np.array([True, False]))
    with pytest.raises(ValueError, match="do not fit"):
        eer_measure(np.zeros(0), np.zeros(0, bool))
