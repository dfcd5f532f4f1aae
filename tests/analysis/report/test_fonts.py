"""Letters are in the program's own font, in one of the machine's, or said to be missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from reportlab.pdfbase.pdfmetrics import getRegisteredFontNames

from analysis.report.deck import plain, short
from analysis.report.fonts import covering, installed, lacking, markup


@pytest.fixture(scope="module")
def other_font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A font with the letters 名 and A, both a square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(point)
    pen.closePath()
    glyph = pen.glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "one", "A"])
    font.setupCharacterMap({ord("名"): "one", ord("A"): "A"})
    font.setupGlyf({".notdef": glyph, "one": glyph, "A": glyph})
    font.setupHorizontalMetrics(dict.fromkeys([".notdef", "one", "A"], (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Other", "styleName": "Regular", "psName": "Other"})
    font.setupOS2()
    font.setupPost()
    path = tmp_path_factory.mktemp("fonts") / "other.ttf"
    font.save(path)
    return path


def test_letters_are_looked_for_in_other_fonts(other_font: Path, tmp_path: Path) -> None:
    letters = lacking(["Ada Müller −…", "名前", "Łódź", "Ω Жанна"])
    assert letters == {"名", "前"}
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    fonts = [("Broken", str(broken)), ("Other", str(other_font))]
    assert covering(letters, fonts) == (["Other"], {"前"})
    assert "Other" in getRegisteredFontNames()
    assert covering(set(), fonts) == ([], set())
    assert markup("<A & 名前>", ["Other"]) == '&lt;A &amp; <font name="Other">名</font>前&gt;'


def test_the_font_of_boxes_is_not_taken_for_one_with_letters() -> None:
    """matplotlib brings a font that shows a box for each letter there is."""
    assert not [family for family, _ in installed() if "resort" in family.lower()]


def test_names_are_of_one_line_and_keep_their_ends() -> None:
    assert plain(" a\nb\tc\u2028d ") == "a b c d"
    assert plain("x\udc80\x07y") == "x??y"
    names = [short(f"The Incredible Singing Ensemble of the Valley No. {n}") for n in range(9)]
    assert len(set(names)) == 9
    assert {len(name) for name in names} == {36}
    assert short("a-member-with-quite-a-long-name/knn_song", 20).endswith("…e/knn_song")
