"""A rectangle of a page, or a picture of its own, on which a figure is drawn.

Enters: a matplotlib figure and a box on it. Leaves: `Canvas`, measured in inches from its upper
left corner, so that a figure can leave as much room for its letters as they need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.report.lettering import shortened
from analysis.report.slide import INK, LINE, SOFT, WIDTH


@dataclass(frozen=True)
class Box:
    """A rectangle in inches, `top` counted downwards from the page's upper edge."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


@dataclass(frozen=True, eq=False)
class Canvas:
    """Where a figure is drawn. Sizes of letters are in points."""

    figure: Any  # matplotlib.figure.Figure
    box: Box

    @property
    def width(self) -> float:
        return self.box.width

    @property
    def height(self) -> float:
        return self.box.height

    def axes(self, left: float, top: float, width: float, height: float, **more: Any) -> Any:
        """Axes whose frame is this rectangle; what is written around it needs room beside it."""
        across, down = self.figure.get_size_inches()
        found = self.figure.add_axes(
            (
                (self.box.left + left) / across,
                1 - (self.box.top + top + height) / down,
                width / across,
                height / down,
            ),
            **more,
        )
        found.tick_params(labelsize=11, colors=SOFT, color=LINE, length=3)
        for side, spine in found.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(LINE)
        return found

    def text(self, left: float, top: float, text: str, size: float = 12, **more: Any) -> Any:
        """One line whose upper left corner is here, unless `ha` and `va` say otherwise."""
        across, down = self.figure.get_size_inches()
        chosen = {"ha": "left", "va": "top", "color": INK, **more}
        x, y = (self.box.left + left) / across, 1 - (self.box.top + top) / down
        return self.figure.text(x, y, text, fontsize=size, **chosen)

    def fitted(
        self, left: float, top: float, room: float, text: str, size: float, **more: Any
    ) -> Any:
        """`text`, shortened to `room` inches."""
        bold = more.get("fontweight") == "bold"
        return self.text(left, top, shortened(text, min(room, WIDTH), size, bold), size, **more)
