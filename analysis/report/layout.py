"""Where everything of a slide stands, for the PDF and for PowerPoint alike.

reportlab's Platypus breaks lines and measures; what has no room shrinks, by `KeepInFrame`. Nothing
is cut.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, repeat
from typing import Any

from analysis.report.charts import picture
from analysis.report.deck import (
    ACCENT,
    HEIGHT,
    INK,
    LINE,
    PANEL,
    SOFT,
    WIDTH,
    Block,
    Bullets,
    Figure,
    Slide,
    Table,
    Text,
    Tiles,
)
from analysis.report.fonts import BOLD, FAMILY, MONO, markup, register

MARGIN, GAP, BETWEEN = 0.6, 0.2, 0.45  # inches: at the sides, between blocks, between columns
FOOT = 0.42  # inches at the bottom, for the note and the page's number
LEADING = 1.3  # from one line to the next, in sizes of the letters
PAD = 0.08  # inches around the text of a cell
TILE = (13.0, 30.0, 12.0)  # sizes of the three lines of a tile
MIN_FIGURE = 2.0  # inches
INCH = 72.0  # points


@dataclass(frozen=True, eq=False)
class Placed:
    """A block and its rectangle; `top` is counted from the page's upper edge, inches."""

    block: Block
    left: float
    top: float
    width: float
    height: float
    scale: float = 1.0  # of its letters
    role: str = ""  # "title" or "message" where it is the slide's
    flowable: Any = None  # how reportlab draws it
    widths: tuple[float, ...] = ()  # of a table's columns, inches
    picture: bytes = b""  # of a figure: PNG


def arrange(slide: Slide, number: int, families: Sequence[str] = ()) -> list[Placed]:
    """All that stands on a page.

    Args:
        slide: What is to be shown.
        number: Of the page, printed at its foot.
        families: Fonts for letters that the program's own lacks.

    Returns:
        Blocks whose rectangles lie on the page and do not overlap.
    """
    register()
    room = WIDTH - 2 * MARGIN
    if slide.cover:
        blocks = (Text(slide.title, 54.0, True), Text(slide.message, 18.0, colour=SOFT))
        more = tuple(block for column in slide.columns for block in column.blocks)
        box = (1.5, 1.6, WIDTH - 3.0, HEIGHT - 2.2)
        return _stack((*blocks, *more), box, families, chain(("title", "message"), repeat("")))
    found = _stack(
        (Text(slide.title, 27.0, True),), (MARGIN, 0.38, room, 0.52), families, ("title",)
    )
    top = 0.98
    if slide.message:
        message = (Text(slide.message, 16.0, colour=SOFT),)
        found += _stack(message, (MARGIN, top, room, 0.95), families, ("message",))
        top = found[-1].top + found[-1].height
    top += GAP
    left, shares = MARGIN, sum(column.share for column in slide.columns)
    for column in slide.columns:
        width = (room - BETWEEN * (len(slide.columns) - 1)) * column.share / shares
        found += _stack(column.blocks, (left, top, width, HEIGHT - FOOT - top), families)
        left += width + BETWEEN
    foot = HEIGHT - FOOT + 0.1
    if slide.note:
        note = (Text(slide.note, 10.5, colour=SOFT),)
        found += _stack(note, (MARGIN, foot, room - 0.6, FOOT - 0.12), families)
    page = (Text(str(number), 10.5, colour=SOFT),)
    return found + _stack(page, (WIDTH - MARGIN - 0.4, foot, 0.4, FOOT - 0.12), families)


def _stack(
    blocks: Sequence[Block], box: tuple[float, float, float, float], families: Sequence[str],
    roles: Iterable[str] = repeat(""),
) -> list[Placed]:  # fmt: skip
    """Blocks from the top of (left, top, width, height) downwards."""
    left, top, width, height = box
    figures = sum(isinstance(block, Figure) for block in blocks)
    free = height - GAP * (len(blocks) - 1)
    texts = free - MIN_FIGURE * figures  # what they may take at most
    factor = 1.0
    while True:  # letters of all blocks shrink alike
        made = [_flowable(_smaller(block, factor), width, families) for block in blocks]
        needed = [_fitted(one, width, 1e4).height / INCH if one else 0.0 for one, _ in made]
        if sum(needed) <= texts or factor < 0.5:
            break
        factor *= 0.96
    squeeze = min(texts / max(sum(needed), 1e-6), 1.0)
    each = (free - squeeze * sum(needed)) / max(figures, 1)
    found = []
    for block, (flowable, widths), high, role in zip(blocks, made, needed, roles, strict=False):
        if isinstance(block, Figure):
            high = each
            png = picture(block.draw, width, high, families)
            found.append(Placed(block, left, top, width, high, picture=png))
        else:
            frame = _fitted(flowable, width, squeeze * high)
            shrunk, high = 1 / getattr(frame, "_scale", 1.0), frame.height / INCH
            scale = shrunk if isinstance(block, Tiles) else shrunk * factor
            across = tuple(one * shrunk for one in widths)
            size = (sum(across) or width, high)
            found.append(Placed(block, left, top, *size, scale, role, frame, across))
        top += high + GAP
    return found


def _smaller(block: Block, factor: float) -> Block:
    """The block in smaller letters; figures and tiles stay."""
    if isinstance(block, Figure | Tiles):
        return block
    return replace(block, size=block.size * factor)


def _fitted(flowable: Any, width: float, height: float) -> Any:
    """What is drawn shrinks until it is at most so many inches wide and high."""
    from reportlab.platypus import KeepInFrame

    frame = KeepInFrame(
        width * INCH, height * INCH + 0.1, [flowable], mode="shrink", fakeWidth=False
    )
    frame.wrapOn(_scratch(), width * INCH, height * INCH + 0.1)
    return frame


@cache
def _scratch() -> Any:
    """A canvas to measure on."""
    from reportlab.pdfgen.canvas import Canvas

    return Canvas(io.BytesIO())


def _flowable(block: Block, width: float, families: Sequence[str]) -> tuple[Any, tuple[float, ...]]:
    """What reportlab draws, and the widths of its columns; nothing for a figure."""
    if isinstance(block, Text):
        look = (block.size, families, block.bold, block.colour)
        return _paragraph(block.text, *look, lead=block.lead), ()
    if isinstance(block, Bullets):
        return _bullets(block, families), ()
    if isinstance(block, Table):
        return _table(block, width, families)
    if isinstance(block, Tiles):
        return _tiles(block, width, families)
    return None, ()


def _paragraph(
    text: str, size: float, families: Sequence[str], bold: bool = False, colour: str = INK,
    right: bool = False, mono: bool = False, lead: str = "",
) -> Any:  # fmt: skip
    from reportlab.lib.enums import TA_LEFT, TA_RIGHT
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    style = ParagraphStyle(
        "", fontName=MONO if mono else BOLD if bold else FAMILY, fontSize=size,
        leading=LEADING * size, textColor=colour, alignment=TA_RIGHT if right else TA_LEFT,
    )  # fmt: skip
    bold_lead = f"<b>{markup(lead, families)}</b> " if lead else ""
    return Paragraph(bold_lead + markup(text, families), style)


def _bullets(block: Bullets, families: Sequence[str]) -> Any:
    from reportlab.platypus import ListFlowable, ListItem

    texts = [_paragraph(one, block.size, families, mono=block.mono) for one in block.texts]
    items = [ListItem(one, spaceAfter=0.5 * block.size) for one in texts]
    return ListFlowable(
        items, bulletType="bullet", start="•", bulletFontName=FAMILY, bulletFontSize=block.size,
        bulletColor=ACCENT, leftIndent=1.1 * block.size,
    )  # fmt: skip


def _table(block: Table, width: float, families: Sequence[str]) -> tuple[Any, tuple[float, ...]]:
    from reportlab.pdfbase.pdfmetrics import stringWidth
    from reportlab.platypus import Table as Grid

    rows = (block.head, *block.rows)
    bold = {0, *(row + 1 for row in block.bold)}
    columns = range(len(block.head))
    widths = [
        max(stringWidth(row[c], BOLD if n in bold else FAMILY, block.size)
            for n, row in enumerate(rows)) / INCH + 2 * PAD + 0.02
        for c in columns
    ]  # fmt: skip
    most = max(1.25 * width / len(widths), 0.5 * width)  # longer texts wrap, the whole shrinks
    widths = [one if c in block.numeric else min(one, most) for c, one in enumerate(widths)]
    spare = min(max(width - sum(widths), 0) / len(widths), 0.5)
    widths = [one + spare for one in widths]
    cells = [
        [_paragraph(cell, block.size, families, n in bold, INK if n else SOFT, c in block.numeric)
         for c, cell in enumerate(row)]
        for n, row in enumerate(rows)
    ]  # fmt: skip
    style = [
        ("LINEBELOW", (0, 0), (-1, 0), 0.9, SOFT), ("LINEBELOW", (0, 1), (-1, -1), 0.6, LINE),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("LEFTPADDING", (0, 0), (-1, -1), PAD * INCH),
        ("RIGHTPADDING", (0, 0), (-1, -1), PAD * INCH),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
    ]  # fmt: skip
    return Grid(cells, [one * INCH for one in widths], style=style, hAlign="LEFT"), tuple(widths)


def _tiles(block: Tiles, width: float, families: Sequence[str]) -> tuple[Any, tuple[float, ...]]:
    from reportlab.platypus import Table as Grid

    count = len(block.numbers)
    widths = (width / count,) * count
    label, number, about = TILE
    cells = [
        [_paragraph(one[0], label, families, colour=SOFT),
         _paragraph(one[1], number, families, True, ACCENT),
         _paragraph(one[2], about, families, colour=SOFT)]
        for one in block.numbers
    ]  # fmt: skip
    style = [
        ("BACKGROUND", (0, 0), (-1, -1), PANEL), ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEAFTER", (0, 0), (-2, -1), 12, "white"), ("LEFTPADDING", (0, 0), (-1, -1), 12),
        ("RIGHTPADDING", (0, 0), (-1, -1), 12), ("TOPPADDING", (0, 0), (-1, -1), 7),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 9),
    ]  # fmt: skip
    return Grid([cells], [one * INCH for one in widths], style=style, hAlign="LEFT"), widths
