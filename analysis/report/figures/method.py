"""The method in one picture: from a song to the three likeliest singers.

Enters: what the run's members, experts and fusion are. Leaves: a drawing on a `Canvas`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.report.canvas import Canvas
from analysis.report.lettering import shortened, width_of
from analysis.report.slide import ACCENT, INK, LINE, PANEL, SMALLEST, SOFT

ARROW = 0.35  # inches between two boxes
ROWS = 5  # members that have a row; of more, the first ones and a line that says so
LINE_IN = 0.27  # height of a line of a box, inches


@dataclass(frozen=True)
class Route:
    """One member's way from what it hears to what its experts say."""

    hears: tuple[str, ...]  # lines
    member: tuple[str, ...]  # its name first
    experts: tuple[tuple[str, str], ...]  # what each asks, its weight or ""


@dataclass(frozen=True)
class Method:
    """The whole way."""

    song: tuple[str, ...]  # lines of the first box, its heading first
    members: tuple[Route, ...]
    fusion: tuple[str, ...]
    answer: tuple[str, ...]


def draw_method(canvas: Canvas, method: Method) -> None:
    """Boxes from left to right, a row for each member, arrows between them."""
    shares = (0.15, 0.15, 0.21, 0.2, 0.18, 0.11)
    free = canvas.width - 5 * ARROW
    widths = [free * share for share in shares]
    lefts = [sum(widths[:n]) + n * ARROW for n in range(len(widths))]
    shown = method.members[:ROWS]
    more = len(method.members) - len(shown)
    high = canvas.height - 0.35 - (0.3 if more else 0)
    row = high / len(shown)
    middle = 0.35 + high / 2
    heads = ("song", "what is heard", "member", "experts, with weights", "fusion", "answer")
    for left, width, head in zip(lefts, widths, heads, strict=True):
        canvas.text(left + width / 2, 0, shortened(head, width + ARROW, 11), 11, ha="center",
                    color=SOFT)  # fmt: skip
    _box(canvas, lefts[0], middle, widths[0], method.song, high)
    _box(canvas, lefts[4], middle, widths[4], method.fusion, high, strong=True)
    _box(canvas, lefts[5], middle, widths[5], method.answer, high)
    for number, one in enumerate(shown):
        centre = 0.35 + row * (number + 0.5)
        _box(canvas, lefts[1], centre, widths[1], one.hears, row - 0.12)
        _box(canvas, lefts[2], centre, widths[2], one.member, row - 0.12)
        says = tuple(f"{what}  {weight}".rstrip() for what, weight in one.experts)
        _box(canvas, lefts[3], centre, widths[3], says, row - 0.12, heading=False)
        _arrow(canvas, lefts[0] + widths[0], middle, lefts[1], centre)
        _arrow(canvas, lefts[1] + widths[1], centre, lefts[2], centre)
        _arrow(canvas, lefts[2] + widths[2], centre, lefts[3], centre)
        _arrow(canvas, lefts[3] + widths[3], centre, lefts[4], middle)
    _arrow(canvas, lefts[4] + widths[4], middle, lefts[5], middle)
    if more:
        canvas.text(lefts[2], canvas.height, f"and {more} more like these", 12, va="bottom",
                    color=SOFT)  # fmt: skip


def _box(
    canvas: Canvas, left: float, centre: float, width: float, lines: Sequence[str], room: float,
    strong: bool = False, heading: bool = True,
) -> None:  # fmt: skip
    """A box around its lines, the first in bold where it is a heading."""
    from matplotlib.patches import FancyBboxPatch

    fitting = max(int((room - 0.1) / LINE_IN), 1)
    kept = list(lines[:fitting])
    height = min(len(kept) * LINE_IN + 0.24, room)
    across, down = canvas.figure.get_size_inches()
    top = centre - height / 2
    rounded = 0.05
    canvas.figure.add_artist(
        FancyBboxPatch(
            (
                (canvas.box.left + left + rounded) / across,
                1 - (canvas.box.top + top + height - rounded) / down,
            ),
            (width - 2 * rounded) / across, (height - 2 * rounded) / down,
            boxstyle=f"round,pad={rounded / down}", mutation_aspect=across / down,
            facecolor="#e3eef7" if strong else PANEL, edgecolor=ACCENT if strong else LINE,
            linewidth=1.2,
        )
    )  # fmt: skip
    start = centre - len(kept) * LINE_IN / 2
    for number, line in enumerate(kept):
        bold = heading and number == 0
        size = _size(kept[:1] if bold else kept[heading:], width - 0.2, bold)
        canvas.fitted(
            left + width / 2, start + (number + 0.5) * LINE_IN, width - 0.2, line, size,
            ha="center", va="center_baseline", color=INK, fontweight="bold" if bold else "normal",
        )  # fmt: skip


def _size(lines: Sequence[str], room: float, bold: bool) -> float:
    """The size, in points, at which all lines fit, or the smallest."""
    size = 14.0 if bold else 12.5
    while size > SMALLEST and any(width_of(line, size, bold) > room for line in lines):
        size -= 0.5
    return size


def _arrow(canvas: Canvas, left: float, top: float, right: float, bottom: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    across, down = canvas.figure.get_size_inches()

    def place(x: float, y: float) -> tuple[float, float]:
        return (canvas.box.left + x) / across, 1 - (canvas.box.top + y) / down

    canvas.figure.add_artist(
        FancyArrowPatch(
            place(left + 0.03, top), place(right - 0.03, bottom), arrowstyle="-|>", color=SOFT,
            mutation_scale=11, linewidth=1.1, shrinkA=0, shrinkB=0,
        )
    )  # fmt: skip
