"""Three seconds of log-mel for each singer, as pictures in a grid.

Enters: levels (singers, mels, frames) of eight bits. Leaves: a drawing on a `Canvas`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.report.canvas import Canvas
from analysis.report.lettering import shortened
from analysis.report.slide import LINE

PAGE = 30  # singers on a page
HEAD = 0.27  # inches above a picture, for the name
GAP = 0.14
FINE = 4  # times that a value is repeated, so that a viewer does not blur it


def grid_for(count: int) -> tuple[int, int]:
    """(columns, rows) of a page."""
    for columns, rows in ((1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (4, 2), (4, 3), (5, 4), (6, 5)):
        if count <= columns * rows:
            return columns, rows
    raise ValueError(f"a page holds {PAGE} singers, not {count}")


def draw_mels(
    canvas: Canvas, names: Sequence[str], levels: NDArray[np.uint8], grid: tuple[int, int]
) -> None:
    """A picture for each name, low bands below; 0 is dark, 255 bright."""
    columns, rows = grid
    wide = (canvas.width - GAP * (columns - 1)) / columns
    high = (canvas.height - GAP * (rows - 1)) / rows - HEAD
    for place, (name, level) in enumerate(zip(names, levels, strict=True)):
        row, column = divmod(place, columns)
        left, top = column * (wide + GAP), row * (high + HEAD + GAP)
        canvas.text(left, top, shortened(name, wide, 11), 11)
        axes = canvas.axes(left, top + HEAD, wide, high)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(LINE)
        fine = np.repeat(np.repeat(level, FINE, axis=0), FINE, axis=1)
        axes.imshow(
            fine, aspect="auto", origin="lower", cmap="viridis", vmin=0, vmax=255,
            interpolation="none",
        )  # fmt: skip
