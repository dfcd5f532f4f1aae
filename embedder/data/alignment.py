"""How far a mixture's own file lies from its stems.

Enters: a mixture and what it should equal, `(samples,)`. Leaves: a lag in samples. A decoder keeps
the padding of one encoder and drops that of another, so an mp3 and its stems may lie some 0.07 s
apart. A crop does not mind, the labels of 50 ms frames do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from embedder.config import SAMPLE_RATE

FURTHEST = SAMPLE_RATE // 4  # samples by which the two may lie apart, either way
COMPARED = 10 * SAMPLE_RATE  # samples around the middle by which the lag is found
EVEN = 0.01  # share of the median level under which a frequency is not brought up


def lag_of(wave: NDArray[Any], reference: NDArray[Any]) -> int:
    """Samples by which `wave` lies behind `reference` (negative: before it), at most 0.25 s.

    The place of the highest correlation over ten seconds around the middle, with all frequencies
    brought towards one level: the phase transform of Knapp & Carter, IEEE Trans. ASSP 1976. Without
    it, a bass makes a peak so broad that neighbours of the lag win. 0 where either is silent there.
    """
    first = max(0, (min(len(wave), len(reference)) - COMPARED) // 2)
    one, other = (part[first : first + COMPARED].astype(np.float64) for part in (wave, reference))
    size = next_fast_len(len(one) + len(other), real=True)
    cross = rfft(one, size) * rfft(other, size).conj()
    level = np.abs(cross)
    if not level.any():
        return 0
    found = irfft(cross / (level + EVEN * np.median(level[level > 0])), size)
    lags = np.arange(-FURTHEST, FURTHEST + 1)
    return int(lags[np.argmax(found[lags])])


def moved(samples: NDArray[np.int16], lag: int, length: int) -> NDArray[np.int16]:
    """`samples` later by `lag`, cut or filled with silence to `(length,)`."""
    result = np.zeros(length, dtype=np.int16)
    first, end = max(0, lag), min(length, len(samples) + lag)
    if end > first:
        result[first:end] = samples[first - lag : end - lag]
    return result
