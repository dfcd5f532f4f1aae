"""The fixed grid on which a song is heard when it is embedded.

Enters: a song's number of samples. Leaves: where its segments start, and the segments.
"""

from __future__ import annotations

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


def cut(
    wave: NDArray[np.int16], segment_s: float, hop_s: float
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """A song's int16 samples → starts `(segments,)`, and its segments `(segments, samples)`.

    A song shorter than one segment is repeated until it fills it: silence would be something that
    the network never heard in training.
    """
    segment = round(segment_s * SAMPLE_RATE)
    hop = round(hop_s * SAMPLE_RATE)
    if len(wave) < segment:
        wave = np.resize(wave, segment)
    starts = grid(len(wave), segment, hop)
    windows = np.lib.stride_tricks.sliding_window_view(wave, segment)
    return starts, windows[starts]
