"""What a deck is made of, whatever file it is written to: slides of texts, tables and figures.

Lengths are in inches, sizes of letters in points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from embedder.errors import Command

WIDTH, HEIGHT = 13.333, 7.5  # 16:9
TITLE = "Who sings?"

# The colours of the HTML pages, in light.
INK, SOFT, LINE, PANEL = "#1b1f24", "#57606a", "#d9dde3", "#f5f6f8"
ACCENT, WRONG = "#0b62a8", "#c2410c"

MAX_NAME = 36  # letters of a singer's name on a slide


@dataclass(frozen=True)
class Author:
    """Whose work it is; empty texts are left out."""

    name: str = ""
    student_id: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    size: float = 16.0
    bold: bool = False
    colour: str = INK
    lead: str = ""  # before it, in bold


@dataclass(frozen=True)
class Bullets:
    """Sentences, one below the other; commands in a `mono` face, so that they can be copied."""

    texts: tuple[str, ...]
    size: float = 18.0
    mono: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells below a head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()  # columns that are set flush right
    bold: tuple[int, ...] = ()  # rows in bold
    size: float = 14.0


@dataclass(frozen=True)
class Tiles:
    """A few numbers in large letters: label, number, what is to be known of it."""

    numbers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, eq=False)
class Figure:
    """A chart. It takes the room that the other blocks of its column leave."""

    draw: Callable[[Any], None]  # given a `matplotlib.figure.Figure` of the room's size
    about: str  # what is to be seen, for those who cannot


Block = Text | Bullets | Table | Tiles | Figure


@dataclass(frozen=True)
class Column:
    """Blocks from top to bottom."""

    blocks: tuple[Block, ...]
    share: float = 1.0  # of the page's width, relative to the other columns


@dataclass(frozen=True)
class Slide:
    """One page."""

    title: str
    message: str  # what the page shows, in a sentence or two
    columns: tuple[Column, ...]
    note: str = ""  # at the foot: what the numbers were measured on
    cover: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A slide that this run has no numbers for."""

    what: str
    how: str  # to add it


def not_measured(what: str, command: Command) -> LeftOut:
    """What a command adds to the next deck."""
    return LeftOut(what, f"to add it: {command} && {Command('report')}")


def plain(text: str) -> str:
    """A text of one line that UTF-8 can hold; what it cannot, or what is no letter, becomes "?"."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if c.isspace() else c if c.isprintable() else "?" for c in whole).strip()


def short(text: str, most: int = MAX_NAME) -> str:
    """At most so many letters; an ellipsis stands for the middle, as ends tell names apart."""
    text, end = plain(text), most // 2
    return text if len(text) <= most else f"{text[: most - end - 1]}…{text[-end:]}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
