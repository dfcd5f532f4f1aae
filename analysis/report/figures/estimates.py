"""Shares with their intervals, one below the other; and songs by singer and split.

Enters: names and numbers. Leaves: drawings on a `Canvas`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.report.canvas import Canvas
from analysis.report.lettering import shortened, width_of
from analysis.report.slide import ACCENT, INK, LINE, SMALLEST, SOFT
from embedder.metrics import Estimate

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
SPLIT_COLOURS = {"train": "#9fb8cc", "validation": ACCENT, "test": "#b4c34b"}


def draw_estimates(
    canvas: Canvas,
    rows: Sequence[tuple[str, Estimate, str]],
    axis: str,
    bold: Sequence[int] = (),
    per_cent: bool = True,
) -> None:
    """A dot with its interval for each (name, estimate, what is written behind it).

    `axis`: what the numbers are. Shares are written in per cent unless told otherwise.
    """
    count = len(rows)
    size = row_size(canvas.height - 0.75, count)
    names = max(width_of(name, size, n in bold) for n, (name, *_) in enumerate(rows))
    behind = max(width_of(one, size) for *_, one in rows)
    left, right = min(names, 0.42 * canvas.width) + 0.15, behind + 0.2
    wide, high = canvas.width - left - right, canvas.height - 0.7
    axes = canvas.axes(left, 0.05, wide, high)
    low, most, step = scale([one for _, one, _ in rows], wide, 1.0 if per_cent else None)
    axes.set_xlim(low, most + (most - low) * 0.02)
    axes.set_ylim(count - 0.5, -0.5)
    ticks = np.arange(round(low / step), round(most / step) + 1) * step
    decimals = 0 if step >= 0.01 else 1
    axes.set_xticks(
        ticks, [f"{tick:.{decimals}%}" if per_cent else f"{tick:.3g}" for tick in ticks]
    )
    axes.set_yticks([])
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for place, (name, one, after) in enumerate(rows):
        strong = place in bold
        colour = ACCENT if strong or not bold else SOFT
        axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2, clip_on=False)
        axes.plot(one.value, place, "o", color=colour, markersize=7 if strong else 6, clip_on=False)
        middle = 0.05 + high * (place + 0.5) / count
        weight = "bold" if strong else "normal"
        room = left - 0.15
        canvas.text(
            0, middle, shortened(name, room, size, strong), size, va="center_baseline",
            fontweight=weight,
        )  # fmt: skip
        canvas.text(canvas.width, middle, after, size, va="center_baseline", ha="right", color=SOFT)
    canvas.text(left + wide / 2, canvas.height, axis, 11, ha="center", va="bottom", color=SOFT)


def row_size(height: float, rows: int, largest: float = 13.0) -> float:
    """Size of letters, in points, so that so many lines have room; never below the smallest."""
    return float(np.clip(72 * height / max(rows, 1) / 1.35, SMALLEST, largest))


def scale(
    estimates: Sequence[Estimate], width: float, top: float | None
) -> tuple[float, float, float]:
    """(lowest, highest, step) of an axis so many inches wide that holds all intervals.

    `top`: the highest value there can be; None takes that of the intervals.
    """
    low = min(one.low for one in estimates)
    high = max(one.high for one in estimates)
    end = high if top is None else top
    ticks = max(int(width / 0.75), 1)
    span = max(end - low, 0.02)
    step = next((one for one in STEPS if span / one <= ticks), 0.5 if span <= ticks * 0.5 else 1.0)
    least = float(np.floor(low / step + 1e-9) * step)
    most = float(np.ceil(max(end, least + step) / step - 1e-9) * step)
    return (least if top is None else max(least, 0.0)), most, step


def draw_splits(
    canvas: Canvas, names: Sequence[str], counts: NDArray[np.int64], splits: Sequence[str]
) -> None:
    """Songs (singers, splits) as bars, one below the other."""
    high = canvas.height - 0.9
    size = row_size(high, len(names))
    label = min(max(width_of(name, size) for name in names), 0.4 * canvas.width)
    left, wide = label + 0.15, canvas.width - label - 0.7
    top = 0.4
    axes = canvas.axes(left, top, wide, high)
    start = np.zeros(len(names))
    position = left
    for column, split in enumerate(splits):
        colour = SPLIT_COLOURS[split]
        axes.barh(range(len(names)), counts[:, column], 0.7, start, color=colour)
        start += counts[:, column]
        canvas.text(position, 0.05, "■", 13, color=colour)
        canvas.text(position + 0.22, 0.05, split, 12, color=INK)
        position += 0.22 + width_of(split, 12) + 0.3
    axes.set_xlim(0, max(float(start.max()), 1.0))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks([])
    _whole_ticks(axes, wide)
    for place, name in enumerate(names):
        middle = top + high * (place + 0.5) / len(names)
        canvas.text(0, middle, shortened(name, label, size), size, va="center_baseline")
    canvas.text(left + wide / 2, canvas.height, "songs", 11, ha="center", va="bottom", color=SOFT)


def _whole_ticks(axes: object, wide: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(  # type: ignore[attr-defined]
        MaxNLocator(max(int(wide / 0.8), 1), integer=True)
    )
