"""Intervals in closed form, for shares of few songs and for two sets of different songs.

Enters: counts, or two `Estimate`s. Leaves: `Estimate`s. A bootstrap of a share that is 0 or 1 has
no width; Wilson's interval has.
"""

from __future__ import annotations

import math

from embedder.metrics import Estimate, Z


def wilson(hits: float, count: int) -> Estimate:
    """The share `hits` / `count` with its 95 % score interval (Wilson 1927).

    `hits` may be a fraction, where songs of equal rank share theirs. Raises `ValueError` without
    songs or with more hits than songs.
    """
    if count < 1 or not 0 <= hits <= count + 1e-9:
        raise ValueError(f"a share needs songs and at most as many hits, not {hits} of {count}")
    share = min(hits / count, 1.0)
    spread = Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return Estimate(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """first − second, measured on different songs, with the interval that theirs imply.

    The distances from the values to the limits add like standard errors (Zou & Donner 2008).
    """
    value = first.value - second.value
    low = math.hypot(first.value - first.low, second.high - second.value)
    high = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, value - low, value + high)
