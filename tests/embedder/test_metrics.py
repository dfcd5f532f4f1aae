"""Metrics: each recomputed slowly or by scikit-learn; intervals checked for what they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score, log_loss
from sklearn.metrics import confusion_matrix as sk_confusion

from embedder import metrics

SINGERS = 5


def made_up(songs: int, seed: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and log-probabilities that are right more often than not."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(SINGERS, size=songs)
    logits = rng.normal(size=(songs, SINGERS))
    logits[np.arange(songs), truth] += sharpness
    return truth, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def slow_ece(truth: np.ndarray, log_probabilities: np.ndarray, bins: int = 15) -> float:
    """Equal-mass ECE by hand, for confidences that are all different."""
    songs = sorted(
        (math.exp(max(row)), float(int(np.argmax(row)) == label))
        for row, label in zip(log_probabilities, truth, strict=True)
    )
    bins = min(bins, len(songs))
    size, longer = divmod(len(songs), bins)
    total, start = 0.0, 0
    for number in range(bins):
        part = songs[start : start + size + (number < longer)]
        start += len(part)
        confidence = sum(c for c, _ in part) / len(part)
        accuracy = sum(a for _, a in part) / len(part)
        total += len(part) / len(songs) * abs(confidence - accuracy)
    return total


@pytest.mark.parametrize("songs", [1, 2, 14, 15, 16, 100, 333])
@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_agree_with_slow_ones(songs: int, seed: int) -> None:
    truth, logs = made_up(songs, seed)
    predicted = logs.argmax(axis=1)
    for k in (1, 2, 3):
        slow = np.mean(
            [
                t in sorted(range(SINGERS), key=lambda c: -row[c])[:k]
                for t, row in zip(truth, logs, strict=True)
            ]
        )
        assert metrics.top_k(truth, logs, k) == pytest.approx(slow)
    assert metrics.score(truth, logs) == pytest.approx(
        metrics.top_k(truth, logs, 1) + 0.5 * metrics.top_k(truth, logs, 3)
    )
    assert metrics.nll(truth, logs) == pytest.approx(
        log_loss(truth, np.exp(logs), labels=range(SINGERS))
    )
    assert metrics.ece(truth, logs) == pytest.approx(slow_ece(truth, logs))
    errors = [
        sum((math.exp(log) - (singer == t)) ** 2 for singer, log in enumerate(row))
        for t, row in zip(truth, logs, strict=True)
    ]
    np.testing.assert_allclose(metrics.song_brier(truth, logs), errors, rtol=1e-12)
    assert metrics.brier(truth, logs) == pytest.approx(np.mean(errors))
    assert metrics.brier(truth, logs) == pytest.approx(
        brier_score_loss(truth, np.exp(logs), labels=range(SINGERS), scale_by_half=False)
    )
    assert metrics.macro_f1(truth, predicted) == pytest.approx(
        f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    )
    np.testing.assert_array_equal(
        metrics.confusion_matrix(truth, predicted, SINGERS),
        sk_confusion(truth, predicted, labels=range(SINGERS)),
    )


def test_macro_f1_is_over_the_singers_that_occur() -> None:
    truth = np.array([0, 0, 1, 1])
    predicted = np.array([0, 2, 1, 1])  # singer 2 is predicted but never sings
    assert metrics.macro_f1(truth, predicted) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.macro_f1(truth, truth) == 1
    assert metrics.macro_f1(truth, np.array([3, 3, 3, 3])) == 0


def test_equal_scores_are_ranked_in_label_order() -> None:
    scores = np.array([[0.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    np.testing.assert_array_equal(metrics.ranking(scores), [[1, 2, 0, 3], [0, 1, 2, 3]])
    assert metrics.top_k(np.array([2, 3]), scores, 1) == 0
    assert metrics.top_k(np.array([2, 3]), scores, 2) == 0.5


def test_each_song_adds_one_and_a_half_a_half_or_nothing_to_the_score() -> None:
    scores = np.tile([3.0, 2.0, 1.0, 0.0], (4, 1))
    points = metrics.song_score(np.arange(4), scores)
    np.testing.assert_array_equal(points, [1.5, 0.5, 0.5, 0.0])
    assert metrics.score(np.arange(4), scores) == points.mean()
    truth, logs = made_up(50, 5)
    assert metrics.song_score(truth, logs).mean() == pytest.approx(metrics.score(truth, logs))


def test_brier_of_known_cases() -> None:
    sure = np.log(np.array([[1 - 1e-12, 1e-12]]))
    assert metrics.brier(np.array([0]), sure) == pytest.approx(0, abs=1e-9)
    assert metrics.brier(np.array([1]), sure) == pytest.approx(2, abs=1e-9)
    even = np.log(np.full((3, 4), 1 / 4))
    np.testing.assert_allclose(metrics.song_brier(np.array([0, 1, 3]), even), 3 / 4)
    nothing = np.array([[0.0, -np.inf]])  # a singer who cannot be
    np.testing.assert_array_equal(metrics.song_brier(np.array([1]), nothing), [2.0])


def test_fewer_than_three_singers_are_all_within_the_top_three() -> None:
    scores = np.log([[0.9, 0.1], [0.8, 0.2]])
    assert metrics.score(np.array([0, 1]), scores) == 0.5 + 0.5


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), songs=st.integers(1, 60), levels=st.integers(1, 6))
def test_the_order_of_the_songs_changes_nothing(seed: int, songs: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(SINGERS, size=songs)
    confidence = rng.choice(np.linspace(0.3, 0.9, levels), size=songs)  # many ties
    probabilities = np.repeat(((1 - confidence) / (SINGERS - 1))[:, None], SINGERS, axis=1)
    probabilities[np.arange(songs), rng.integers(SINGERS, size=songs)] = confidence
    logs, order = np.log(probabilities), rng.permutation(songs)
    one, other = metrics.ece(truth, logs), metrics.ece(truth[order], logs[order])
    assert one == pytest.approx(other, abs=1e-12)
    assert 0 <= one <= 1


def test_ece_of_known_cases() -> None:
    sure = np.log(np.array([[1 - 1e-12, 1e-12]] * 40))
    assert metrics.ece(np.zeros(40, int), sure) == pytest.approx(0, abs=1e-9)
    assert metrics.ece(np.ones(40, int), sure) == pytest.approx(1, abs=1e-9)
    # Confidence 0.75 throughout, three of four right, in any order: perfectly calibrated.
    calibrated = np.log(np.array([[0.75, 0.25]] * 40))
    assert metrics.ece(np.arange(40) // 30, calibrated) == pytest.approx(0, abs=1e-9)


def test_recall_per_singer_counts_songs_and_leaves_the_absent_undefined() -> None:
    recall, songs = metrics.per_singer_recall(np.array([0, 0, 0, 2]), np.array([0, 1, 0, 2]), 3)
    np.testing.assert_allclose(recall, [2 / 3, np.nan, 1])
    np.testing.assert_array_equal(songs, [3, 0, 1])


Maker = Callable[[np.ndarray, np.ndarray], metrics.Statistic]
STATISTICS: dict[str, tuple[Maker, Callable[[np.ndarray, np.ndarray], float]]] = {
    "macro_f1": (
        lambda truth, logs: metrics.macro_f1_of(truth, logs.argmax(axis=1)),
        lambda truth, logs: metrics.macro_f1(truth, logs.argmax(axis=1)),
    ),
    "ece": (metrics.ece_of, metrics.ece),
    "nll": (lambda truth, logs: metrics.mean_of(metrics.song_nll(truth, logs)), metrics.nll),
    "brier": (lambda truth, logs: metrics.mean_of(metrics.song_brier(truth, logs)), metrics.brier),
    "score": (lambda truth, logs: metrics.mean_of(metrics.song_score(truth, logs)), metrics.score),
    "top_1": (
        lambda truth, logs: metrics.mean_of(metrics.top_k_hits(truth, logs, 1)),
        lambda truth, logs: metrics.top_k(truth, logs, 1),
    ),
}


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_resamples_at_once_equal_resamples_one_by_one(name: str) -> None:
    truth, logs = made_up(37, 3)
    draws = np.random.default_rng(4).integers(37, size=(20, 37))
    make, plain = STATISTICS[name]
    slow = [plain(truth[draw], logs[draw]) for draw in draws]
    np.testing.assert_allclose(make(truth, logs)(draws), slow, atol=1e-12)


def test_the_interval_of_a_mean_is_that_of_the_binomial() -> None:
    hits = np.arange(400) < 300
    found = metrics.bootstrap_interval(metrics.mean_of(hits), 400, seed=1)
    deviation = math.sqrt(0.75 * 0.25 / 400)
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - 1.96 * deviation, abs=0.006)
    assert found.high == pytest.approx(0.75 + 1.96 * deviation, abs=0.006)


@pytest.mark.parametrize("songs", [3, 12_345])
def test_intervals_repeat_with_the_seed_whatever_the_size(songs: int) -> None:
    hits = np.random.default_rng(0).random(songs) < 0.6
    one, again, other = (
        metrics.bootstrap_interval(metrics.mean_of(hits), songs, seed=seed) for seed in (5, 5, 6)
    )
    assert one == again
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high) or songs == 3
    assert 0 <= one.low <= one.value <= one.high <= 1


def test_a_resample_without_a_value_is_left_out() -> None:
    values = np.append(np.random.default_rng(0).normal(size=12), np.nan)

    def statistic(draws: np.ndarray) -> np.ndarray:
        counted = np.where((draws < 2).any(axis=1), 1.0, np.nan)  # without the first two: none
        return counted * np.nanmean(values[draws], axis=1)

    found = metrics.bootstrap_interval(statistic, 13, seed=3)
    resampled = statistic(np.random.default_rng(3).integers(13, size=(2000, 13)))
    assert 0.02 < np.isnan(resampled).mean() < 0.5
    assert (found.low, found.high) == pytest.approx(
        tuple(np.nanquantile(resampled, [0.025, 0.975]))
    )
    nothing = metrics.bootstrap_interval(lambda draws: np.full(len(draws), np.nan), 13)
    assert all(map(math.isnan, (nothing.value, nothing.low, nothing.high)))


def test_a_pair_that_always_differs_by_a_tenth_is_certain_to() -> None:
    values = np.random.default_rng(0).random(50)
    found = metrics.paired_difference(metrics.mean_of(values + 0.1), metrics.mean_of(values), 50)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_centred_interval_lies_around_the_value_where_resampling_inflates_it() -> None:
    truth, logs = made_up(300, 11)
    plain = metrics.bootstrap_interval(metrics.ece_of(truth, logs), 300)
    centred = metrics.bootstrap_interval(metrics.ece_of(truth, logs), 300, centred=True)
    rng = np.random.default_rng(0)
    resampled = [
        metrics.ece(truth[draw], logs[draw]) for draw in rng.integers(300, size=(2000, 300))
    ]
    bias = np.mean(resampled) - plain.value
    assert bias > 0.005
    assert centred.value == plain.value
    assert centred.low == pytest.approx(np.quantile(resampled, 0.025) - bias, abs=0.003)
    assert centred.high == pytest.approx(np.quantile(resampled, 0.975) - bias, abs=0.003)
    assert plain.high - plain.low == pytest.approx(centred.high - centred.low)


def test_summary_holds_each_metric_with_its_interval() -> None:
    truth, logs = made_up(120, 7)
    found = metrics.summarise(truth, logs, seed=2)
    assert found.songs == 120
    assert found.top_1.value == metrics.top_k(truth, logs, 1)
    assert found.top_3.value == metrics.top_k(truth, logs, 3)
    assert found.score.value == pytest.approx(metrics.score(truth, logs))
    assert found.macro_f1.value == metrics.macro_f1(truth, logs.argmax(axis=1))
    assert found.nll.value == metrics.nll(truth, logs)
    assert found.brier.value == metrics.brier(truth, logs)
    assert found.ece.value == metrics.ece(truth, logs)
    for name in ("top_1", "top_3", "score", "macro_f1", "nll", "brier", "ece"):
        estimate = getattr(found, name)
        assert estimate.low < estimate.value < estimate.high
    assert str(found.top_1) == (
        f"{found.top_1.value:.3f} [{found.top_1.low:.3f}, {found.top_1.high:.3f}]"
    )


def test_labels_and_shapes_are_checked() -> None:
    logs = np.log(np.full((2, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        metrics.nll(np.array([0, -1]), logs)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        metrics.brier(np.array([3, 0]), logs)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        metrics.top_k(np.array([0, 3]), logs, 1)
    with pytest.raises(ValueError, match="does not fit"):
        metrics.ece(np.array([0]), logs)
    with pytest.raises(ValueError, match="no songs"):
        metrics.bootstrap_interval(metrics.mean_of(np.zeros(0)), 0)
