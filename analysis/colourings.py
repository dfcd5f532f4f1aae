"""What the points of a map can be coloured by, each with its legend.

For every song a category with a colour, or a number on a scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.page import UNKNOWN_COLOUR, colours, escape
from analysis.run_data import Songs, album_title
from analysis.singer_facts import SingerFacts

# Violet over green to yellow: light and dark grounds both leave each of them to be seen.
SCALE = ("#7869d2", "#0f9aa5", "#5aa500", "#b4a02b")
NOT_KNOWN = "not known"


@dataclass(frozen=True, eq=False)
class Colouring:
    """One way to colour. A colour is "#rrggbb", or the name of one of the page's own."""

    name: str
    label: str  # in the list of choices
    says: str  # how to read it
    keys: tuple[int, ...] = ()  # per song, index into `entries`
    entries: tuple[tuple[str, str], ...] = ()  # (text, colour); a line feed begins a second line
    values: tuple[float | None, ...] = ()  # per song, in place of keys: 0 to 1 on the scale
    ends: tuple[str, str] = ("", "")  # what 0 and 1 on the scale are

    def data(self) -> dict[str, Any]:
        """What the page's script needs."""
        if self.entries:
            return {"keys": self.keys, "colours": [colour for _, colour in self.entries]}
        return {"values": self.values, "scale": SCALE, "none": UNKNOWN_COLOUR}

    def legend(self) -> str:
        """The legend as HTML; its buttons show one category alone."""
        if not self.entries:
            low, high = map(escape, self.ends)
            return (
                f'<p class="soft">{escape(self.says)}</p><div class="scale" style="background:'
                f'linear-gradient(90deg,{",".join(SCALE)})"></div>'
                f'<div class="ends"><span>{low}</span><span>{high}</span></div>'
            )
        buttons = "".join(
            f'<button type="button" aria-pressed="false"><i class="swatch" style="background:'
            f'{_css(colour)}"></i><span>{_lines(text)}</span></button>'
            for text, colour in self.entries
        )
        return f'<p class="soft">{escape(self.says)}</p><div class="legend">{buttons}</div>'


def colourings(songs: Songs, facts: Mapping[str, SingerFacts]) -> list[Colouring]:
    """All that there is something to be coloured by, the singers first."""
    found = [by_singer(songs), by_album(songs), by_correctness(songs), by_confidence(songs)]
    if any(one.sex for one in facts.values()):
        found.append(by_sex(songs, facts))
    if any(one.low_hz for one in facts.values()):
        found.append(by_range(songs, facts))
    return found


CLICK = "Click one to see it alone, the others fade; click again to bring all back."


def by_singer(songs: Songs) -> Colouring:
    """A colour a singer; songs of unknown singers share one."""
    singers = songs.singers
    entries = list(zip(singers, colours(len(singers)), strict=True))
    if (songs.labels < 0).any():
        entries.append(("unknown singer", UNKNOWN_COLOUR))
    keys = np.where(songs.labels < 0, len(singers), songs.labels)
    return Colouring("singer", "singer", CLICK, tuple(keys.tolist()), tuple(entries))


def by_album(songs: Songs) -> Colouring:
    """A colour an album, in the order of the singers."""
    albums = sorted(set(songs.albums))
    place = {album: number for number, album in enumerate(albums)}
    entries = [
        (f"{album_title(album)}\n{album.partition('/')[0]}" if album else NOT_KNOWN, tint)
        for album, tint in zip(albums, colours(len(albums)), strict=True)
    ]
    keys = tuple(place[album] for album in songs.albums)
    return Colouring("album", "album", CLICK, keys, tuple(entries))


def by_correctness(songs: Songs) -> Colouring:
    """Right, wrong, or no prediction of a known singer's song."""
    judged = (songs.predictions >= 0) & (songs.labels >= 0)
    keys = np.where(judged, songs.predictions != songs.labels, 2)
    entries = (("right", "right"), ("wrong", "wrong"), ("not predicted", UNKNOWN_COLOUR))
    says = f"Whether the fused prediction of the whole song is right. {CLICK}"
    return Colouring("correct", "correctness", says, tuple(keys.tolist()), entries)


def by_confidence(songs: Songs) -> Colouring:
    """Probability of the fused first choice."""
    values = tuple(
        round(confidence, 3) if prediction >= 0 else None
        for confidence, prediction in zip(
            songs.confidences.tolist(), songs.predictions.tolist(), strict=True
        )
    )
    says = "Fused probability of the singer named first for the whole song; grey: not predicted."
    return Colouring("confidence", "confidence", says, values=values, ends=("0%", "100%"))


def by_sex(songs: Songs, facts: Mapping[str, SingerFacts]) -> Colouring:
    """The singers' sex, as the csv writes it."""
    of_singer = [facts.get(singer, SingerFacts()).sex for singer in songs.singers]
    kinds = sorted({sex for sex in of_singer if sex})
    entries = list(zip(kinds, colours(len(kinds)), strict=True))
    entries.append((NOT_KNOWN, UNKNOWN_COLOUR))
    place = [kinds.index(sex) if sex else len(kinds) for sex in of_singer] + [len(kinds)]
    keys = tuple(place[label] for label in songs.labels)  # −1, an unknown singer, takes the last
    return Colouring("sex", "sex", f"Of the singers, from the csv. {CLICK}", keys, tuple(entries))


def by_range(songs: Songs, facts: Mapping[str, SingerFacts]) -> Colouring:
    """The middle of the singers' vocal range: the geometric mean of its ends, in Hz."""
    of_singer = [middle_hz(facts.get(singer, SingerFacts())) for singer in songs.singers] + [None]
    known = [one for one in of_singer if one is not None]
    values = scaled([of_singer[label] for label in songs.labels], min(known), max(known))
    sources = {one.measured for one in facts.values() if one.low_hz is not None}
    measured = "measured in the songs (nine tenths of what is sung)"
    source = "from the csv" if False in sources else measured
    if len(sources) == 2:
        source += f", or where it gives none {measured}"
    says = f"Middle of the singer's vocal range, {source}; grey: not known."
    ends = (f"{min(known):.0f} Hz", f"{max(known):.0f} Hz")
    return Colouring("range", "vocal range", says, values=tuple(values), ends=ends)


def middle_hz(facts: SingerFacts) -> float | None:
    """Geometric mean of the lowest and the highest note, half way between them on a keyboard."""
    if facts.low_hz is None or facts.high_hz is None:
        return None
    return math.sqrt(facts.low_hz * facts.high_hz)


def scaled(hz: Sequence[float | None], low: float, high: float) -> list[float | None]:
    """Frequencies on a scale of pitch, `low` 0 and `high` 1; all in the middle if they are one."""
    width = np.log2(high / low)
    return [
        None if one is None else round(float(np.log2(one / low) / width), 3) if width else 0.5
        for one in hz
    ]


def _css(colour: str) -> str:
    return colour if colour.startswith("#") else f"var(--{colour})"


def _lines(text: str) -> str:
    first, _, second = text.partition("\n")
    return escape(first) + (f"<small>{escape(second)}</small>" if second else "")
