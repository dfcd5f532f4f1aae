"""Whether confidences are as high as answers are right: reliability, and risk against coverage.

Enters: what `analysis.pages.reliability.curves` says of one source. Leaves: a drawing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.report.canvas import Canvas
from analysis.report.figures.estimates import scale
from analysis.report.slide import ACCENT, LINE, SOFT, WRONG
from embedder.metrics import Estimate

HEAD, FOOT = 0.3, 0.65  # inches above and below a frame


def draw_reliability(canvas: Canvas, curves: Mapping[str, Any], cells: int) -> None:
    """Accuracy of songs of like confidence against it, over a histogram of the confidences."""
    left, wide = 0.75, canvas.width - 0.9
    low = min(1.0, 0.25 * canvas.height)  # of the histogram
    high = canvas.height - low - 2 * HEAD - FOOT
    axes = canvas.axes(left, HEAD, wide, high)
    bins = curves["bins"]
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    value, less, more = (np.array(bins[name]) for name in ("value", "low", "high"))
    axes.vlines(bins["confidence"], less, more, color=ACCENT, linewidth=1.6, alpha=0.6)
    axes.plot(bins["confidence"], value, "o", color=ACCENT, markersize=6, clip_on=False)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.04)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], [""] * 5)
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.grid(color=LINE, linewidth=0.6)
    canvas.text(left, 0, "right, of songs that are as sure", 11, color=SOFT)
    below = canvas.axes(left, high + 2 * HEAD, wide, low)
    middles = (np.arange(cells) + 0.5) / cells
    right, wrong = np.array(curves["right"]), np.array(curves["wrong"])
    for songs, under, colour in ((right, 0 * right, ACCENT), (wrong, right, WRONG)):
        there = songs > 0
        below.bar(middles[there], songs[there], 0.9 / cells, under[there], color=colour)
    below.set_xlim(0, 1.02)
    below.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    below.set_yticks([0, int((right + wrong).max())])
    canvas.text(left, HEAD + high + 0.06, "songs: right (blue), wrong (orange)", 11, color=SOFT)
    canvas.text(
        left + wide / 2, canvas.height, "confidence in the first choice", 11, ha="center",
        va="bottom", color=SOFT,
    )  # fmt: skip


def draw_risk(canvas: Canvas, curves: Mapping[str, Any]) -> None:
    """Wrong answers among the surest songs, against how many songs are answered."""
    left, wide, high = 0.85, canvas.width - 1.05, canvas.height - HEAD - FOOT
    axes = canvas.axes(left, HEAD, wide, high)
    risk = curves["risk"]
    share = np.array(risk["songs"]) / curves["songs"]
    axes.fill_between(share, risk["low"], risk["high"], color=ACCENT, alpha=0.15, linewidth=0)
    axes.plot(share, risk["value"], color=ACCENT, linewidth=2)
    axes.set_xlim(0, 1)
    top = max(2 * float(risk["high"][-1]), 1.15 * max(risk["value"]))
    low, top, step = scale([Estimate(0, 0, min(top, 1.0))], high, None)
    axes.set_ylim(low, top)
    ticks = np.arange(0, top + step / 2, step)
    axes.set_yticks(ticks, [f"{one:.{0 if step >= 0.01 else 1}%}" for one in ticks])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    canvas.text(left, 0, "wrong, of the songs answered", 11, color=SOFT)
    canvas.text(
        left + wide / 2, canvas.height, "songs answered, the surest first", 11, ha="center",
        va="bottom", color=SOFT,
    )  # fmt: skip
