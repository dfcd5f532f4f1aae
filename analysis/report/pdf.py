"""Slides as a PDF: vectors and embedded fonts, the same bytes for the same slides.

Enters: slides. Leaves: a file. Pages are matplotlib figures, without pyplot and its global state.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analysis.report.canvas import Canvas
from analysis.report.columns import PAD, is_bold
from analysis.report.layout import (
    INDENT,
    Panel,
    PlacedDrawing,
    PlacedTable,
    Words,
    place,
)
from analysis.report.lettering import FAMILY, boxed, line_height
from analysis.report.slide import ACCENT, HEIGHT, INK, LINE, SOFT, WIDTH, Slide
from embedder.artifact import replacing


@contextmanager
def look(families: Sequence[str] = ()) -> Iterator[None]:
    """What holds for all figures that are drawn; `families`: fonts beside the program's own."""
    from matplotlib import rc_context

    chosen: Any = {
        "font.family": [FAMILY, *families],
        "pdf.fonttype": 42,
        "text.parse_math": False,  # a name may hold two dollars
    }
    told = logging.getLogger("matplotlib.font_manager")  # of fonts that have no bold letters
    level = told.level
    told.setLevel(logging.ERROR)
    try:
        with rc_context(chosen):
            yield
    finally:
        told.setLevel(level)


def page_figure(slide: Slide, number: int, missing: frozenset[str] = frozenset()) -> Any:
    """One page; letters in `missing`, which no font has, become boxes."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text as Label

    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    for one in place(slide, number):
        canvas = Canvas(figure, one.box)
        if isinstance(one, PlacedDrawing):
            one.drawing.draw(canvas)
        elif isinstance(one, PlacedTable):
            _table(canvas, one)
        elif isinstance(one, Words):
            _words(canvas, one)
        else:
            _panel(canvas, one)
    for label in figure.findobj(Label) if missing else ():
        label.set_text(boxed(label.get_text(), set(missing)))
    return figure


def write_pdf(
    path: Path, slides: Sequence[Slide], title: str, families: Sequence[str] = (),
    missing: frozenset[str] = frozenset(),
) -> None:  # fmt: skip
    """Write all pages, atomically, without a date."""
    from matplotlib.backends.backend_pdf import PdfPages

    about = {"Title": title, "CreationDate": None, "Creator": None, "Producer": None}
    with (
        replacing(path) as temporary,
        look(families),
        PdfPages(temporary, metadata=about) as pages,
    ):
        for number, slide in enumerate(slides, 1):
            pages.savefig(page_figure(slide, number, missing))


def _words(canvas: Canvas, words: Words) -> None:
    height = line_height(words.size)
    left = INDENT if words.bullets else 0.0
    weight = "bold" if words.bold else "normal"
    top = 0.0
    for paragraph in words.paragraphs:
        if words.bullets:
            canvas.text(0.02, top + height / 2, "•", words.size, color=ACCENT, va="center_baseline")
        for line in paragraph:
            canvas.text(
                left, top + height / 2, line.rstrip(), words.size, color=words.colour,
                fontweight=weight, va="center_baseline",
            )  # fmt: skip
            top += height
        top += 0.5 * height


def _table(canvas: Canvas, placed: PlacedTable) -> None:
    grid, height = placed.grid, placed.grid.row_height
    rule(canvas, 0, height, canvas.width, SOFT, 0.9)
    for number, row in enumerate(grid.rows):
        left = 0.0
        if number:
            rule(canvas, 0, (number + 1) * height, canvas.width, LINE, 0.6)
        for column, (cell, width) in enumerate(zip(row, grid.widths, strict=True)):
            right = column in placed.table.numeric
            canvas.text(
                left + (width - PAD if right else PAD), (number + 0.5) * height, cell, grid.size,
                ha="right" if right else "left", va="center_baseline",
                color=INK if number else SOFT,
                fontweight="bold" if is_bold(placed.table, number) else "normal",
            )  # fmt: skip
            left += width


def rule(canvas: Canvas, left: float, top: float, width: float, colour: str, thick: float) -> None:
    """A horizontal line."""
    from matplotlib.lines import Line2D

    across, down = canvas.figure.get_size_inches()
    x, y = (canvas.box.left + left) / across, 1 - (canvas.box.top + top) / down
    canvas.figure.add_artist(Line2D([x, x + width / across], [y, y], color=colour, linewidth=thick))


def _panel(canvas: Canvas, panel: Panel) -> None:
    from matplotlib.patches import Rectangle

    across, down = canvas.figure.get_size_inches()
    box = panel.box
    canvas.figure.add_artist(
        Rectangle(
            (box.left / across, 1 - box.bottom / down), box.width / across, box.height / down,
            facecolor=panel.colour, edgecolor="none", linewidth=0,
        )
    )  # fmt: skip
