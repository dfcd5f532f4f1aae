"""The deck for PowerPoint, to be edited: text in placeholders and text boxes, tables, pictures.

Blocks stand where the PDF has them, in letters of the same size.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.report.deck import (
    ACCENT,
    HEIGHT,
    INK,
    LINE,
    PANEL,
    SOFT,
    WIDTH,
    Bullets,
    Figure,
    Table,
    Tiles,
)
from analysis.report.layout import LEADING, PAD, TILE, Placed
from embedder.artifact import replacing

FONT, MONO = "Arial", "Courier New"  # narrower than the PDF's, so that its lines fit
NAMESPACE = "http://schemas.openxmlformats.org/presentationml/2006/main"
EPOCH = datetime(2000, 1, 1)  # a file must have dates; the time of writing would change its bytes


def write_pptx(path: Path, pages: Sequence[Sequence[Placed]], title: str) -> None:
    """Write all slides, atomically; the first is the cover. The same slides give the same bytes."""
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    deck.slide_width, deck.slide_height = Inches(WIDTH), Inches(HEIGHT)
    about = deck.core_properties
    about.title, about.author, about.last_modified_by = title, "", ""
    about.created = about.modified = EPOCH
    about.revision = 1
    layout = next(one for one in deck.slide_layouts if one.name == "Title and Content")
    for one in [*deck.slide_master.placeholders, *layout.placeholders]:
        one.left = round(one.left * WIDTH / 10)  # the template's slides are 10 inches wide
        one.width = round(one.width * WIDTH / 10)
    for number, page in enumerate(pages):
        slide = deck.slides.add_slide(layout)
        _rectangle(slide, (0, 0, 0.5, HEIGHT) if number == 0 else (0, 0.42, 0.14, 0.5), ACCENT)
        for placed in page:
            _add(slide, placed)
        for one in list(slide.placeholders):
            if not one.text_frame.text:
                one._element.getparent().remove(one._element)
    whole = io.BytesIO()
    deck.save(whole)
    with replacing(path) as temporary:
        temporary.write_bytes(undated(whole.getvalue()))


def undated(data: bytes) -> bytes:
    """The same zip file with one date for all its parts."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(found, "w") as new:
        for entry in old.infolist():
            part = zipfile.ZipInfo(entry.filename, EPOCH.timetuple()[:6])
            part.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(part, old.read(entry))
    return found.getvalue()


def _add(slide: Any, placed: Placed) -> None:
    block, scale = placed.block, placed.scale
    box = (placed.left, placed.top, placed.width, placed.height)
    if isinstance(block, Figure):
        shape = slide.shapes.add_picture(io.BytesIO(placed.picture), *_emu(*box))
        shape._element.nvPicPr.cNvPr.set("descr", block.about)
    elif isinstance(block, Table):
        _table(slide, block, placed)
    elif isinstance(block, Tiles):
        looks = zip(TILE, (False, True, False), (SOFT, ACCENT, SOFT), strict=True)
        fonts = [(size * scale, bold, colour) for size, bold, colour in looks]
        width = placed.widths[0] - 0.17
        for n, lines in enumerate(block.numbers):
            left, inner = placed.left + n * placed.widths[0], placed.height - 0.1
            _rectangle(slide, (left, placed.top, width, placed.height), PANEL)
            shape = slide.shapes.add_textbox(
                *_emu(left + 0.15, placed.top + 0.06, width - 0.2, inner)
            )
            _fill(shape.text_frame, lines, fonts)
    else:
        holder = {"title": 0, "message": 1}.get(placed.role)
        textbox = slide.shapes.add_textbox
        shape = textbox(0, 0, 0, 0) if holder is None else slide.placeholders[holder]
        shape.left, shape.top, shape.width, shape.height = _emu(*box)
        if isinstance(block, Bullets):
            fonts = [(block.size * scale, False, INK)] * len(block.texts)
            _fill(shape.text_frame, block.texts, fonts, MONO if block.mono else FONT, True)
        else:
            fonts = [(block.size * scale, block.bold, block.colour)]
            _fill(shape.text_frame, (block.text,), fonts, lead=block.lead)


def _fill(
    frame: Any, texts: Sequence[str], fonts: Sequence[tuple[float, bool, str]], name: str = FONT,
    bullets: bool = False, lead: str = "",
) -> None:  # fmt: skip
    """A paragraph for each text in its font (size, bold, colour); edited texts shrink to fit."""
    from pptx.enum.text import MSO_ANCHOR, MSO_AUTO_SIZE, PP_ALIGN
    from pptx.util import Pt

    frame.margin_left = frame.margin_right = frame.margin_top = frame.margin_bottom = 0
    frame.word_wrap, frame.vertical_anchor = True, MSO_ANCHOR.TOP
    frame.auto_size = MSO_AUTO_SIZE.TEXT_TO_FIT_SHAPE
    for n, (text, font) in enumerate(zip(texts, fonts, strict=True)):
        paragraph, size = frame.paragraphs[0] if n == 0 else frame.add_paragraph(), font[0]
        if lead:
            _run(paragraph, f"{lead} ", size, True, INK, name)
        _run(paragraph, text, *font, name)
        paragraph.line_spacing, paragraph.alignment = Pt(LEADING * size), PP_ALIGN.LEFT
        paragraph.space_before, paragraph.space_after = Pt(0), Pt(0.5 * size * bullets)
        about = paragraph._p.get_or_add_pPr()  # python-pptx has no call for bullets
        indent = round(Pt(1.1 * size)) * bullets
        about.set("marL", str(indent))
        about.set("indent", str(-indent))
        kind = ("buChar", {"char": "•"}) if bullets else ("buNone", {})
        about.append(about.makeelement(f"{{{about.nsmap['a']}}}{kind[0]}", kind[1]))


def _table(slide: Any, block: Table, placed: Placed) -> None:
    from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
    from pptx.util import Inches

    rows = (block.head, *block.rows)
    box = _emu(placed.left, placed.top, placed.width, placed.height)
    table = slide.shapes.add_table(len(rows), len(block.head), *box).table
    for column, width in zip(table.columns, placed.widths, strict=True):
        column.width = Inches(width)
    for n, row in enumerate(rows):
        table.rows[n].height = Inches(placed.height / len(rows))
        for c, text in enumerate(row):
            cell = table.cell(n, c)
            cell.margin_left = cell.margin_right = Inches(PAD * placed.scale)
            cell.margin_top = cell.margin_bottom = 0
            cell.vertical_anchor = MSO_ANCHOR.MIDDLE
            cell.fill.solid()
            cell.fill.fore_color.rgb = _rgb(LINE if n == 0 else "#ffffff" if n % 2 else PANEL)
            paragraph = cell.text_frame.paragraphs[0]
            paragraph.alignment = PP_ALIGN.RIGHT if c in block.numeric else PP_ALIGN.LEFT
            bold = n == 0 or n - 1 in block.bold
            _run(paragraph, text, block.size * placed.scale, bold, INK)


def _run(paragraph: Any, text: str, size: float, bold: bool, colour: str, name: str = FONT) -> None:
    from pptx.util import Pt

    run = paragraph.add_run()
    run.text, run.font.size, run.font.bold, run.font.name = text, Pt(size), bold, name
    run.font.color.rgb = _rgb(colour)


def _rectangle(slide: Any, box: tuple[float, float, float, float], colour: str) -> None:
    from pptx.enum.shapes import MSO_SHAPE

    shape = slide.shapes.add_shape(MSO_SHAPE.RECTANGLE, *_emu(*box))
    shape.fill.solid()
    shape.fill.fore_color.rgb = _rgb(colour)
    shape.line.fill.background()
    shape._element.remove(shape._element.find(f"{{{NAMESPACE}}}style"))  # has a shadow


def _emu(*inches: float) -> tuple[int, ...]:
    return tuple(round(914400 * one) for one in inches)


def _rgb(colour: str) -> Any:
    """A colour "#rrggbb"."""
    from pptx.dml.color import RGBColor

    return RGBColor(*bytes.fromhex(colour[1:]))  # type: ignore[no-untyped-call]
