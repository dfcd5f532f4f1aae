"""Numbers in words: plurals, signs, and no certainty where no song is wrong."""

from __future__ import annotations

import pytest

from analysis.wording import counted, interval, points
from embedder.metrics import Estimate


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 songs"), (1, "1 song"), (2, "2 songs"), (1413, "1,413 songs")]
)
def test_counted(number: int, text: str) -> None:
    assert counted(number, "song") == text


def test_an_interval_of_no_mistake_is_the_rule_of_three() -> None:
    assert interval(Estimate(0.95, 0.9, 0.987), 100) == "95% interval 90.0% to 98.7%"
    perfect = Estimate(1.0, 1.0, 1.0)
    assert interval(perfect, 60) == "no mistake among 60 songs, so up to 5.0% is likely"
    assert interval(perfect, 1) == "no mistake among 1 song, so up to 100.0% is likely"


def test_points_have_a_sign() -> None:
    found = points(Estimate(0.0123, -0.0101, 0.05))
    assert found == "+1.2 points, 95% interval −1.0 to +5.0"
    assert points(Estimate(-0.5, -0.6, -0.4)).startswith("−50.0 points")
