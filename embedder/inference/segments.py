"""The fixed grid on which a song is cut when it is embedded.

Input: a song's samples. Output: where its segments start, and the segments.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from embedder.config import SAMPLE_RATE


def grid(samples: int, segment: int, hop: int) -> NDArray[np.int64]:
    """Start of each segment, in samples, ascending; always one or more.

    Starts are multiples of `hop` as long as the segment fits; where a rest of at least half a hop
    stays uncovered, one more segment ends exactly at the song's end. A song shorter than a segment
    has the one start 0.
    """
    if samples <= segment:
        return np.zeros(1, dtype=np.int64)
    starts = np.arange(0, samples - segment + 1, hop, dtype=np.int64)
    last = samples - segment
    if last - starts[-1] >= max(1, hop // 2):
        starts = np.append(starts, last)
    return starts


def more_starts(wave: NDArray[np.int16], segment: int, count: int) -> NDArray[np.int64]:
    """`count` further starts, in samples, from 0 to where the last segment fits.

    They are drawn by a generator whose seed is the SHA-256 of the samples: a song has the same
    ones whatever it is called and in whatever order songs come. A song that is no longer than a
    segment has none.
    """
    if count == 0 or len(wave) <= segment:
        return np.zeros(0, dtype=np.int64)
    digest = hashlib.sha256(np.ascontiguousarray(wave).data).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    return rng.integers(len(wave) - segment + 1, size=count)


def cut(
    wave: NDArray[np.int16], segment_s: float, hop_s: float, more: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """A song's int16 samples → starts `(segments,)`, and its segments `(segments, samples)`.

    `more` segments from random places stand beside the grid's; all are in the order of their
    starts. A song shorter than one segment is repeated until it fills it: silence would be
    something that the network never met in training.
    """
    segment = round(segment_s * SAMPLE_RATE)
    hop = round(hop_s * SAMPLE_RATE)
    if len(wave) < segment:
        wave = np.resize(wave, segment)
    starts = np.sort(np.append(grid(len(wave), segment, hop), more_starts(wave, segment, more)))
    windows = np.lib.stride_tricks.sliding_window_view(wave, segment)
    return starts, windows[starts]
