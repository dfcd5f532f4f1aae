"""Where someone sings, judged by how loud the vocal stem is: 20 frames a second.

What a detector gives for a mixture has the same shape and is read with the same functions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.config import SAMPLE_RATE
from embedder.data.audio import FULL_SCALE

FRAME = 800  # samples: 50 ms
LOUDEST = SAMPLE_RATE // FRAME  # frames of the stretch that stands for the song's own level: 1 s
BELOW_DB = -26.0  # a frame this far under the song's loudest second is still sung, dB
SILENCE = 1e-3  # a stem whose loudest second is quieter (−60 dB full scale) holds no voice
GAP = 5  # frames: a pause of up to 0.25 s (a consonant, a breath) belongs to the voice around it
BURST = 2  # frames: what lasts 0.1 s or less is no voice

Active = NDArray[np.bool_]


def frame_levels(wave: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean square of each 50 ms of `wave (samples,)`, 1.0 full scale: (ceil(samples / 800),).

    int16 is scaled by 32768, float is taken as it is. A last frame that is cut off counts what is
    there of it.
    """
    scale = FULL_SCALE if wave.dtype == np.int16 else 1
    starts = np.arange(0, len(wave), FRAME)
    power = np.square(wave, dtype=np.float32) if scale == 1 else _squares(wave)
    sums = np.add.reduceat(power, starts, dtype=np.float64) if len(wave) else np.zeros(0)
    counts = np.minimum(len(wave) - starts, FRAME)
    levels: NDArray[np.float64] = np.sqrt(sums / counts) / scale
    return levels


def _squares(wave: NDArray[np.int16]) -> NDArray[np.float32]:
    return np.square(wave.astype(np.float32))


def sung(vocals: NDArray[Any]) -> Active:
    """Whether someone sings in each 50 ms of a vocal stem `(samples,)`: `active (frames,)`.

    A frame counts if it is at most 26 dB quieter than the song's loudest second; the outcome is
    smoothed. The level is the song's own, so a gain changes nothing. Against the loudest second,
    and not the mean, a song that is sung for ten seconds only is judged like any other. On stems
    without a separator's residue, frames between −60 and −30 dB hardly occur, so the exact
    threshold matters little; −26 dB leaves room for residue.
    """
    levels = frame_levels(vocals)
    width = min(LOUDEST, len(levels))
    if not width:
        return np.zeros(0, dtype=bool)
    sums = np.concatenate(([0.0], np.cumsum(levels**2)))
    loudest = float(np.sqrt((sums[width:] - sums[:-width]).max() / width))
    if loudest < SILENCE:
        return np.zeros(len(levels), dtype=bool)
    return smoothed(levels >= loudest * 10 ** (BELOW_DB / 20))


def smoothed(active: Active) -> Active:
    """`active (frames,)` without pauses of up to 0.25 s, then without bursts of up to 0.1 s.

    Silence before the first voice and after the last is no pause.
    """
    return _flipped(_flipped(active, False, GAP), True, BURST)


def _flipped(active: Active, value: bool, longest: int) -> Active:
    """Runs of `value` no longer than `longest` frames turned over; pauses at the ends stay."""
    result = active.copy()
    bounds = np.concatenate(([0], np.flatnonzero(np.diff(active)) + 1, [len(active)]))
    for start, end in pairwise(bounds):
        inside = start > 0 and end < len(active)
        if end > start and active[start] == value and end - start <= longest and (value or inside):
            result[start:end] = not value
    return result


def voice_share(
    active: Active, starts: NDArray[np.integer[Any]], samples: int
) -> NDArray[np.float32]:
    """Share of voice, 0 to 1, of the `samples` from each of `starts (n,)`: (n,).

    `active (frames,)` is of the whole song. Frames that a stretch cuts count in part. What lies
    past the song's end does not count; a stretch that begins there has no voice.
    """
    sums = np.concatenate(([0.0], np.cumsum(active, dtype=np.float64)))
    edges = np.arange(len(sums))
    first = np.minimum(np.asarray(starts) / FRAME, len(active))
    end = np.minimum((np.asarray(starts) + samples) / FRAME, len(active))
    voice = np.interp(end, edges, sums) - np.interp(first, edges, sums)
    share = np.zeros(len(first))
    np.divide(voice, end - first, out=share, where=end > first)
    clipped: NDArray[np.float32] = np.clip(share, 0, 1).astype(np.float32)
    return clipped
