"""What a slide is made of, whatever it is written as.

Enters: nothing. Leaves: `Slide` with its blocks, and the look that the PDF and PowerPoint share.
Lengths are in inches, sizes of letters in points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.report.canvas import Canvas

WIDTH, HEIGHT = 13.333, 7.5  # of a page, 16:9
SMALLEST = 10.0  # points: no letter is smaller

# Those of the HTML pages, in light.
INK, SOFT, LINE, PANEL = "#1b1f24", "#57606a", "#d9dde3", "#f5f6f8"
ACCENT, WRONG = "#0b62a8", "#c2410c"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    size: float = 15.0  # at most; it shrinks where there is no room
    bold: bool = False
    colour: str = INK


@dataclass(frozen=True)
class Bullets:
    """Sentences, one below the other."""

    texts: tuple[str, ...]
    size: float = 17.0


@dataclass(frozen=True)
class Table:
    """Cells of one line each."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()  # columns that are set flush right
    bold: tuple[int, ...] = ()  # rows in bold
    size: float = 13.0


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure."""

    draw: Callable[[Canvas], None]
    about: str  # what is to be seen, for those who cannot


@dataclass(frozen=True, eq=False)
class Tiles:
    """A few numbers in large letters, each with a line or two below it."""

    numbers: tuple[tuple[str, str, str], ...]  # name, number, what is to be known of it


Block = Text | Bullets | Table | Drawing | Tiles


@dataclass(frozen=True, eq=False)
class Column:
    """Blocks from top to bottom."""

    blocks: tuple[Block, ...]
    share: float = 1.0  # of the page's width, relative to the other columns


@dataclass(frozen=True, eq=False)
class Slide:
    """One page."""

    title: str
    message: str  # what the page shows, in a sentence or two
    columns: tuple[Column, ...]
    note: str = ""  # at the foot: what the numbers were measured on
    cover: bool = False
