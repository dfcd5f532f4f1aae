"""Numbers in words: plurals, signs, and no certainty where no song is wrong."""

from __future__ import annotations

import pytest

from analysis.wording import interval, points
from embedder.statistics import Estimate
from embedder.text import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 songs"), (1, "1 song"), (2, "2 songs"), (1413, "1,413 songs")]
)
def test_counted(number: int, text: str) -> None:
    assert counted(number, "song") == text


def test_an_interval_of_no_mistake_names_the_albums_it_rests_on() -> None:
    assert interval(Estimate(0.95, 0.9, 0.987), 100) == "95% interval 90.0% to 98.7%"
    perfect = Estimate(1.0, 0.861, 1.0, groups=20)
    assert interval(perfect, 100) == "no mistake in 20 albums, so up to 13.9% is likely"
    assert interval(perfect, 20) == "no mistake in 20 songs, so up to 13.9% is likely"


def test_points_have_a_sign() -> None:
    found = points(Estimate(0.0123, -0.0101, 0.05))
    assert found == "+1.2 points, 95% interval −1.0 to +5.0"
    assert points(Estimate(-0.5, -0.6, -0.4)).startswith("−50.0 points")
