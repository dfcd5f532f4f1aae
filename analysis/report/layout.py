"""Where everything of a slide stands, for the PDF and for PowerPoint alike.

Enters: a `Slide`. Leaves: `Placed` blocks in inches, with their lines broken. Letters shrink until
all has room, down to the smallest legible size; what has none even then is cut with an ellipsis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.report.canvas import Box
from analysis.report.columns import Grid, grid_of, squeezed
from analysis.report.lettering import ELLIPSIS, line_height, width_of, wrapped
from analysis.report.slide import (
    ACCENT,
    HEIGHT,
    INK,
    PANEL,
    SMALLEST,
    SOFT,
    WIDTH,
    Block,
    Bullets,
    Drawing,
    Slide,
    Table,
    Text,
    Tiles,
)

MARGIN = 0.6  # inches, left and right
GAP = 0.22  # between blocks of a column
BETWEEN = 0.45  # between columns
FOOT_TOP = 7.06
INDENT = 0.28  # of a bullet's text
TILE = 1.42  # height of a tile
LEAST_DRAWING = 1.5  # inches
TITLE, MESSAGE, NOTE = 27.0, 16.0, 10.0  # points
MESSAGE_LINES = 3


@dataclass(frozen=True)
class Words:
    """Paragraphs with broken lines."""

    box: Box
    paragraphs: tuple[tuple[str, ...], ...]
    size: float
    bold: bool = False
    colour: str = INK
    bullets: bool = False
    role: str = ""  # "title" where it is the slide's


@dataclass(frozen=True)
class PlacedTable:
    box: Box
    table: Table
    grid: Grid


@dataclass(frozen=True, eq=False)
class PlacedDrawing:
    box: Box
    drawing: Drawing


@dataclass(frozen=True)
class Panel:
    """A plain rectangle."""

    box: Box
    colour: str


Placed = Words | PlacedTable | PlacedDrawing | Panel


def place(slide: Slide, number: int) -> list[Placed]:
    """All that stands on the page; `number` is printed at its foot."""
    if slide.cover:
        return _cover(slide)
    room = WIDTH - 2 * MARGIN
    title = Box(MARGIN, 0.42, room, line_height(TITLE))
    found: list[Placed] = [
        Panel(Box(0.0, 0.42, 0.14, title.height), ACCENT),
        Words(title, (_cut([slide.title], room, TITLE, 1, True),), TITLE, True, role="title"),
    ]
    top = title.bottom + 0.08
    if slide.message:
        size = MESSAGE
        while len(wrapped(slide.message, room, size)) > MESSAGE_LINES and size > 12:
            size -= 0.5
        lines = _cut(wrapped(slide.message, room, size), room, size, MESSAGE_LINES + 1)
        box = Box(MARGIN, top, room, len(lines) * line_height(size))
        found.append(Words(box, (lines,), size, colour=SOFT))
        top = box.bottom
    top += 0.25
    shares = sum(column.share for column in slide.columns)
    free = room - BETWEEN * (len(slide.columns) - 1)
    left = MARGIN
    for column in slide.columns:
        width = free * column.share / shares
        found += _stack(column.blocks, Box(left, top, width, FOOT_TOP - 0.12 - top))
        left += width + BETWEEN
    page = str(number)
    wide = width_of(page, NOTE)
    if slide.note:
        lines = _cut(wrapped(slide.note, room - 0.6, NOTE), room - 0.6, NOTE, 1)
        box = Box(MARGIN, FOOT_TOP, room - 0.6, line_height(NOTE))
        found.append(Words(box, (lines,), NOTE, colour=SOFT))
    box = Box(WIDTH - MARGIN - wide, FOOT_TOP, wide, line_height(NOTE))
    found.append(Words(box, ((page,),), NOTE, colour=SOFT))
    return found


def _cover(slide: Slide) -> list[Placed]:
    room, size = WIDTH - 3.0, 60.0
    lines = _cut(wrapped(slide.title, room, size, True), room, size, 3, True)
    title = Box(1.5, 1.7, room, len(lines) * line_height(size))
    found: list[Placed] = [
        Panel(Box(0.0, 0.0, 0.5, HEIGHT), ACCENT),
        Words(title, (lines,), size, True, role="title"),
    ]
    top = title.bottom + 0.25
    if slide.message:
        lines = _cut(wrapped(slide.message, room, 18), room, 18, 4)
        box = Box(1.5, top, room, len(lines) * line_height(18))
        found.append(Words(box, (lines,), 18, colour=SOFT))
        top = box.bottom + 0.45
    for column in slide.columns:
        found += _stack(column.blocks, Box(1.5, top, room, HEIGHT - 0.6 - top))
    return found


def _stack(blocks: Sequence[Block], box: Box) -> list[Placed]:
    """Blocks from the top of a box downwards; drawings share the room that the others leave."""
    drawings = sum(isinstance(block, Drawing) for block in blocks)
    free = box.height - GAP * (len(blocks) - 1)
    shrink = 1.0
    while True:
        heights = [_height(block, box.width, shrink) for block in blocks]
        over = sum(heights) + drawings * LEAST_DRAWING - free
        if over <= 1e-9 or shrink < 0.3:
            break
        shrink -= 0.03
    each = max((free - sum(heights)) / drawings, LEAST_DRAWING) if drawings else 0.0
    found: list[Placed] = []
    top = box.top
    for block, height in zip(blocks, heights, strict=True):
        high = each if isinstance(block, Drawing) else min(height, box.bottom - top)
        found += _placed(block, Box(box.left, top, box.width, high), shrink)
        top += high + GAP
    return found


def _size(block: Text | Bullets | Table, shrink: float) -> float:
    return max(round(2 * block.size * shrink) / 2, SMALLEST)


def _height(block: Block, width: float, shrink: float) -> float:
    """What a block needs; a drawing needs nothing of its own."""
    if isinstance(block, Drawing):
        return 0.0
    if isinstance(block, Tiles):
        return TILE
    if isinstance(block, Table):
        return grid_of(block, width, _size(block, shrink)).height
    size = _size(block, shrink)
    if isinstance(block, Text):
        return len(wrapped(block.text, width, size, block.bold)) * line_height(size)
    lines = sum(len(wrapped(one, width - INDENT, size)) for one in block.texts)
    return (lines + 0.5 * (len(block.texts) - 1)) * line_height(size)


def _placed(block: Block, box: Box, shrink: float) -> list[Placed]:
    if isinstance(block, Drawing):
        return [PlacedDrawing(box, block)]
    if isinstance(block, Tiles):
        return _tiles(block, box)
    size = _size(block, shrink)
    if isinstance(block, Table):
        grid = squeezed(grid_of(block, box.width, size), box.height)
        return [PlacedTable(replace(box, width=sum(grid.widths), height=grid.height), block, grid)]
    most = max(int((box.height + 1e-6) / line_height(size)), 1)
    if isinstance(block, Text):
        lines = wrapped(block.text, box.width, size, block.bold)
        cut = _cut(lines, box.width, size, most, block.bold)
        return [Words(box, (cut,), size, block.bold, block.colour)]
    paragraphs: list[tuple[str, ...]] = []
    left = box.height
    for text in block.texts:
        lines = wrapped(text, box.width - INDENT, size)
        most = int((left + 1e-6) / line_height(size))
        if most < 1:
            break
        paragraphs.append(_cut(lines, box.width - INDENT, size, most))
        left -= (min(len(lines), most) + 0.5) * line_height(size)
    return [Words(box, tuple(paragraphs), size, bullets=True)]


def _tiles(block: Tiles, box: Box) -> list[Placed]:
    count = len(block.numbers)
    width = (box.width - 0.25 * (count - 1)) / count
    found: list[Placed] = []
    for place_, (name, number, about) in enumerate(block.numbers):
        left = box.left + place_ * (width + 0.25)
        room = width - 0.4
        found.append(Panel(Box(left, box.top, width, TILE), PANEL))
        top = box.top + 0.12
        for text, size, bold, colour in (
            (name, 13.0, False, SOFT), (number, 30.0, True, ACCENT), (about, 11.0, False, SOFT),
        ):  # fmt: skip
            while size > SMALLEST and width_of(text, size, bold) > room:
                size -= 0.5
            line = _cut([text], room, size, 1, bold)
            words = Box(left + 0.2, top, room, line_height(size))
            found.append(Words(words, (line,), size, bold, colour))
            top = words.bottom + 0.02
    return found


def _cut(
    lines: Sequence[str], room: float, size: float, most: int, bold: bool = False
) -> tuple[str, ...]:
    """At most so many lines; the last ends with an ellipsis where text is left out."""
    if len(lines) <= most and all(
        width_of(line.rstrip(), size, bold) <= room + 1e-6 for line in lines
    ):
        return tuple(lines)
    kept = list(lines[:most])
    last = kept[-1]
    while last and width_of(last.rstrip() + ELLIPSIS, size, bold) > room:
        last = last[:-1]
    return (*kept[:-1], last.rstrip() + ELLIPSIS)
