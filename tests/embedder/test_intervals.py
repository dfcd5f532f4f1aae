"""Intervals in closed form: against scipy's, and by trying them on made-up songs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from embedder.intervals import difference, wilson
from embedder.metrics import Estimate


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (3, 7), (7, 7), (0, 90), (1412, 1413)])
def test_wilson_is_scipys(hits: int, count: int) -> None:
    found = wilson(hits, count)
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert found.value == hits / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_takes_shared_hits_and_keeps_its_limits_around_them() -> None:
    low, middle, high = (wilson(hits, 10) for hits in (6, 6.5, 7))
    assert low.low < middle.low < high.low
    assert low.high < middle.high < high.high
    for hits in (0, 1e-17, 5, 10 + 1e-12):
        found = wilson(hits, 10)
        assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(hits: float, count: int) -> None:
    with pytest.raises(ValueError, match=f"not {hits} of {count}"):
        wilson(hits, count)


def test_symmetric_intervals_differ_as_standard_errors_do() -> None:
    found = difference(Estimate(0.9, 0.9 - 0.03, 0.9 + 0.03), Estimate(0.7, 0.7 - 0.04, 0.7 + 0.04))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.15, 0.25))


def test_each_limit_comes_from_the_sides_that_move_it() -> None:
    """The difference is lowest where the first is low and the second high."""
    found = difference(Estimate(0.9, 0.8, 0.9), Estimate(0.5, 0.5, 0.5))
    assert (found.low, found.high) == pytest.approx((0.3, 0.4))
    found = difference(Estimate(0.5, 0.5, 0.5), Estimate(0.9, 0.8, 0.9))
    assert (found.low, found.high) == pytest.approx((-0.4, -0.3))


def test_the_difference_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.binomial(60, 0.9, 2000), rng.binomial(40, 0.7, 2000)
    held = [
        found.low <= 0.2 <= found.high
        for found in (
            difference(wilson(a, 60), wilson(b, 40)) for a, b in zip(first, second, strict=True)
        )
    ]
    assert 0.93 < np.mean(held) < 0.975
