"""Agreement of experts: against scikit-learn's, and resampled one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from embedder.agreement import double_faults, kappas
from embedder.metrics import bootstrap_interval, mean_of


@pytest.fixture
def answers() -> tuple[NDArray, NDArray]:
    """Truth (60,) and what four experts name (4, 60), the last one as the first."""
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=60)
    named = np.where(rng.random((4, 60)) < 0.7, truth, rng.integers(5, size=(4, 60)))
    named[3] = named[0]
    return truth, named


def test_kappa_is_scikit_learns_with_the_bootstrap_of_one_pair(
    answers: tuple[NDArray, NDArray],
) -> None:
    _, named = answers
    found = kappas(named, seed=4)
    for i in range(4):
        for j in range(4):
            assert found.value[i, j] == pytest.approx(cohen_kappa_score(named[i], named[j]))
    first, second = named[1], named[2]
    slow = bootstrap_interval(
        lambda weights: np.array(
            [cohen_kappa_score(first, second, sample_weight=row) for row in weights[:400]]
        ),
        60,
        seed=4,
        limits=(-1.0, 1.0),
    )
    assert found.low[1, 2] == pytest.approx(slow.low, abs=0.02)
    assert found.high[1, 2] == pytest.approx(slow.high, abs=0.02)
    assert found.low[0, 3] == pytest.approx(0.05 ** (1 / 60))  # no song on which they differ
    assert found.high[0, 3] == 1


def test_double_faults_are_the_songs_that_both_miss(answers: tuple[NDArray, NDArray]) -> None:
    truth, named = answers
    found = double_faults(truth, named, seed=4)
    for i in range(4):
        for j in range(4):
            both = [a != t and b != t for a, b, t in zip(named[i], named[j], truth, strict=True)]
            expected = bootstrap_interval(mean_of(np.array(both)), 60, seed=4)
            assert found.value[i, j] == pytest.approx(expected.value)
            assert found.low[i, j] == pytest.approx(expected.low)
            assert found.high[i, j] == pytest.approx(expected.high)


def test_kappa_of_experts_that_name_one_singer_is_not_defined() -> None:
    named = np.array([[2, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 1]])
    found = kappas(named)
    assert np.isnan(found.value[0, 1])
    assert np.isnan(found.low[0, 1])
    assert found.value[0, 2] == pytest.approx(0)
    assert not np.isnan(found.low[0, 2])  # of the resamples in which it is defined


def test_chance_agreement_is_worth_nothing() -> None:
    rng = np.random.default_rng(1)
    named = (rng.random((2, 4000)) < 0.9).astype(int)
    assert (named[0] == named[1]).mean() > 0.8
    found = kappas(named)
    assert found.low[0, 1] < 0 < found.high[0, 1]
