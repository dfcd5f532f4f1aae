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

    Resampling songs without a mistake shows none either, so there the rule of three stands: with
    95 % confidence at most 3/n are wrong.
    """
    if share.value == 1.0:
        return (
            f"no mistake among {counted(songs, 'song')}, so up to {min(3 / songs, 1):.1%} is likely"
        )
    return f"95% interval {share.low:.1%} to {share.high:.1%}"


def points(difference: Estimate) -> str:
    """A difference of shares in percentage points, with its interval."""
    low, high = (f"{100 * one:+.1f}".replace("-", "−") for one in (difference.low, difference.high))
    value = f"{100 * difference.value:+.1f}".replace("-", "−")
    return f"{value} points, 95% interval {low} to {high}"
