"""Short findings: true of the numbers that they are made of, also where these are odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.measures.album_effect import AlbumEffect
from analysis.pages.experts import opinions
from analysis.report.data_slides import leakage_sentence
from analysis.report.sentences import (
    album_sentence,
    calibration_sentence,
    change_sentence,
    hardest_sentence,
    result_sentence,
)
from analysis.run_data import Predicted, RunData
from embedder.statistics import Estimate
from ensemble.fusion.fitted import CalibrationRow


def named(truth: list[int], answers: list[int], singers: int = 4) -> Predicted:
    """Songs of which the first answer has 0.7, and the true singer is fourth where it is wrong."""
    rows = np.full((len(truth), singers), 0.3 / (singers - 1))
    rows[np.arange(len(truth)), answers] = 0.7
    for row, (true, answer) in enumerate(zip(truth, answers, strict=True)):
        if true != answer:
            rows[row, true] -= 0.01
    ids = tuple(f"A/x/{row}.mp3" for row in range(len(truth)))
    names = ("Ada", "Ben", "Cem", "Dora")[:singers]
    return Predicted("test", ids, names, rows, np.array(truth), ("A/x",) * len(truth), {})


@pytest.mark.parametrize(
    ("truth", "answers", "text"),
    [
        (
            [0, 1, 2],
            [0, 1, 2],
            "The right singer is named first for each of 3 test songs (no mistake in 1 album, "
            "so up to 100.0% is likely).",
        ),
        ([0, 1], [1, 1], " and stands among the first three for 1 of them."),
        ([0], [1], "named first for 0.0% of 1 test song (95% interval 0.0% to 100.0%) and stands "),
    ],
)
def test_result(truth: list[int], answers: list[int], text: str) -> None:
    assert text in result_sentence(named(truth, answers))


def test_result_where_all_are_among_the_first_three() -> None:
    assert "among the first three for all of them" in result_sentence(named([0, 1], [1, 1], 3))


@pytest.mark.parametrize(
    ("truth", "answers", "text"),
    [
        ([0, 1], [0, 1], "Each of the 2 singers has all test songs named right."),
        ([2, 2], [2, 2], "The one singer has all test songs named right."),
        ([0, 0, 1], [0, 1, 1], "The hardest singer is Ada: 1 of 2 test songs are named right."),
        (
            [0, 0, 1, 1, 2],
            [0, 1, 1, 0, 2],
            "The hardest singer is Ada: 1 of 2 test songs are named right; the share is the same "
            "for 1 other singer.",
        ),
        ([0, 1], [1, 1], "The hardest singer is Ada: 0 of 1 test song is named right."),
    ],
)
def test_hardest(truth: list[int], answers: list[int], text: str) -> None:
    assert hardest_sentence(named(truth, answers)) == text


def test_change(named_table: Callable[..., Predicted]) -> None:
    right, wrong = [0] * 10, [1] * 3 + [0] * 7
    two = opinions(named_table(right, one=wrong, two=wrong))
    assert change_sentence(two, "m/one") == (
        "Fused, the 2 experts are better than the best one alone, m/one: fusing fixes 3 and "
        "breaks 0 of 10 validation songs."
    )
    same = opinions(named_table(right, one=right, two=wrong))
    assert "are neither better nor worse than the best one alone" in change_sentence(same, "m/one")
    other = opinions(named_table([2] + [0] * 9, one=right, two=wrong))
    assert (
        "are worse than the best one alone, m/one: fusing fixes 0 and breaks 1 of 10"
        in change_sentence(other, "m/one")
    )
    alone = opinions(named_table(right, one=wrong))
    assert change_sentence(alone, "m/one").startswith("There is one expert, m/one")
    assert change_sentence(alone, "") == ""


def test_album() -> None:
    share = Estimate(0.5, 0.4, 0.6)
    effect = AlbumEffect(1200, share, 0.01, 0.25, share, share, share, share)
    assert album_sentence(effect) == (
        "The nearest other training song is of the same album for 50.0% of 1,200 songs; by chance "
        "it would be 1.0%, and 25.0% if all of a singer's songs were equally near."
    )


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ([], ""),
        ([(2.0, 1.0)], "The NLL falls for the expert: 2.000 before, 1.000 after."),
        ([(1.0, 1.0)], "The NLL does not fall for the expert: 1.000 before, 1.000 after."),
        (
            [(2.0, 1.0), (4.0, 2.0)],
            "The NLL falls for each of 2 experts: mean 3.000 before, 1.500 after.",
        ),
        (
            [(2.0, 1.0), (1.0, 2.0)],
            "The NLL falls for 1 of 2 experts: mean 1.500 before, 1.500 after.",
        ),
        (
            [(1.0, 1.5), (1.0, 2.5)],
            "The NLL does not fall for any expert: mean 1.000 before, 2.000 after.",
        ),
    ],
)
def test_calibration(pairs: list[tuple[float, float]], text: str) -> None:
    rows = tuple(CalibrationRow(f"m/{n}", one, (0, 0), (0, 0)) for n, one in enumerate(pairs))
    assert calibration_sentence(rows) == text


def test_leakage(build_run_data: Callable[..., RunData]) -> None:
    run_data = build_run_data(("A", "B"))
    assert leakage_sentence(run_data) == "None of the 4 albums stands in two splits."
    songs = run_data.songs
    torn = replace(songs, albums=("A/one",) * 2 + ("B/one",) * (len(songs.ids) - 2))
    assert leakage_sentence(replace(run_data, songs=torn)).startswith(
        "1 of 2 albums has songs in several splits"
    )
    none = replace(songs, albums=("",) * len(songs.ids))
    assert "not known" in leakage_sentence(replace(run_data, songs=none))
