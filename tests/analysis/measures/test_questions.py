"""Sentences on made-up results: true of the numbers, whichever way they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.measures.questions import (
    range_sentences,
    relation_says,
    sex_sentences,
    table_sentences,
    voices_finding,
)
from analysis.measures.voice_confusion import Mistakes, Relation, Sexes
from analysis.measures.voices import FeatureProbe, Voice
from analysis.run_data import Predicted
from embedder.statistics import wilson


def voice(singer: str, middle: float) -> Voice:
    return Voice(
        singer, 3, "vocals", (middle / 2, middle / 1.5, middle, middle * 1.5, middle * 2), {}
    )


def test_the_finding() -> None:
    two = {"Zoe": voice("Zoe", 440.0), "Abe": voice("Abe", 110.0)}
    start = "The middle note of 2 singers goes from A2 (110 Hz), Abe, to A4 (440 Hz), Zoe"
    assert voices_finding(two, None, 1, "validation") == f"{start}."
    assert voices_finding(two, Relation(0.25, 0.004), 190, "validation") == (
        f"{start}; the more two singers' ranges overlap, the more they are confused (Spearman's "
        "ρ\xa0=\xa0+0.25 between overlap and the probability that their validation songs give to "
        "each other, 190 pairs, p\xa0=\xa00.004)."
    )
    band = {name: replace(one, stem="mix") for name, one in two.items()}
    assert voices_finding(band, None, 0, "test") == (
        f"{start}, by the mixtures, whose pitch is mostly the band's."
    )
    some = two | {"Abe": band["Abe"]}
    assert ", of some by the mixtures, whose pitch" in voices_finding(some, None, 0, "test")
    one = {"Zoe": voice("Zoe", 440.0)}
    assert voices_finding(one, None, 0, "test") == "The middle note of Zoe is A4 (440 Hz)."


@pytest.mark.parametrize(
    ("relation", "says"),
    [
        (Relation(0.3, 0.0005), "overlap, the more they are confused"),
        (Relation(-0.3, 0.02), "overlap, the less they are confused"),
        (Relation(0.3, 0.06), "overlap is not seen to make them more confused"),
        (Relation(float("nan"), 1.0), "so range cannot explain who is confused"),
    ],
)
def test_the_verdict_follows_sign_and_p(relation: Relation, says: str) -> None:
    assert says in relation_says(relation, 6, "test")
    if relation.p < 0.001:
        assert "p\xa0<\xa00.001" in relation_says(relation, 6, "test")
    if relation.rho < 0:
        assert "−0.30" in relation_says(relation, 6, "test")


def test_ranges_in_sentences() -> None:
    told = [
        FeatureProbe("pitch", 5, wilson(33, 100), 100, 20),
        FeatureProbe("timbre", 15, wilson(60, 100), 100, 20),
        FeatureProbe("pitch and timbre", 20, wilson(95, 100), 100, 20),
    ]
    found = range_sentences(None, 0, Mistakes(7, 0.512, 0.308), told, "validation")
    assert found == [
        "Where a song is given to another singer, 7 times, the ranges of the two overlap by 51% on "
        "average; naming any other singer alike would make it 31%.",
        "Pitch alone, five quantiles of a song's f0, names the right one of 20 singers for 33.0% "
        "of 100 validation songs (95% interval 24.6% to 42.7%), where chance is 5.0%.",
        "With 15 numbers on timbre it is 95.0% (95% interval 88.8% to 97.8%).",
    ]
    (one,) = range_sentences(None, 0, Mistakes(1, 0.5, 0.3), [], "validation")
    assert "singer, 1 time, the ranges of the two overlap by 50%; naming" in one
    assert range_sentences(None, 0, None, [], "validation") == []


def made_sexes(crossed: int, mistakes: int, chance: float) -> Sexes:
    crossing = wilson(crossed, mistakes) if mistakes else None
    right = wilson(50 - crossed, 50)
    return Sexes(("female", "male"), 50, right, mistakes, crossing, chance, 0.2, 0.5)


def test_sexes_in_sentences() -> None:
    (unknown,) = sex_sentences(None, False, "validation")
    assert unknown.endswith("gives it: python app.py analyze --singers_csv singers.csv")
    assert "Fewer than two sexes" in sex_sentences(None, True, "validation")[0]
    right, crossing, given = sex_sentences(made_sexes(1, 20, 0.5), True, "validation")
    assert right.startswith(
        "The singer named is of the right sex (female and male) for 98.0% of 50 validation songs"
    )
    assert crossing.startswith("Of 20 mistakes, 5% cross from one sex to the other (95% interval")
    assert crossing.endswith(", fewer than the 50% that chance would give.")
    assert given == (
        "Of the probability that goes to wrong singers, 20% goes to the other sex; it would be 50% "
        "if all singers got alike."
    )
    assert "more than the 10%" in sex_sentences(made_sexes(10, 20, 0.1), True, "v")[1]
    assert ", not to be told from the 50%" in sex_sentences(made_sexes(10, 20, 0.5), True, "v")[1]
    assert sex_sentences(made_sexes(0, 0, 0.5), True, "v")[1].startswith("No song is given to a")
    for crossed, what in ((0, "does not cross"), (1, "crosses")):
        assert sex_sentences(made_sexes(crossed, 1, 0.47), True, "v")[1] == (
            f"The one mistake {what} from one sex to the other; by chance it would at 47%."
        )


def test_the_table_in_sentences(named_table: Callable[..., Predicted]) -> None:
    """Ten songs of singer A; two singers are named."""
    assert table_sentences(named_table([0] * 10)) == [
        "On the diagonal of the table stand 100.0% of 10 validation songs (no mistake in 1 album, "
        "so up to 100.0% is likely).",
        "The songs of the one singer are given to that singer at least as often as to any other.",
    ]
    share, own, wrong = table_sentences(named_table([0] * 3 + [1] * 5 + [2] * 2))
    assert share.startswith("On the diagonal of the table stand 30.0% of 10 validation songs (95%")
    assert own == "For 1 of 1 singer more songs go to one other singer than to the right one: A."
    assert wrong == (
        "7 mistakes fall on 2 pairs of true and named singer, at most 5 on one pair; in 7 of them "
        "the right singer is second or third."
    )
    *_, one = table_sentences(named_table([0] * 9 + [2]))
    assert one == "The one mistake gives a song of A to C; the right singer is second or third."


def test_places_below_the_third_are_not_called_near() -> None:
    probabilities = np.array([[0.05, 0.4, 0.3, 0.25], [0.7, 0.1, 0.1, 0.1]])
    table = Predicted("test", ("1", "2"), tuple("ABCD"), probabilities, np.array([0, 0]), ("", ""))
    *_, one = table_sentences(table)
    assert one == "The one mistake gives a song of A to B; the right singer is not second or third."
