"""A separator that takes a few seconds at its own rate, applied to songs of any length at 16 kHz.

What is held in memory beside the song and its stems does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedder.artifact import file_fingerprint, fingerprint
from embedder.config import SAMPLE_RATE
from embedder.models.separators.stem_record import VERSION

Floats = NDArray[np.float32]
# `wave (samples,)`, mono float32 in [-1, 1) → vocals and backing, `(samples,)` each; a backing of
# None is the wave less the vocals.
Split = Callable[[Tensor], tuple[Tensor, Tensor | None]]

MIN_S = 1.0  # shorter songs are filled up with silence: networks cannot take less, s
SILENCE = 1e-8  # spread of a song that is nothing but silence


@dataclass(frozen=True, eq=False)
class SongSeparator:
    """One separator with its weights, ready to split."""

    method: str  # key of `SEPARATORS`
    weights: tuple[Path, ...]  # the files it was read from
    rate: int  # Hz of what `split` takes
    split: Split
    chunk_s: float  # length of what it takes at once, s
    overlap_s: float  # shortest crossfade between two chunks, s
    standardise: bool = False  # whether it takes the song at mean 0 and standard deviation 1

    def fingerprint(self) -> str:
        """16 hexadecimal digits: equal for separators that give the same stems."""
        parts = [file_fingerprint(path) for path in self.weights]
        return fingerprint(self.method, str(VERSION), *parts)


def separate(separator: SongSeparator, wave: Floats) -> tuple[Floats, Floats | None]:
    """`wave (samples,)`, 16 kHz, float32 in [-1, 1) → vocals and backing, `(samples,)` each.

    Chunks follow each other evenly and share at least `overlap_s`, over which one fades linearly
    into the next. A backing of None is the wave less the vocals.
    """
    if wave.ndim != 1 or not len(wave):
        raise ValueError(f"wave must be (samples ≥ 1,), not {wave.shape}")
    shortest = round(MIN_S * SAMPLE_RATE)
    if len(wave) < shortest:
        vocals, backing = separate(separator, np.pad(wave, (0, shortest - len(wave))))
        return vocals[: len(wave)], None if backing is None else backing[: len(wave)]
    centre, spread = 0.0, 1.0
    if separator.standardise:
        centre, spread = float(wave.mean()), float(wave.std()) + SILENCE
    length = round(separator.chunk_s * SAMPLE_RATE)
    overlap = round(separator.overlap_s * SAMPLE_RATE)
    starts = chunk_starts(len(wave), length, overlap)
    stems: list[Floats] = []
    covered = 0  # samples from the song's start that some chunk has reached
    for start in starts:
        chunk = (wave[start : start + length] - centre) / spread
        parts = [part * spread for part in _split(separator, chunk.astype(np.float32))]
        if not stems:
            stems = [np.zeros_like(wave) for _ in parts]
        shared = covered - start if start else 0
        fade = (np.arange(shared, dtype=np.float32) + 0.5) / max(1, shared)
        for stem, part in zip(stems, parts, strict=True):
            part[:shared] = fade * part[:shared] + (1 - fade) * stem[start:covered]
            stem[start : start + length] = part
        covered = start + len(chunk)
    if len(stems) == 1:
        return stems[0], None
    return stems[0], stems[1] + np.float32(centre)  # a constant offset is nobody's voice


def chunk_starts(samples: int, length: int, overlap: int) -> list[int]:
    """Where the chunks of `length` begin: the fewest that share `overlap` or more, evenly spread.

    A song no longer than one chunk has the one start 0. Raises `ValueError` unless
    0 ≤ `overlap` < `length`.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"overlap must be 0 or more and below {length}, not {overlap}")
    if samples <= length:
        return [0]
    chunks = -(-(samples - overlap) // (length - overlap))  # rounded up
    return [number * (samples - length) // (chunks - 1) for number in range(chunks)]


def _split(separator: SongSeparator, chunk: Floats) -> list[Floats]:
    wave = resample(chunk, SAMPLE_RATE, separator.rate)
    with torch.inference_mode():
        stems = separator.split(torch.from_numpy(wave))
    parts = [stem.float().cpu().numpy() for stem in stems if stem is not None]
    back = [resample(part, separator.rate, SAMPLE_RATE) for part in parts]
    return [_of_length(part, len(chunk)) for part in back]


def resample(wave: Floats, rate: int, target: int) -> Floats:
    """`wave (samples,)` at `rate` Hz → the same sound at `target` Hz, in phase (soxr, HQ)."""
    if rate == target:
        return wave.copy()
    return np.asarray(soxr.resample(wave, rate, target, quality="HQ"), dtype=np.float32)


def _of_length(wave: Floats, samples: int) -> Floats:
    """Resampling there and back may round to a sample more or less."""
    return np.pad(wave[:samples], (0, max(0, samples - len(wave))))
