"""Numbers in words: counts, shares and differences with their intervals."""

from __future__ import annotations

import math

from embedder.statistics import Estimate
from embedder.text import counted


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


def share_cell(one: Estimate | None) -> str:
    """A share for a table, its interval on a second line; empty where it is not known."""
    if one is None or math.isnan(one.value):
        return ""
    return f"{one.value:.1%}\n{one.low:.1%} to {one.high:.1%}"


def points_cell(one: Estimate | None) -> str:
    """A difference of shares for a table, its interval on a second line."""
    return points(one).replace(", 95% interval ", "\n") if one else ""
