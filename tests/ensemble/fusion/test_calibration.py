"""Temperatures: found again where they are known, and held back where nothing limits them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from embedder.metrics import nll
from ensemble.fusion.calibration import (
    LIMITS,
    PRIOR_SD,
    TemperatureScaling,
    log_softmax,
)


def drawn(songs: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at `temperature` is the exact distribution of the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(songs, 6)) * 2
    probabilities = np.exp(log_softmax(logits))
    labels = np.array([rng.choice(6, p=row) for row in probabilities])
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.2, 1.0, 4.0])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    logits, labels = drawn(4000, temperature)
    assert TemperatureScaling.fit(logits, labels).temperature == pytest.approx(
        temperature, rel=0.06
    )


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 500), songs=st.integers(1, 30), scale=st.floats(0.05, 20))
def test_no_temperature_on_a_fine_grid_does_better(seed: int, songs: int, scale: float) -> None:
    logits, labels = drawn(songs, scale, seed)

    def objective(temperature: float) -> float:
        prior = np.log(temperature) ** 2 / (2 * PRIOR_SD**2)
        return nll(
            labels, TemperatureScaling(temperature).log_probabilities(logits)
        ) * songs + float(prior)

    found = TemperatureScaling.fit(logits, labels).temperature
    assert LIMITS[0] <= found <= LIMITS[1]
    assert objective(found) <= min(map(objective, np.geomspace(*LIMITS, 400))) + 1e-6


def test_songs_that_are_all_right_do_not_drive_the_temperature_to_zero() -> None:
    labels = np.arange(50) % 5
    logits = np.eye(5)[labels] * 8.0
    found = TemperatureScaling.fit(logits, labels).temperature
    assert 0.3 < found < 1.0
    confidence = np.exp(TemperatureScaling(found).log_probabilities(logits).max())
    assert confidence < 1 - 1e-9


def test_noise_is_flattened() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(300, 5)) * 5, rng.integers(5, size=300)
    calibrated = TemperatureScaling(
        TemperatureScaling.fit(logits, labels).temperature
    ).log_probabilities(logits)
    assert nll(labels, calibrated) == pytest.approx(np.log(5), abs=0.02)


def test_log_softmax_is_exact_and_bears_large_logits() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [0.1, 0.2, 0.3]])
    got = log_softmax(logits)
    np.testing.assert_allclose(got[0], [0, -1e4, -2e4])
    slow = np.exp(logits[1]) / np.exp(logits[1]).sum()
    np.testing.assert_allclose(got[1], np.log(slow), rtol=1e-12)
    np.testing.assert_array_equal(TemperatureScaling(1.0).log_probabilities(logits), got)


def test_unknown_labels_and_temperatures_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="labelled songs"):
        TemperatureScaling.fit(np.zeros((2, 3)), np.array([0, -1]))
    with pytest.raises(ValueError, match="at least on one"):
        TemperatureScaling.fit(np.zeros((0, 3)), np.zeros(0, int))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be above 0"):
            TemperatureScaling(temperature).log_probabilities(np.zeros((1, 2)))


def test_a_row_that_counts_twice_is_two_rows() -> None:
    logits, labels = drawn(40, 2.0, seed=3)
    shares = np.where(np.arange(40) < 25, 2.0, 1.0)
    twice = np.repeat(np.arange(40), shares.astype(int))
    expected = TemperatureScaling.fit(logits[twice], labels[twice]).temperature
    assert TemperatureScaling.fit(logits, labels, shares).temperature == pytest.approx(
        expected, rel=1e-4
    )


class Stored(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logits that were stored, as a classifier that needs no fitting."""

    def __init__(self, singers: int = 6) -> None:
        self.singers = singers
        self.classes_ = np.arange(singers)

    def fit(self, *_: np.ndarray) -> Stored:
        raise AssertionError("the logits are there already")

    def decision_function(self, logits: np.ndarray) -> np.ndarray:
        return logits

    def predict(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(logits.argmax(axis=1))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_scikit_learn_scales_by_the_same_temperature(temperature: float) -> None:
    """Where the songs are so many, and so often wrong, that the prior does not matter."""
    logits, labels = drawn(3000, temperature, seed=1)
    scaled = CalibratedClassifierCV(FrozenEstimator(Stored()), method="temperature")
    scaled.fit(logits, labels)
    found = TemperatureScaling.fit(logits, labels).temperature
    (calibrated,) = scaled.calibrated_classifiers_
    assert found == pytest.approx(1 / calibrated.calibrators[0].beta_, rel=2e-3)
    np.testing.assert_allclose(
        np.exp(TemperatureScaling(found).log_probabilities(logits)),
        scaled.predict_proba(logits),
        atol=2e-3,
    )
