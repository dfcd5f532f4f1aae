"""Sex: counted again song by song."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.inputs import Predicted
from analysis.singer_facts import SingerFacts
from analysis.voices.sexes import sex_of, sexes

SEX = {"A": "female", "B": "female", "C": "male", "D": "male"}


def predicted(named: list[int], truth: list[int], singers: str = "ABCDE") -> Predicted:
    probabilities = np.full((len(named), len(singers)), 0.1)
    probabilities[np.arange(len(named)), named] = 1 - 0.1 * (len(singers) - 1)
    ids = tuple(map(str, range(len(named))))
    return Predicted(
        "validation", ids, tuple(singers), probabilities, np.array(truth), ("",) * len(named)
    )


def test_counts_by_hand() -> None:
    #          right, same sex, crossing, crossing, named unknown, singer unknown
    table = predicted([0, 1, 2, 0, 4, 0], [0, 0, 0, 3, 1, 4])
    found = sexes(table, SEX)
    assert found is not None
    assert (found.kinds, found.songs, found.mistakes) == (("female", "male"), 4, 3)
    assert found.right.value == 2 / 4
    assert found.crossing is not None
    assert found.crossing.value == 2 / 3
    assert (found.right.low, found.crossing.high) == pytest.approx((0.062, 0.989), abs=0.001)
    assert found.crossing_chance == pytest.approx(2 / 3)  # of three others two are of the other sex
    given = [0.1 * 3, 0.6 + 0.2, 0.6 + 0.2, 0.6 + 0.2]
    other = [0.2, 0.2, 0.7, 0.7]
    assert found.given == pytest.approx(sum(other) / sum(given))
    assert found.given_chance == pytest.approx(2 / 3)


def test_chance_is_of_the_songs_that_are_wrong() -> None:
    """One man among three women: his mistakes always cross, theirs by chance one time in three."""
    sex = {"A": "f", "B": "f", "C": "f", "D": "m"}
    found = sexes(predicted([0, 0, 0, 1], [1, 2, 3, 1], "ABCD"), sex)
    assert found is not None
    assert found.mistakes == 3
    assert found.crossing_chance == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)


def test_nothing_to_say() -> None:
    assert sexes(predicted([0], [0]), SEX) is None
    assert sexes(predicted([0, 2], [0, 2]), {}) is None
    found = sexes(predicted([0, 2], [0, 2]), SEX)
    assert found is not None
    assert found.crossing is None
    assert found.mistakes == 0


def test_sex_as_the_csv_writes_it() -> None:
    facts = {"A": SingerFacts("F "), "B": SingerFacts("f"), "C": SingerFacts("", 100.0, 200.0)}
    assert sex_of(facts) == {"A": "f", "B": "f"}
