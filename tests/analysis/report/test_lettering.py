"""Widths, lines and fonts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.report.lettering import (
    BOX,
    boxed,
    covering,
    installed,
    lacking,
    plain,
    shortened,
    width_of,
    wrapped,
)

WORDS = st.text(st.sampled_from("aiWM .-éß"), max_size=60)


@given(WORDS, st.floats(0.3, 4), st.booleans())
def test_lines_fit_and_are_the_text_again(text: str, room: float, bold: bool) -> None:
    lines = wrapped(text, room, 12, bold)
    assert "".join(lines) == text
    for line in lines:
        assert len(line) == 1 or width_of(line.rstrip(" "), 12, bold) <= room


@given(st.text(st.sampled_from("aiWM .-éß/"), max_size=60), st.floats(0.5, 4))
def test_shortened_texts_fit(text: str, room: float) -> None:
    found = shortened(text, room, 11)
    assert width_of(found, 11) <= room
    assert (found == text) == (width_of(text, 11) <= room)


def test_shortened_names_can_be_told_apart() -> None:
    names = [f"The Incredible Singing Ensemble No. {number}" for number in range(9)]
    assert len({shortened(name, 1.5, 11) for name in names}) == 9
    assert shortened("a-member-with-a-long-name/knn_song", 1.5, 11).endswith("…/knn_song")


def test_width_is_that_of_the_font() -> None:
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font, LoadFlags

    font = FT2Font(findfont(FontProperties(family=["DejaVu Sans"])))
    font.set_size(100, 72)
    font.set_text("Singers", 0, flags=LoadFlags.NO_HINTING)
    inches = font.get_width_height()[0] / 64 / 72
    assert width_of("Singers", 100) == pytest.approx(inches, rel=0.04)


@pytest.fixture
def other_font(tmp_path: Path) -> Path:
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
    font.setupNameTable({"familyName": "Other", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    path = tmp_path / "other.ttf"
    font.save(path)
    return path


def test_letters_are_looked_for_in_other_fonts(other_font: Path, tmp_path: Path) -> None:
    letters = lacking(["Ada Müller −…", "名前", "Łódź"])
    assert letters == {"名", "前"}
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    fonts = [("Broken", str(broken)), ("Other", str(other_font))]
    assert covering(letters, fonts) == (["Other"], {"前"})
    assert covering(set(), fonts) == ([], set())
    assert boxed("名前", {"前"}) == f"名{BOX}"


def test_the_font_of_boxes_is_not_taken_for_one_with_letters() -> None:
    """matplotlib brings a font that shows a box for each letter there is."""
    families = {family for family, _ in installed()}
    assert "DejaVu Sans" in families
    assert not [family for family in families if "resort" in family.lower()]
    assert covering({"\U0001fae8"}, [one for one in installed() if "DejaVu" in one[0]])[1]


def test_plain_texts() -> None:
    assert plain(" a\nb\tc\u2028d ") == "a b c d"
    assert plain("x\udc80\x07y") == "x??y"
