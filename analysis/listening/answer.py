"""The answer to one recording as HTML: who it is, how sure that is, and what it is like.

Enters: `Recognised`. Leaves: a headline in plain text, and escaped HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from analysis.listening.schemas import Near, Recognised
from analysis.page import escape
from analysis.run_data import album_title
from ensemble.results import Choice


def percent(share: float) -> str:
    """A share in whole percent; one that is neither 0 nor 1 is never said to be."""
    if 0 < share < 0.005:
        return "under 1%"
    if 0.995 <= share < 1:
        return "over 99%"
    return f"{100 * share:.0f}%"


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def headline(answer: Recognised, known: int) -> str:
    """The answer in one sentence; `known` singers could have been named."""
    first = answer.top[0]
    if answer.unknown:
        return (
            f"Unknown: probably none of the {known:,} singers that are known here. Most like "
            f"{first.singer}, {percent(first.probability)}."
        )
    return f"This sounds like {first.singer}, {percent(first.probability)}."


def bars(answer: Recognised, colours: Mapping[str, str]) -> str:
    """The likeliest singers as a list with bars; the bars repeat what the text says."""
    rows = "".join(_bar(one, colours.get(one.singer, "")) for one in answer.top)
    sure = (
        f"Confidence {answer.confidence:.2f}; below {answer.threshold:.2f} a recording counts as "
        "unknown."
    )
    if answer.unknown:
        sure += " If it is one of these, then with the shares shown."
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in answer.notes)
    kind = ' class="bars unknown"' if answer.unknown else ' class="bars"'
    return f'<ol{kind} aria-label="Likeliest singers">{rows}</ol><p class="soft">{sure}</p>{notes}'


def nearest(answer: Recognised, address: Callable[[Near], str]) -> str:
    """The songs most like the recording, each with its singer, album and a player.

    `address` gives where a song's excerpt is played from.
    """
    if not answer.nearest:
        return ""
    rows = "".join(
        f'<li><div><b>{escape(near.title)}</b><span class="soft">{escape(_by(near))}</span>'
        f'<span class="soft">similarity {_signed(near.similarity)}</span></div>'
        f"{_player(near, address)}</li>"
        for near in answer.nearest
    )
    return (
        '<section aria-labelledby="near-title"><h2 id="near-title">Songs most like it</h2>'
        f'<ol class="near">{rows}</ol></section>'
    )


def song_address(near: Near) -> str:
    """Where the page's server plays a song of the index."""
    return f"listening/song?id={quote(near.song_id, safe='')}"


def _bar(choice: Choice, colour: str) -> str:
    share = min(max(choice.probability, 0.0), 1.0)
    return (
        f'<li><span class="who">{escape(choice.singer)}</span>'
        f'<span class="track" aria-hidden="true"><i style="width:{100 * share:.1f}%;'
        f'background:{escape(colour) or "currentColor"}"></i></span>'
        f'<span class="share">{percent(choice.probability)}</span></li>'
    )


def _by(near: Near) -> str:
    album = album_title(near.album) if near.album else ""
    return f"{near.singer} · {album}" if album else near.singer


def _player(near: Near, address: Callable[[Near], str]) -> str:
    if not near.playable:
        return '<span class="soft">no excerpt</span>'
    label = escape(f"Excerpt of {near.title} by {near.singer}")
    source = escape(address(near))
    return f'<audio controls preload="none" src="{source}" aria-label="{label}"></audio>'


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
