"""The fonts of the deck: the program's own, and others of this machine for letters that it lacks.

DejaVu Sans comes with matplotlib, so it is the same everywhere; it has Latin, Greek and Cyrillic.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

FAMILY, BOLD, MONO = "DejaVu Sans", "DejaVu Sans Bold", "DejaVu Sans Mono"
FILES = {FAMILY: "DejaVuSans.ttf", BOLD: "DejaVuSans-Bold.ttf", MONO: "DejaVuSansMono.ttf"}
LAST_RESORT = "Last Resort"  # matplotlib's: it has a box for every letter there is


@cache
def register() -> None:
    """Make the program's own fonts known to reportlab."""
    from matplotlib import get_data_path
    from reportlab.pdfbase.pdfmetrics import registerFont, registerFontFamily
    from reportlab.pdfbase.ttfonts import TTFont

    for name, file in FILES.items():
        registerFont(TTFont(name, str(Path(get_data_path(), "fonts", "ttf", file))))
    registerFontFamily(FAMILY, normal=FAMILY, bold=BOLD, italic=FAMILY, boldItalic=BOLD)


def has(letter: str, family: str = FAMILY) -> bool:
    """Whether a registered font has a letter."""
    from reportlab.pdfbase.pdfmetrics import getFont

    return ord(letter) in getFont(family).face.charToGlyph


def lacking(texts: Iterable[str]) -> set[str]:
    """Letters that the program's own font does not have."""
    register()
    return {one for text in texts for one in text if not one.isspace() and not has(one)}


def covering(letters: set[str], fonts: Sequence[tuple[str, str]]) -> tuple[list[str], set[str]]:
    """Choose, and register, families that together have most of `letters`.

    Args:
        letters: Those that the program's own font lacks.
        fonts: (family, file). A file that a PDF cannot hold is passed over.

    Returns:
        The families, that with most letters first, and the letters that none has.
    """
    from reportlab.pdfbase.pdfmetrics import registerFont
    from reportlab.pdfbase.ttfonts import TTFError, TTFont

    found: dict[str, Any] = {}
    for family, file in fonts if letters else ():
        try:
            found.setdefault(family, TTFont(family, file))
        except (OSError, TTFError):
            continue
    chosen, missing = [], set(letters)
    while found and missing:
        sets = {name: {c for c in missing if ord(c) in font.face.charToGlyph}
                for name, font in found.items()}  # fmt: skip
        best = max(sorted(sets), key=lambda name: len(sets[name]))
        if not sets[best]:
            break
        registerFont(found.pop(best))
        chosen.append(best)
        missing -= sets[best]
    return chosen, missing


def installed() -> list[tuple[str, str]]:
    """(family, file) of each upright TrueType font of this machine."""
    from matplotlib.font_manager import fontManager

    return sorted(
        (font.name, font.fname)
        for font in fontManager.ttflist
        if font.style == "normal"
        and Path(font.fname).suffix.lower() in (".ttf", ".ttc")
        and font.name not in FILES
        and not font.name.startswith(LAST_RESORT)
    )


def markup(text: str, families: Sequence[str] = ()) -> str:
    """A text for reportlab's `Paragraph`, its letters in the first of the fonts that has them."""

    def family(letter: str) -> str:
        if letter.isspace() or has(letter):
            return ""
        return next((one for one in families if has(letter, one)), "")

    parts = ((name, html.escape("".join(part))) for name, part in groupby(text, family))
    return "".join(f'<font name="{name}">{part}</font>' if name else part for name, part in parts)
