"""What harmony and rhythm are made of, frame by frame: chroma, onsets, dissonance.

Enters: spectra. Leaves: rows over time, float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import SAMPLE_RATE

CHROMA_HZ = (130.0, 2100.0)  # C3 to C7: below, semitones are closer than bins
CHROMA_WIDTH = 0.5  # standard deviation of a pitch class, in semitones
DISSONANCE_HZ = 4000.0  # partials up to here
FLOOR = 1e-4  # added to what divides


def pitch_classes(bins: int) -> Tensor:
    """The weight of each bin in each pitch class, `(12, bins)`; C first, A4 at 440 Hz.

    A Gaussian over the distance in semitones, round the octave; bins from C3 to C7.
    """
    hertz = torch.linspace(0, SAMPLE_RATE / 2, bins)
    semitones = 12 * (hertz.clamp(min=1) / 440).log2() + 9  # above C4
    away = (semitones - torch.arange(12)[:, None] + 6) % 12 - 6
    weights = torch.exp(-0.5 * (away / CHROMA_WIDTH).square())
    return weights * ((hertz >= CHROMA_HZ[0]) & (hertz <= CHROMA_HZ[1]))


def roughness(bins: int) -> Tensor:
    """The dissonance of two partials of amplitude 1 in each pair of bins, up to 4 kHz.

    Plomp & Levelt's curve in Sethares's form (JASA 1993): exp(−3.5·s·d) −
    exp(−5.75·s·d) at a distance of d Hz, s = 0.24 / (0.021·f + 19) for the lower frequency f.
    """
    hertz = torch.linspace(0, SAMPLE_RATE / 2, bins)
    hertz = hertz[hertz <= DISSONANCE_HZ]
    distance = (hertz[:, None] - hertz).abs()
    scale = 0.24 / (0.021 * torch.minimum(hertz[:, None], hertz) + 19)
    return torch.exp(-3.5 * scale * distance) - torch.exp(-5.75 * scale * distance)


class Harmony(nn.Module):
    """Chroma and dissonance of spectra with so many bins from 0 to 8 kHz."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.classes: Tensor
        self.pairs: Tensor
        self.register_buffer("classes", pitch_classes(bins), persistent=False)
        self.register_buffer("pairs", roughness(bins), persistent=False)

    def forward(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """`magnitude (batch, bins, frames)` → `(batch, 12, frames)` and `(batch, frames)`.

        A frame's chroma sums to 1. Its dissonance is summed over all pairs of spectral peaks, each
        pair weighing the product of its amplitudes, and divided by the power of the peaks.
        """
        chroma = self.classes @ magnitude
        chroma = chroma / (chroma.sum(dim=1, keepdim=True) + FLOOR)
        low = magnitude[:, : len(self.pairs) + 1]
        highest = functional.max_pool1d(low.transpose(1, 2), 3, stride=1, padding=1)
        peaks = torch.where(low == highest.transpose(1, 2), low, 0)[:, :-1]
        rough = (peaks * (self.pairs @ peaks)).sum(dim=1) / 2
        return chroma, rough / (peaks.square().sum(dim=1) + FLOOR)


def onsets(mel: Tensor) -> Tensor:
    """`mel (batch, mels, frames)`, log power → `(batch, frames)`: how much rises, mean over bands.

    The spectral flux of Böck & Widmer (DAFx 2013) without their maximum filter; 0 in the first
    frame. Nepers of power.
    """
    rise = functional.relu(mel[:, :, 1:] - mel[:, :, :-1]).mean(dim=1)
    return functional.pad(rise, (1, 0))


def octaves(f0: Tensor) -> Tensor:
    """Hz → octaves above 250 Hz, the middle of what is sung."""
    return f0.log2() - math.log2(250)
