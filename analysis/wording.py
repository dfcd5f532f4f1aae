"""How numbers are said in sentences.

Enters: estimates and counts. Leaves: plain text that is true of them.
"""

from __future__ import annotations

from embedder.metrics import Estimate


def counted(number: int, what: str) -> str:
    """`1 song`, `2 songs`, `1,413 songs`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def interval(share: Estimate, songs: int) -> str:
    """The interval of a share of songs, in words.

    Songs without a mistake do not show how mistakes vary; the limit is then that of a share of
    albums of which none has one, with 95 % confidence.
    """
    if share.value == 1.0:
        return no_mistake(share, songs)
    return f"95% interval {share.low:.1%} to {share.high:.1%}"


def no_mistake(share: Estimate, songs: int) -> str:
    """What a share of 1 leaves possible, and on how many albums (or songs) that rests."""
    what = "album" if share.groups < songs else "song"
    return f"no mistake in {counted(share.groups, what)}, so up to {1 - share.low:.1%} is likely"


def points(difference: Estimate) -> str:
    """A difference of shares in percentage points, with its interval."""
    low, high = (f"{100 * one:+.1f}".replace("-", "−") for one in (difference.low, difference.high))
    value = f"{100 * difference.value:+.1f}".replace("-", "−")
    return f"{value} points, 95% interval {low} to {high}"
