"""Accuracy against every degradation, one small figure each.

Enters: curves of `analysis.robustness`. Leaves: a drawing on a `Canvas`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.measures.robustness import Curve
from analysis.report.canvas import Canvas
from analysis.report.lettering import shortened
from analysis.report.slide import ACCENT, LINE, SOFT, WRONG
from embedder.measures.robustness import DEGRADATIONS, EXCERPT

COLUMNS = 5
LEFT, HEAD, FOOT = 0.5, 0.3, 0.55  # inches around a figure


def draw_ladders(canvas: Canvas, found: Sequence[Curve]) -> None:
    """Top-1 with its interval at each level; an open circle is undegraded, a diamond below it."""
    columns = min(COLUMNS, len(found))
    rows = int(np.ceil(len(found) / columns))
    wide, high = canvas.width / columns, canvas.height / rows
    low = min(point.top_1.low for curve in found for point in curve.points)
    least = np.floor(max(low - 0.02, 0) * 5) / 5
    for place, curve in enumerate(found):
        row, column = divmod(place, columns)
        left, top = column * wide, row * high
        ladder = DEGRADATIONS[curve.degradation]
        first = column == 0
        axes = canvas.axes(left + LEFT, top + HEAD, wide - LEFT - 0.1, high - HEAD - FOOT)
        canvas.text(
            left + LEFT, top, shortened(ladder.title, wide - LEFT - 0.1, 12, True), 12,
            fontweight="bold",
        )  # fmt: skip
        spots = np.arange(len(curve.points))
        value = np.array([point.top_1.value for point in curve.points])
        axes.vlines(
            spots, [point.top_1.low for point in curve.points],
            [point.top_1.high for point in curve.points], color=ACCENT, linewidth=1.5, alpha=0.5,
        )  # fmt: skip
        axes.plot(spots, value, color=ACCENT, linewidth=1.5)
        for spot, point in zip(spots, curve.points, strict=True):
            axes.plot(
                spot, point.top_1.value, "D" if point.falls else "o", markersize=6, clip_on=False,
                color=WRONG if point.falls else ACCENT,
                markerfacecolor="white" if point.level is None else None,
            )  # fmt: skip
        axes.set_ylim(least, 1.03)
        axes.set_xlim(-0.4, len(spots) - 0.6)
        ticks = np.linspace(least, 1, 3)
        axes.set_yticks(ticks, [f"{one:.0%}" if first else "" for one in ticks])
        axes.grid(axis="y", color=LINE, linewidth=0.6)
        shown = _shown(curve)
        axes.set_xticks(spots[shown], [_label(curve, spot) for spot in shown], fontsize=10)
        unit = shortened(ladder.says, wide - 0.1, 10)
        canvas.text(
            left + LEFT + (wide - LEFT - 0.1) / 2, top + high - 0.06, unit, 10, ha="center",
            va="bottom", color=SOFT,
        )  # fmt: skip


def _shown(curve: Curve) -> list[int]:
    """Points whose level is written: the ends and the undegraded one."""
    last = len(curve.points) - 1
    clean = next(n for n, point in enumerate(curve.points) if point.level is None)
    return sorted({0, clean, last})


def _label(curve: Curve, place: int) -> str:
    level = curve.points[place].level
    if level is None:
        return "full" if curve.degradation == EXCERPT else "clean"
    return DEGRADATIONS[curve.degradation].text(level)
