"""How wide texts are, where their lines break, and which fonts have their letters.

Enters: texts and sizes in points. Leaves: widths in inches, lines, and the families that a figure
asks for, the program's own font first. A letter that no font has is found here, so that it can be
told and does not become a box without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

FAMILY = "DejaVu Sans"  # comes with matplotlib, so it is the same on every machine
MONO = "DejaVu Sans Mono"
BOX = "□"
LAST_RESORT = "Last Resort"  # matplotlib's: it has a box for every letter there is
ELLIPSIS = "…"
LEADING = 1.35  # from one line to the next, in sizes of the letters
SPARE = 1.02  # letters may be set a little wider than their font says
POINTS = 72.0  # in an inch
UNIT = 64.0  # size in points at which letters are measured


@cache
def _font(family: str, bold: bool) -> Any:
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    properties = FontProperties(family=[family], weight="bold" if bold else "normal")
    found = FT2Font(findfont(properties, fallback_to_default=False))
    found.set_size(UNIT, POINTS)
    return found


@cache
def _advance(letter: str, bold: bool, family: str) -> float:
    """Width of a letter in its size; one of another font is taken to be as wide as high."""
    from matplotlib.ft2font import LoadFlags

    font = _font(family, bold)
    if not font.get_char_index(ord(letter)):
        return 1.0
    glyph = font.load_char(ord(letter), flags=LoadFlags.NO_HINTING)
    return float(glyph.linearHoriAdvance / 65536 / UNIT)


def width_of(text: str, size: float, bold: bool = False, family: str = FAMILY) -> float:
    """Width of a line in inches."""
    return SPARE * size / POINTS * _ems(text, bold, family)


@lru_cache(100_000)
def _ems(text: str, bold: bool, family: str) -> float:
    """Width of a line in its own size."""
    return sum(_advance(letter, bold, family) for letter in text)


def shortened(text: str, room: float, size: float, bold: bool = False) -> str:
    """The text, or as much of its beginning and end as fits into `room` inches.

    An ellipsis stands for its middle: names that begin alike can still be told apart. Of
    "member/kind" the whole kind is kept, where it takes less than 0.7 of the room.
    """
    if width_of(text, size, bold) <= room:
        return text
    slash = text.rfind("/")
    if slash >= 0 and width_of(ELLIPSIS + text[slash:], size, bold) < 0.7 * room:
        end = text[slash:]
    else:
        end = ""
        for start in range(len(text) - 1, 0, -1):
            if width_of(ELLIPSIS + text[start:], size, bold) > 0.4 * room:
                break
            end = text[start:]
    kept = text[: len(text) - len(end)]
    while kept and width_of(kept.rstrip() + ELLIPSIS + end, size, bold) > room:
        kept = kept[:-1]
    return kept.rstrip() + ELLIPSIS + end.lstrip()


def wrapped(text: str, room: float, size: float, bold: bool = False) -> list[str]:
    """Lines that fit into `room` inches; a word that is longer than a line is broken.

    A line keeps the space that it ends with, so that all together are the text again.
    """
    lines: list[str] = []
    line = ""
    words = text.split(" ")
    for number, word in enumerate(words):
        space = " " if number + 1 < len(words) else ""
        if line and width_of(line + word, size, bold) > room:
            lines.append(line)
            line = ""
        while not line and width_of(word, size, bold) > room and len(word) > 1:
            cut = len(word) - 1
            while cut > 1 and width_of(word[:cut], size, bold) > room:
                cut -= 1
            lines.append(word[:cut])
            word = word[cut:]
        line += word + space
    return [*lines, line]


def line_height(size: float) -> float:
    """From one line to the next, in inches."""
    return LEADING * size / POINTS


def plain(text: str) -> str:
    """A text of one line that UTF-8 can hold; what it cannot, or what is no letter, becomes "?"."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    letters = "".join(" " if c.isspace() else c if c.isprintable() else "?" for c in whole)
    return letters.strip()


def lacking(texts: Iterable[str]) -> set[str]:
    """Letters that the program's own font does not have."""
    font = _font(FAMILY, False)
    letters = {letter for text in texts for letter in text if not letter.isspace()}
    return {letter for letter in letters if not font.get_char_index(ord(letter))}


def covering(letters: set[str], fonts: Sequence[tuple[str, str]]) -> tuple[list[str], set[str]]:
    """(families that together have most of `letters`, letters that none has).

    `fonts`: (family, file). The one with most letters that are still wanted comes first, by name
    where several have as many. A file that cannot be read is passed over.
    """
    from matplotlib.ft2font import FT2Font

    has: dict[str, set[str]] = {}
    for family, file in fonts if letters else ():
        try:
            there = FT2Font(file).get_charmap()
        except (OSError, RuntimeError):
            continue
        has[family] = has.get(family, set()) | {one for one in letters if ord(one) in there}
    chosen: list[str] = []
    missing = set(letters)
    while missing:
        best = max(sorted(has), key=lambda one: len(has[one] & missing), default="")
        if not best or not has[best] & missing:
            break
        chosen.append(best)
        missing -= has.pop(best)
    return chosen, missing


def installed() -> list[tuple[str, str]]:
    """(family, file) of each upright font of this machine that a PDF can hold as it is."""
    from matplotlib.font_manager import fontManager

    found = {
        (font.name, font.fname)
        for font in fontManager.ttflist
        if font.style == "normal"
        and Path(font.fname).suffix.lower() in (".ttf", ".ttc")
        and not font.name.startswith(LAST_RESORT)
    }
    return sorted(found)


def boxed(text: str, missing: set[str]) -> str:
    """The text with a box in place of each letter that no font has."""
    return "".join(BOX if letter in missing else letter for letter in text)
