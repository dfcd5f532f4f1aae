"""Metrics: each recomputed slowly or by scikit-learn; intervals checked for what they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import brier_score_loss, f1_score, log_loss
from sklearn.metrics import confusion_matrix as sk_confusion

from embedder import metrics, statistics
from embedder.metrics import aurc_of, ece, first_choices, reliability_bins, risk_coverage
from embedder.statistics import bootstrap_interval, wilson

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
                label in sorted(range(SINGERS), key=lambda c: -row[c])[:k]
                for label, row in zip(truth, logs, strict=True)
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
        sum((math.exp(log) - (singer == label)) ** 2 for singer, log in enumerate(row))
        for label, row in zip(truth, logs, strict=True)
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


Maker = Callable[[np.ndarray, np.ndarray], statistics.Statistic]
STATISTICS: dict[str, tuple[Maker, Callable[[np.ndarray, np.ndarray], float]]] = {
    "nll": (lambda truth, logs: statistics.mean_of(metrics.song_nll(truth, logs)), metrics.nll),
    "brier": (
        lambda truth, logs: statistics.mean_of(metrics.song_brier(truth, logs)),
        metrics.brier,
    ),
    "score": (
        lambda truth, logs: statistics.mean_of(metrics.song_score(truth, logs)),
        metrics.score,
    ),
    "top_1": (
        lambda truth, logs: statistics.mean_of(metrics.top_k_hits(truth, logs, 1)),
        lambda truth, logs: metrics.top_k(truth, logs, 1),
    ),
}


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_resamples_at_once_equal_resamples_one_by_one(name: str) -> None:
    truth, logs = made_up(37, 3)
    draws = np.random.default_rng(4).integers(37, size=(20, 37))
    make, plain = STATISTICS[name]
    slow = [plain(truth[draw], logs[draw]) for draw in draws]
    weights = np.stack([np.bincount(draw, minlength=37) for draw in draws]).astype(float)
    np.testing.assert_allclose(make(truth, logs)(weights), slow, atol=1e-12)


def test_a_singer_counts_in_macro_f1_as_often_as_drawn() -> None:
    truth, logs = made_up(37, 3)
    predicted = logs.argmax(axis=1)
    statistic = metrics.macro_f1_of(truth, predicted)
    for weights in np.random.default_rng(4).integers(3, size=(20, 37)):
        rows = np.repeat(np.arange(37), weights)
        f1 = f1_score(truth[rows], predicted[rows], labels=range(SINGERS), average=None)
        times = np.bincount(truth[rows], minlength=SINGERS) / np.bincount(truth)
        assert statistic(weights[None].astype(float))[0] == pytest.approx(f1 @ times / times.sum())


# Calibration ------------------------------------------------------------------------------------


def confident(
    rng: np.random.Generator, songs: int = 100, together: float = 0.0, sharper: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Truth and log-probabilities over 20 singers, right with the confidence^(1 / sharper)."""
    logits = rng.normal(size=(songs, 20))
    logits[np.arange(songs), rng.integers(20, size=songs)] += 6.6
    chances = np.exp(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    places = norm.cdf(
        together**0.5 * np.repeat(rng.normal(size=songs // 5), 5)
        + (1 - together) ** 0.5 * rng.normal(size=songs)
    )
    right = places < chances.max(axis=1)
    truth = chances.argmax(axis=1)
    truth = np.where(right, truth, (truth + 1) % 20)
    raised = chances**sharper
    return truth, np.log(raised / raised.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("together", [0.0, 0.4])
def test_exact_confidences_are_called_calibrated_nineteen_times_in_twenty(
    together: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n = 100, top-1 0.94, 20 singers; also where songs of an album are right together."""
    monkeypatch.setattr(metrics, "RESAMPLES", 500)
    rng, found, accuracy = np.random.default_rng(3), [], []
    for _ in range(300):
        truth, logs = confident(rng, together=together)
        accuracy.append(metrics.top_k(truth, logs, 1))
        found.append(metrics.calibration_error(truth, logs))
    values = [one.value for one in found]
    calibrated = float(np.mean([one.calibrated for one in found]))
    print(
        f"{together}: top-1 {np.mean(accuracy):.3f}, mean ECE {np.mean(values):.3f}, "
        f"limit {np.mean([one.limit for one in found]):.3f}, calibrated {calibrated:.3f}"
    )
    assert 0.92 < np.mean(accuracy) < 0.96
    assert np.mean(values) > 0.03  # though every confidence is exactly right
    assert (0.88 if together else 0.92) <= calibrated <= 0.98


def test_a_model_that_is_too_sure_is_found_out() -> None:
    rng = np.random.default_rng(4)
    found = [metrics.calibration_error(*confident(rng, 300, sharper=3.0)) for _ in range(20)]
    assert not any(one.calibrated for one in found)
    assert str(metrics.CalibrationError(0.0371, 0.0712)) == "0.037 (calibrated: to 0.071)"


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
    assert found.ece == metrics.calibration_error(truth, logs, 2)
    for name in ("top_1", "top_3", "score", "macro_f1", "nll", "brier"):
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
        statistics.bootstrap_interval(statistics.mean_of(np.zeros(0)), 0)


# Reliability -------------------------------------------------------------------------------------


def levelled(songs: int, seed: int = 0, ties: bool = False) -> tuple[NDArray, NDArray]:
    """Confidences and whether they are right, rather more often where they are high."""
    rng = np.random.default_rng(seed)
    confidence = rng.integers(1, 6, songs) / 5 if ties else rng.random(songs)
    return confidence, rng.random(songs) < confidence


def slow_risks(confidence: NDArray, right: NDArray) -> list[float]:
    """The mean over all orders of equal ones: each stands for the mean of its level."""
    songs = sorted(zip(-confidence, right, strict=True), key=lambda song: song[0])
    found, errors = [], 0.0
    for place, (level, _) in enumerate(songs, start=1):
        equal = [1 - hit for other, hit in songs if other == level]
        errors += sum(equal) / len(equal)
        found.append(errors / place)
    return found


def test_first_choices_are_the_highest_and_of_equal_ones_the_first() -> None:
    probabilities = np.array([[0.2, 0.8], [0.5, 0.5], [0.5, 0.5]])
    confidence, right = first_choices(np.array([1, 0, 1]), probabilities)
    np.testing.assert_array_equal(confidence, [0.8, 0.5, 0.5])
    np.testing.assert_array_equal(right, [True, True, False])


@pytest.mark.parametrize("songs", [1, 14, 15, 31, 200])
@pytest.mark.parametrize("ties", [False, True])
def test_bins_hold_equally_many_songs_by_ascending_confidence(songs: int, ties: bool) -> None:
    confidence, right = levelled(songs, ties=ties)
    found = reliability_bins(confidence, right)
    sizes = [one.songs for one in found]
    assert len(found) == min(15, songs)
    assert sum(sizes) == songs
    assert max(sizes) - min(sizes) <= 1
    means = [part.mean() for part in np.array_split(np.sort(confidence), len(found))]
    np.testing.assert_allclose([one.confidence for one in found], means)
    hits = sum(one.songs * one.accuracy.value for one in found)
    assert hits == pytest.approx(right.sum())


def test_bins_are_those_of_the_metric() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(100, 4)) * 2
    truth = rng.integers(4, size=100)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = reliability_bins(*first_choices(truth, probabilities))
    error = sum(one.songs / 100 * abs(one.confidence - one.accuracy.value) for one in found)
    assert error == pytest.approx(ece(truth, np.log(probabilities)))


def test_a_bin_has_the_interval_of_its_songs() -> None:
    confidence, right = levelled(30)
    order = np.argsort(confidence)
    for number, one in enumerate(reliability_bins(confidence, right)):
        part = order[2 * number : 2 * number + 2]
        assert one.confidence == pytest.approx(confidence[part].mean())
        assert one.accuracy == wilson(int(right[part].sum()), 2)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_risks_are_recomputed_and_do_not_depend_on_the_order(songs: list[tuple[int, bool]]) -> None:
    confidence = np.array([level / 4 for level, _ in songs])
    right = np.array([hit for _, hit in songs])
    found = risk_coverage(confidence, right)
    np.testing.assert_allclose(found, slow_risks(confidence, right), atol=1e-12)
    np.testing.assert_allclose(found, risk_coverage(confidence[::-1], right[::-1]), atol=1e-12)
    assert found[-1] == pytest.approx(1 - right.mean())
    every = np.ones((1, len(songs)))
    assert aurc_of(confidence, right)(every)[0] == pytest.approx(found.mean())


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_of_a_resample_is_that_of_its_songs(ties: bool) -> None:
    confidence, right = levelled(40, ties=ties)
    draws = np.random.default_rng(1).integers(40, size=(5, 40))
    weights = np.stack([np.bincount(draw, minlength=40) for draw in draws]).astype(float)
    found = aurc_of(confidence, right)(weights)
    for row, value in zip(draws, found, strict=True):
        assert value == pytest.approx(np.mean(slow_risks(confidence[row], right[row])))


def test_the_area_tells_a_good_confidence_from_a_useless_one() -> None:
    _, right = levelled(400)
    noise = np.random.default_rng(2).random(400)
    good = bootstrap_interval(aurc_of(0.5 * right + 0.1 * noise, right), 400)
    useless = bootstrap_interval(aurc_of(noise, right), 400)
    assert good.high < useless.low
    assert useless.low < 1 - right.mean() < useless.high


def test_shapes_that_do_not_fit_are_refused() -> None:
    for confidence, right in ((np.zeros(2), np.ones(3, bool)), (np.zeros(0), np.zeros(0, bool))):
        with pytest.raises(ValueError, match="does not fit right"):
            risk_coverage(confidence, right)
