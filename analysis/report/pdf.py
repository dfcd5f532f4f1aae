"""The deck as a PDF: embedded fonts, and the same bytes for the same slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.report.deck import ACCENT, HEIGHT, WIDTH
from analysis.report.layout import INCH, Placed
from embedder.artifact import replacing


def write_pdf(path: Path, pages: Sequence[Sequence[Placed]], title: str) -> None:
    """Write all pages, atomically, without a date; the first is the cover."""
    from io import BytesIO

    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    with replacing(path) as temporary:
        canvas = Canvas(str(temporary), (WIDTH * INCH, HEIGHT * INCH), invariant=1)
        canvas.setTitle(title)
        canvas.setAuthor("")
        for number, page in enumerate(pages):
            canvas.setFillColor(ACCENT)
            cover = number == 0
            bar = (0.5, HEIGHT) if cover else (0.14, 0.5)
            top = 0.0 if cover else 0.42
            canvas.rect(0, (HEIGHT - top - bar[1]) * INCH, bar[0] * INCH, bar[1] * INCH, 0, 1)
            for one in page:
                x, y = one.left * INCH, (HEIGHT - one.top - one.height) * INCH
                if one.picture:
                    size = one.width * INCH, one.height * INCH
                    canvas.drawImage(ImageReader(BytesIO(one.picture)), x, y, *size)
                else:
                    one.flowable.drawOn(canvas, x, y)
            canvas.showPage()
        canvas.save()
