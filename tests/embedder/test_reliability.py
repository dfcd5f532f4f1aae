"""Reliability bins and risk against coverage, recomputed song by song."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedder.intervals import wilson
from embedder.metrics import bootstrap_interval, ece
from embedder.reliability import aurc_of, first_choices, reliability_bins, risk_coverage


def made_up(songs: int, seed: int = 0, ties: bool = False) -> tuple[NDArray, NDArray]:
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
    confidence, right = made_up(songs, ties=ties)
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
    confidence, right = made_up(30)
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
    confidence, right = made_up(40, ties=ties)
    draws = np.random.default_rng(1).integers(40, size=(5, 40))
    weights = np.stack([np.bincount(draw, minlength=40) for draw in draws]).astype(float)
    found = aurc_of(confidence, right)(weights)
    for row, value in zip(draws, found, strict=True):
        assert value == pytest.approx(np.mean(slow_risks(confidence[row], right[row])))


def test_the_area_tells_a_good_confidence_from_a_useless_one() -> None:
    _, right = made_up(400)
    noise = np.random.default_rng(2).random(400)
    good = bootstrap_interval(aurc_of(0.5 * right + 0.1 * noise, right), 400)
    useless = bootstrap_interval(aurc_of(noise, right), 400)
    assert good.high < useless.low
    assert useless.low < 1 - right.mean() < useless.high


def test_shapes_that_do_not_fit_are_refused() -> None:
    for confidence, right in ((np.zeros(2), np.ones(3, bool)), (np.zeros(0), np.zeros(0, bool))):
        with pytest.raises(ValueError, match="does not fit right"):
            risk_coverage(confidence, right)
