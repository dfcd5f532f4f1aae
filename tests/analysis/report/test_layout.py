"""On slides of any run nothing overlaps, leaves the page, or is too small to read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from analysis.report import charts
from analysis.report.charts import STYLE
from analysis.report.deck import HEIGHT, WIDTH, Author, Bullets, Column, Figure, Slide, Table, Text
from analysis.report.facts import read_facts
from analysis.report.layout import Placed, arrange
from analysis.report.report import slides_of
from analysis.run_data import RunData

SENTENCE = "The right singer is named first for most of the songs that were asked. " * 3
LONG = "The Incredible Singing Ensemble of the Upper Valley and its Friends No. {:03d}"
SINGERS = {
    "two": ("Al", "Bo"),
    "long": tuple(LONG.format(number) for number in range(20)),
    "unbroken": tuple(f"{'x' * 90}{number}$_{{a}}$" for number in range(5)),
    "hundred": tuple(f"singer {number} {'of the valley ' * (number % 3)}" for number in range(100)),
}
AUTHOR = Author("Wolfeschlegelsteinhausenbergerdorff " * 3, "R" * 60)


def faults(placed: list[Placed]) -> list[str]:
    """What leaves the page, overlaps, or is below 9 points."""
    found = []
    for one in placed:
        if one.left < 0 or one.top < 0 or one.left + one.width > WIDTH + 1e-6:
            found.append(f"{one.block} leaves the page sideways")
        if one.top + one.height > HEIGHT + 1e-6:
            found.append(f"{one.block} leaves the page below")
        size = getattr(one.block, "size", 12.0) * one.scale
        if size < 9:
            found.append(f"{one.block} has {size} points")
    for one, other in combinations(placed, 2):
        across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
        down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
        if across > 1e-6 and down > 1e-6:
            found.append(f"{one.block} over {other.block}")
    return found


def chart_faults(figure: Figure, width: float, height: float) -> list[str]:
    """Texts of a chart that leave it or stand in each other, by matplotlib's own measure."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas
    from matplotlib.text import Text as Label

    with rc_context(STYLE):
        canvas = Canvas((width, height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()
    unseen = {
        id(tick.label1)
        for axes in canvas.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    labels = [one for one in canvas.findobj(Label) if id(one) not in unseen]
    shown = [one for one in labels if one.get_visible() and one.get_text().strip()]
    boxes = [(one.get_text(), one.get_window_extent()) for one in shown]
    edge = canvas.bbox
    found = [
        f"{text!r} leaves the chart"
        for text, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > edge.x1 + 1 or box.y1 > edge.y1 + 1
    ]
    for (one, first), (other, second) in combinations(boxes, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        down = min(first.y1, second.y1) - max(first.y0, second.y0)
        if across > 2 and down > 4:  # boxes have a little air above their letters
            found.append(f"{one!r} over {other!r}")
    return found


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(("singers", "fused"), [(name, name != "two") for name in SINGERS])
def test_nothing_overlaps_or_leaves_the_page(
    singers: str, fused: bool, build_run_data: Callable[..., RunData]
) -> None:
    data = build_run_data(
        SINGERS[singers], fused, tests=fused, measured=fused, experts=12 if fused else 1
    )
    slides, _ = slides_of(data, read_facts(data.run, data.members, data.fusion), AUTHOR)
    wrong: dict[str, Any] = {}
    for number, slide in enumerate(slides, 1):
        placed = arrange(slide, number)
        found = faults(placed)
        for one in placed:
            if isinstance(one.block, Figure):
                found += chart_faults(one.block, one.width, one.height)
        if found:
            wrong[slide.title] = found
    assert not wrong, "\n".join(one[:200] for found in wrong.values() for one in found)


@pytest.mark.parametrize("count", [1, 8, 10])
def test_sentences_shrink_where_they_must(count: int) -> None:
    slide = Slide("T", "m", (Column((Bullets((SENTENCE,) * count, 20.0),)),))
    placed = arrange(slide, 1)
    (found,) = [one for one in placed if isinstance(one.block, Bullets)]
    assert not faults(placed)
    assert (found.scale == 1) == (count == 1)


def test_wide_and_high_tables_shrink() -> None:
    rows = tuple(("a name that is rather long", *["0.970 (0.881–0.993)"] * 7) for _ in range(20))
    table = Table(("name", *"abcdefg"), rows, tuple(range(1, 8)))
    placed = arrange(Slide("T", SENTENCE, (Column((Text(SENTENCE), table)),)), 1)
    (found,) = [one for one in placed if one.block is table]
    assert 0.5 < found.scale < 1
    assert found.left + found.width < WIDTH
    assert found.top + found.height < HEIGHT


def test_a_chart_takes_the_room_that_texts_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "DPI", 10)
    chart = Figure(lambda figure: figure.subplots(), "nothing")
    for text in ("short", SENTENCE * 9):
        placed = arrange(Slide("T", "", (Column((Text(text, 20.0), chart)),)), 1)
        assert not faults(placed)
        bottom = max(one.top + one.height for one in placed if one.block is chart)
        assert bottom == pytest.approx(7.05, abs=0.05)
