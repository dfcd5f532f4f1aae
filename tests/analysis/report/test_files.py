"""Slides as files: the same bytes anywhere, and boxes for letters that no font has."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from analysis.report.figures.estimates import draw_estimates
from analysis.report.figures.matrix import draw_confusion
from analysis.report.pdf import page_figure, write_pdf
from analysis.report.powerpoint import write_powerpoint
from analysis.report.slide import Bullets, Column, Drawing, Slide, Table, Text, Tiles
from embedder.metrics import Estimate

ROOT = Path(__file__).parents[3]


def every_block() -> list[Slide]:
    """Slides with every kind of block."""
    tiles = Tiles((("top-1", "99.0%", "of 100 songs"),) * 3)
    rows = [("member/head", Estimate(0.9, 0.8, 1.0), "90%"), ("fused", Estimate(1, 1, 1), "100%")]
    counts = np.array([[3, 1], [0, 4]])
    drawings = (
        Drawing(partial(draw_estimates, rows=rows, axis="right"), "shares"),
        Drawing(partial(draw_confusion, counts=counts, names=("Ada", "Łuk")), "matrix"),
    )
    table = Table(("singer", "songs"), (("Ada", "1"), ("Bo", "2")), (1,), (0,))
    blocks = (Text("A paragraph − with α"), Bullets(("one", "two")), table)
    return [
        Slide("Cover", "message", (Column((Text("name"),)),), cover=True),
        Slide("Title", "message", (Column((tiles, *blocks)), Column(drawings)), "note"),
    ]


def test_the_same_slides_give_the_same_bytes_under_any_hash(tmp_path: Path) -> None:
    """Written here and in another process, whose strings have other hashes, in another year."""
    slides = every_block()
    write_pdf(tmp_path / "here.pdf", slides, "title")
    write_powerpoint(tmp_path / "here.pptx", slides, "title")
    program = (
        "import sys, importlib.util; from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"spec = importlib.util.spec_from_file_location('made', {__file__!r})\n"
        "made = importlib.util.module_from_spec(spec); spec.loader.exec_module(made)\n"
        "slides = made.every_block()\n"
        "made.write_pdf(Path(sys.argv[1]) / 'there.pdf', slides, 'title')\n"
        "made.write_powerpoint(Path(sys.argv[1]) / 'there.pptx', slides, 'title')\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1000000000"}
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, env=environment)
    for end in ("pdf", "pptx"):
        here, there = (tmp_path / f"{name}.{end}" for name in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()


def test_letters_without_a_font_are_boxes() -> None:
    from matplotlib.text import Text as Label

    (_, slide) = every_block()
    figure = page_figure(slide, 1, frozenset("Łd"))
    texts = {one.get_text() for one in figure.findobj(Label)}
    assert {"□uk", "A□a"} <= texts
    assert not any("Ł" in text for text in texts)


def test_what_goes_wrong_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(b"old")

    def broken(_: object) -> None:
        raise OSError("disk full")

    slide = Slide("Title", "", (Column((Drawing(broken, "nothing"),)),))
    with pytest.raises(OSError, match="disk full"):
        write_pdf(path, [slide], "title")
    with pytest.raises(OSError, match="disk full"):
        write_powerpoint(path, [slide], "title")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("report.pdf", b"old")]
