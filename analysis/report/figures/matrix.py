"""The confusion matrix: true singers down, named singers across.

Enters: counts (singers, singers) and names. Leaves: a drawing on a `Canvas`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.report.canvas import Canvas
from analysis.report.lettering import LEADING, POINTS, shortened, width_of
from analysis.report.slide import ACCENT, INK, LINE, SMALLEST, SOFT, WRONG

NAMED = 24  # singers up to which all names have room
LABEL = 2.4  # inches, of the longest name
TOP, NUMBER = 0.55, 0.34  # inches: above the matrix, and of a singer's number beside it
GRIDDED = 40  # singers up to which lines part the cells
NUMBERS = 10  # of more than `NAMED` singers, so many are numbered at most


def draw_confusion(canvas: Canvas, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    """Right songs in blue, mistakes in orange, darker for more; counts where they have room.

    Rows are named and numbered, columns have the numbers; of more than `NAMED` singers, in the
    order of `names`, some rows and columns are numbered.
    """
    count = len(names)
    named = count <= NAMED
    high = canvas.height - TOP
    size = float(np.clip(POINTS * high / count / LEADING, SMALLEST, 12))
    label = 0.0
    if named:
        label = min(max(width_of(name, size) for name in names), LABEL, 0.36 * canvas.width)
    left = 0.3 + label + NUMBER + 0.1
    wide = min(canvas.width - left, 1.6 * high)
    axes = canvas.axes(left, TOP, wide, high)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    _cells(axes, counts / totals)
    if count <= GRIDDED:
        for edge in np.arange(0.5, count - 1):
            axes.axhline(edge, color=LINE, linewidth=0.5)
            axes.axvline(edge, color=LINE, linewidth=0.5)
    _counts(axes, counts, totals, wide / count, high / count)
    beside = int(np.ceil((width_of(str(count), SMALLEST) + 0.05) / (wide / count)))
    step = 1 if named else int(np.ceil(count / NUMBERS / 5) * 5)
    for place in range(0 if named else step - 1, count, step):
        down, across = TOP + high * (place + 0.5) / count, left + wide * (place + 0.5) / count
        number = str(place + 1)
        canvas.text(left - 0.08, down, number, SMALLEST, ha="right", va="center_baseline",
                    color=SOFT)  # fmt: skip
        if place % beside == 0 or not named:
            canvas.text(across, TOP - 0.06, number, SMALLEST, ha="center", va="bottom", color=SOFT)
        if named:
            text = shortened(names[place], label, size)
            canvas.text(left - NUMBER - 0.08, down, text, size, ha="right", va="center_baseline")
    canvas.text(left + wide / 2, 0, "singer named first", 11, ha="center", va="top", color=SOFT)
    canvas.text(0, TOP + high / 2, "true singer", 11, va="center", rotation=90, color=SOFT)


def _cells(axes: object, shares: NDArray[np.float64]) -> None:
    """Cells of shares of a row: towards blue on the diagonal, towards orange off it."""
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    there = np.argwhere(shares > 0)
    boxes = [Rectangle((guess - 0.5, true - 0.5), 1, 1) for true, guess in there]
    weight = (0.15 + 0.85 * shares[shares > 0])[:, None]
    ends = np.array([to_rgb(ACCENT if true == guess else WRONG) for true, guess in there])
    found = PatchCollection(boxes, facecolors=1 - weight * (1 - ends), linewidths=0)
    axes.add_collection(found)  # type: ignore[attr-defined]


def _counts(
    axes: object,
    counts: NDArray[np.int64],
    totals: NDArray[np.int64],
    wide: float,
    high: float,
) -> None:
    """Numbers in the cells, where the smallest letters have room; a cell is `wide` × `high`."""
    if high < LEADING * SMALLEST / POINTS * 0.9:
        return
    for true, guess in np.argwhere(counts):
        text = str(counts[true, guess])
        if width_of(text, SMALLEST) < wide:
            dark = counts[true, guess] / totals[true, 0] > 0.5
            axes.text(  # type: ignore[attr-defined]
                guess, true, text, fontsize=SMALLEST, ha="center", va="center_baseline",
                color="white" if dark else INK,
            )  # fmt: skip
