"""The t-SNE map, coloured by singer.

Enters: points and whose they are. Leaves: a drawing on a `Canvas`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.page import UNKNOWN_COLOUR, colours
from analysis.report.canvas import Canvas
from analysis.report.lettering import shortened
from analysis.report.slide import INK, LINE
from embedder.run import SPLITS

MARKS = {"train": "o", "validation": "D", "test": "^"}
SHAPES = {"train": "●", "validation": "◆", "test": "▲"}  # as on the HTML page
LISTED = 48  # singers up to which each has a line in the legend
ROW = 0.235  # inches of a line of the legend
COLUMN = 2.0


def draw_cloud(
    canvas: Canvas,
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    splits: NDArray[np.int64],
    singers: Sequence[str],
) -> None:
    """Points (n, 2); `labels` (n,) index `singers`, −1 where unknown; `splits` (n,) `SPLITS`."""
    listed = len(singers) <= LISTED
    there = [number for number in range(len(SPLITS)) if (splits == number).any()]
    rows = max(int((canvas.height - ROW * (len(there) + 1)) / ROW), 1)
    across = int(np.ceil(len(singers) / rows)) if listed else 1
    rows = int(np.ceil(len(singers) / across))
    wide = COLUMN * across if listed else 1.5
    axes = canvas.axes(0, 0, canvas.width - wide - 0.2, canvas.height)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
    palette = np.array([*colours(len(singers)), UNKNOWN_COLOUR])
    for number in there:
        rows_of = splits == number
        train = SPLITS[number] == "train"
        axes.scatter(
            points[rows_of, 0], points[rows_of, 1], marker=MARKS[SPLITS[number]],
            c=palette[labels[rows_of]], s=18 if train else 46, alpha=0.75 if train else 1.0,
            linewidths=0 if train else 0.7, edgecolors=INK,
        )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    left = canvas.width - wide
    for place, number in enumerate(there):
        top = place * ROW
        canvas.text(left, top, SHAPES[SPLITS[number]], 11, color=INK)
        canvas.text(left + 0.24, top, SPLITS[number], 11)
    start = ROW * (len(there) + 0.5)
    for place, name in enumerate(singers if listed else ()):
        column, row = divmod(place, rows)
        x, y = left + column * COLUMN, start + row * ROW
        canvas.text(x, y, "■", 12, color=palette[place])
        canvas.text(x + 0.24, y, shortened(name, COLUMN - 0.34, 10.5), 10.5)
    axes.spines[:].set_color(LINE)
