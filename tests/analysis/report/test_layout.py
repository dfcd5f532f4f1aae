"""Letters shrink until all has room, and only what has none even then is cut, and says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from analysis.report.figures.matrix import draw_confusion
from analysis.report.layout import FOOT_TOP, PlacedTable, Words, place
from analysis.report.slide import SMALLEST, Bullets, Column, Drawing, Slide, Table, Text

SENTENCE = "The right singer is named first for most of the songs that were asked. " * 3


def words(slide: Slide) -> list[Words]:
    return [one for one in place(slide, 1) if isinstance(one, Words)]


@pytest.mark.parametrize("count", [1, 8, 10])
def test_sentences_shrink_and_stay_whole(count: int) -> None:
    slide = Slide("T", "m", (Column((Bullets((SENTENCE,) * count, 20.0),)),))
    (found,) = [one for one in words(slide) if one.bullets]
    assert ["".join(lines) for lines in found.paragraphs] == [SENTENCE] * count
    assert found.box.bottom < FOOT_TOP
    assert SMALLEST <= found.size <= 20
    assert (found.size == 20) == (count == 1)


def test_what_has_no_room_is_cut_with_an_ellipsis() -> None:
    slide = Slide("T", "m", (Column((Text(SENTENCE * 40),)),))
    (found,) = [one for one in words(slide) if one.box.top > 1.2 and one.box.top < 7]
    assert found.size == SMALLEST
    assert found.paragraphs[0][-1].endswith("…")
    assert found.box.bottom < FOOT_TOP


def test_a_table_without_room_says_how_many_rows_are_left_out() -> None:
    rows = tuple((str(number), "x") for number in range(60))
    slide = Slide("T", "m", (Column((Table(("number", "letter"), rows),)),))
    (found,) = [one for one in place(slide, 1) if isinstance(one, PlacedTable)]
    shown = found.grid.rows[1:-1]
    assert shown == rows[: len(shown)]
    assert found.grid.rows[-1] == (f"and {60 - len(shown)} more", "")
    assert found.box.bottom < FOOT_TOP


def test_numbers_of_narrow_columns_do_not_touch(collisions: Callable[[Slide], list[str]]) -> None:
    draw = partial(
        draw_confusion, counts=np.eye(20, dtype=np.int64), names=[f"singer {n}" for n in range(20)]
    )
    slide = Slide("T", "", (Column((Drawing(draw, "matrix"),)), Column((), 2.0)))
    assert not collisions(slide)
