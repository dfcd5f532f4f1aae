"""The same slides for PowerPoint, to be edited: texts in text boxes, tables, figures as pictures.

Enters: slides. Leaves: a `.pptx` file, the same bytes for the same slides.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.report.canvas import Box, Canvas
from analysis.report.columns import is_bold
from analysis.report.layout import (
    INDENT,
    Panel,
    PlacedDrawing,
    PlacedTable,
    Words,
    place,
)
from analysis.report.lettering import LEADING, boxed
from analysis.report.pdf import look
from analysis.report.slide import HEIGHT, INK, LINE, PANEL, SOFT, WIDTH, Drawing, Slide
from embedder.artifact import replacing

DPI = 220
FONT = "Arial"  # narrower than the PDF's, so that its lines fit
EPOCH = datetime(2000, 1, 1)  # a file must have dates; the time of writing would change its bytes


def write_powerpoint(
    path: Path, slides: Sequence[Slide], title: str, families: Sequence[str] = (),
    missing: frozenset[str] = frozenset(),
) -> None:  # fmt: skip
    """Write all slides, atomically."""
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    deck.slide_width, deck.slide_height = Inches(WIDTH), Inches(HEIGHT)
    about = deck.core_properties
    about.title, about.author, about.last_modified_by = title, "", ""
    about.created = about.modified = EPOCH
    about.revision = 1
    layout = next(one for one in deck.slide_layouts if one.name == "Title Only")
    with look(families):
        for number, slide in enumerate(slides, 1):
            page = deck.slides.add_slide(layout)
            for one in place(slide, number):
                if isinstance(one, Words):
                    _words(page, one)
                elif isinstance(one, PlacedTable):
                    _table(page, one)
                elif isinstance(one, PlacedDrawing):
                    _picture(page, one, missing)
                else:
                    _panel(page, one)
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


def picture(drawing: Drawing, box: Box, missing: frozenset[str] = frozenset()) -> bytes:
    """A figure of its own as PNG, `DPI` dots an inch."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text as Label

    figure = Figure(figsize=(box.width, box.height), facecolor="white")
    drawing.draw(Canvas(figure, Box(0, 0, box.width, box.height)))
    for label in figure.findobj(Label) if missing else ():
        label.set_text(boxed(label.get_text(), set(missing)))
    found = io.BytesIO()
    figure.savefig(found, format="png", dpi=DPI, metadata={"Software": None})
    return found.getvalue()


def _picture(page: Any, placed: PlacedDrawing, missing: frozenset[str]) -> None:
    data = io.BytesIO(picture(placed.drawing, placed.box, missing))
    shape = page.shapes.add_picture(data, *_emu(placed.box))
    shape._element.nvPicPr.cNvPr.set("descr", placed.drawing.about)


def _words(page: Any, words: Words) -> None:
    from pptx.enum.text import MSO_ANCHOR
    from pptx.util import Inches, Pt

    shape = page.shapes.title if words.role == "title" else page.shapes.add_textbox(0, 0, 1, 1)
    shape.left, shape.top, shape.width, shape.height = _emu(words.box)
    frame = shape.text_frame
    frame.margin_left = frame.margin_right = frame.margin_top = frame.margin_bottom = 0
    frame.word_wrap = True
    frame.vertical_anchor = MSO_ANCHOR.TOP
    for number, lines in enumerate(words.paragraphs):
        paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
        run = paragraph.add_run()
        run.text = "".join(lines)
        _letters(run.font, words.size, words.bold, words.colour)
        paragraph.line_spacing = Pt(LEADING * words.size)
        paragraph.alignment = _left()
        if words.bullets:
            paragraph.space_after = Pt(0.5 * LEADING * words.size)
            _bullet(paragraph, int(Inches(INDENT)))


def _bullet(paragraph: Any, indent: int) -> None:
    """A bullet before the paragraph, its lines indented; python-pptx has no call for it."""
    from pptx.oxml.ns import qn

    about = paragraph._p.get_or_add_pPr()
    about.set("marL", str(indent))
    about.set("indent", str(-indent))
    bullet = about.makeelement(qn("a:buChar"), {"char": "•"})
    about.append(bullet)


def _table(page: Any, placed: PlacedTable) -> None:
    from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
    from pptx.util import Inches

    grid = placed.grid
    shape = page.shapes.add_table(len(grid.rows), len(grid.widths), *_emu(placed.box))
    table = shape.table
    for column, width in enumerate(grid.widths):
        table.columns[column].width = Inches(width)
    for number, row in enumerate(grid.rows):
        table.rows[number].height = Inches(grid.row_height)
        for column, text in enumerate(row):
            cell = table.cell(number, column)
            cell.margin_left = cell.margin_right = Inches(0.08)
            cell.margin_top = cell.margin_bottom = 0
            cell.vertical_anchor = MSO_ANCHOR.MIDDLE
            cell.fill.solid()
            fill = LINE if number == 0 else "#ffffff" if number % 2 else PANEL
            cell.fill.fore_color.rgb = _rgb(fill)
            paragraph = cell.text_frame.paragraphs[0]
            cell.text_frame.word_wrap = False
            paragraph.alignment = (
                PP_ALIGN.RIGHT if column in placed.table.numeric else PP_ALIGN.LEFT
            )
            run = paragraph.add_run()
            run.text = text
            bold = is_bold(placed.table, number)
            _letters(run.font, grid.size, bold, INK if number else SOFT)


def _panel(page: Any, panel: Panel) -> None:
    from pptx.enum.shapes import MSO_SHAPE

    shape = page.shapes.add_shape(MSO_SHAPE.RECTANGLE, *_emu(panel.box))
    shape.fill.solid()
    shape.fill.fore_color.rgb = _rgb(panel.colour)
    shape.line.fill.background()
    shape.shadow.inherit = False


def _letters(font: Any, size: float, bold: bool, colour: str) -> None:
    from pptx.util import Pt

    font.size, font.bold, font.name = Pt(size), bold, FONT
    font.color.rgb = _rgb(colour)


def _left() -> Any:
    from pptx.enum.text import PP_ALIGN

    return PP_ALIGN.LEFT


def _emu(box: Box) -> tuple[int, int, int, int]:
    from pptx.util import Inches

    return tuple(int(Inches(one)) for one in (box.left, box.top, box.width, box.height))  # type: ignore[return-value]


def _rgb(colour: str) -> Any:
    """A colour "#rrggbb"."""
    from pptx.dml.color import RGBColor

    return RGBColor(*bytes.fromhex(colour[1:]))  # type: ignore[no-untyped-call]
