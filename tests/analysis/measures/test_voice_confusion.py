"""Overlap against confusion, computed again with loops and with scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.measures.voice_confusion import (
    Pairs,
    mistakes_overlap,
    pairs_of,
    relation,
    sex_of,
    sexes,
)
from analysis.measures.voices import overlap
from analysis.run_data import Predicted
from analysis.singer_facts import SingerFacts

NAMES = ("A", "B", "C", "D", "E", "F")
RANGES = {
    "A": (100.0, 200.0), "B": (110.0, 220.0), "C": (150.0, 300.0), "D": (200.0, 400.0),
    "E": (300.0, 600.0),
}  # fmt: skip


def predicted(seed: int = 0, songs: int = 40, singers: int = 5) -> Predicted:
    """Songs of the first singers; nobody knows the range of F, who has no song."""
    rng = np.random.default_rng(seed)
    truth = np.arange(songs) % singers
    probabilities = rng.dirichlet(np.ones(len(NAMES)), songs)
    probabilities[np.arange(songs), truth] += 0.25
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    ids = tuple(str(song) for song in range(songs))
    return Predicted("validation", ids, NAMES, probabilities, truth, ("",) * songs)


def test_pairs_by_hand() -> None:
    table = predicted()
    found = pairs_of(table, RANGES)
    named = table.probabilities.argmax(axis=1)
    wanted = list(itertools.combinations(range(5), 2))
    assert list(zip(found.first, found.second, strict=True)) == wanted
    for row, (a, b) in enumerate(wanted):
        one = np.mean(
            [p[b] for p, t in zip(table.probabilities, table.truth, strict=True) if t == a]
        )
        other = np.mean(
            [p[a] for p, t in zip(table.probabilities, table.truth, strict=True) if t == b]
        )
        assert found.probability[row] == pytest.approx((one + other) / 2)
        assert found.overlap[row] == overlap(RANGES[NAMES[a]], RANGES[NAMES[b]])
        taken = sum((t, n) in ((a, b), (b, a)) for t, n in zip(table.truth, named, strict=True))
        assert found.mistakes[row] == taken
    assert found.mistakes.sum() > 0


def test_singers_without_songs_or_range_are_in_no_pair() -> None:
    found = pairs_of(predicted(singers=3), {name: RANGES[name] for name in "BCD"})
    assert list(zip(found.first, found.second, strict=True)) == [(1, 2)]
    assert len(pairs_of(predicted(), {}).first) == 0


def made(overlaps: np.ndarray, probability: np.ndarray, singers: int) -> Pairs:
    first, second = np.triu_indices(singers, 1)
    return Pairs(first, second, overlaps, probability, np.zeros(len(first), np.int64))


def test_the_correlation_is_spearmans_and_p_is_mantels() -> None:
    rng = np.random.default_rng(3)
    overlaps, noise = rng.random(45), rng.random(45)
    for probability in (noise, overlaps + 0.5 * noise, -overlaps + 0.2 * noise):
        found = relation(made(overlaps.round(1), probability, 10))
        assert found is not None
        assert found.rho == pytest.approx(spearmanr(overlaps.round(1), probability).statistic)
    assert found.rho < -0.9
    assert found.p == pytest.approx(1 / 2001)


def test_p_is_the_share_of_all_orders_of_the_singers() -> None:
    """Of five singers all 120 orders can be asked."""
    rng = np.random.default_rng(5)
    one, other = rng.random(10), rng.random(10)
    first, second = np.triu_indices(5, 1)
    square = np.zeros((5, 5))
    square[first, second] = square[second, first] = one
    found = relation(made(one, other, 5))
    assert found is not None
    values = []
    for order in itertools.permutations(range(5)):
        moved = square[np.ix_(order, order)][first, second]
        values.append(spearmanr(moved, other).statistic)
    share = np.mean(np.abs(values) >= abs(found.rho) - 1e-9)
    assert found.p == pytest.approx(share, abs=0.04)
    again = relation(made(one, other, 5))
    assert again == found


def test_one_odd_singer_is_one_observation_not_as_many_as_pairs() -> None:
    """One of six shares no notes and no probability: one order in six of the singers does so."""
    first, _ = np.triu_indices(6, 1)
    apart = np.where(first == 0, 0.0, 1.0)
    found = relation(made(apart, apart, 6))
    assert found is not None
    assert found.rho == pytest.approx(1)
    assert found.p == pytest.approx(1 / 6, abs=0.03)


def test_unrelated_orders_are_seldom_sure() -> None:
    rng = np.random.default_rng(7)
    sure = 0
    for _ in range(20):
        found = relation(made(rng.random(28), rng.random(28), 8))
        assert found is not None
        sure += found.p <= 0.05
    assert sure <= 4


def test_too_few_or_all_alike() -> None:
    assert relation(made(np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0]), 3)) is None
    flat = relation(made(np.zeros(6), np.arange(6.0), 4))
    assert flat is not None
    assert np.isnan(flat.rho)
    assert flat.p == 1


def test_mistakes_against_any_other_singer() -> None:
    table = predicted(seed=2)
    found = mistakes_overlap(table, RANGES)
    assert found is not None
    named = table.probabilities.argmax(axis=1)
    wrong = [
        (NAMES[t], NAMES[n])
        for t, n in zip(table.truth, named, strict=True)
        if t != n and NAMES[n] in RANGES
    ]
    assert found.songs == len(wrong)
    assert found.mean == pytest.approx(np.mean([overlap(RANGES[a], RANGES[b]) for a, b in wrong]))
    chance = [
        np.mean([overlap(RANGES[a], other) for name, other in RANGES.items() if name != a])
        for a, _ in wrong
    ]
    assert found.chance == pytest.approx(np.mean(chance))
    assert mistakes_overlap(table, {"A": (1.0, 2.0)}) is None


SEX = {"A": "female", "B": "female", "C": "male", "D": "male"}


def sexed(named: list[int], truth: list[int], singers: str = "ABCDE") -> Predicted:
    probabilities = np.full((len(named), len(singers)), 0.1)
    probabilities[np.arange(len(named)), named] = 1 - 0.1 * (len(singers) - 1)
    ids = tuple(map(str, range(len(named))))
    return Predicted(
        "validation", ids, tuple(singers), probabilities, np.array(truth), ("",) * len(named)
    )


def test_counts_by_hand() -> None:
    #          right, same sex, crossing, crossing, named unknown, singer unknown
    table = sexed([0, 1, 2, 0, 4, 0], [0, 0, 0, 3, 1, 4])
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
    found = sexes(sexed([0, 0, 0, 1], [1, 2, 3, 1], "ABCD"), sex)
    assert found is not None
    assert found.mistakes == 3
    assert found.crossing_chance == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)


def test_nothing_to_say() -> None:
    assert sexes(sexed([0], [0]), SEX) is None
    assert sexes(sexed([0, 2], [0, 2]), {}) is None
    found = sexes(sexed([0, 2], [0, 2]), SEX)
    assert found is not None
    assert found.crossing is None
    assert found.mistakes == 0


def test_sex_as_the_csv_writes_it() -> None:
    facts = {"A": SingerFacts("F "), "B": SingerFacts("f"), "C": SingerFacts("", 100.0, 200.0)}
    assert sex_of(facts) == {"A": "f", "B": "f"}
