"""Descriptors of timbre, harmony and rhythm, frame by frame, from spectra.

A spectrum is a `magnitude (batch, bins, frames)`, linear bins from 0 to 8 kHz, float32. Rows of
descriptors are `(batch, rows, frames)`, float32. Levels are logarithms, and none of them depends on
how loud the recording is.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import SAMPLE_RATE

SHAPE_ROWS = 8
CONTRAST_EDGES = (0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 8000.0)  # Hz; Jiang et al. 2002
CONTRAST_ROWS = len(CONTRAST_EDGES) - 1
CONTRAST_SHARE = 0.02  # of a band's bins that are its peaks, and that are its valleys
HARMONIC_ROWS = 8  # of the sung pitch; the last of 1000 Hz is the last bin
ROLL_OFF = 0.85  # share of the power below it
FORMANT = (2000.0, 4000.0)  # Hz; where trained singers gather power
FLOOR = 1e-4  # added to magnitudes and to divisors; a sine at the features' level has 10 to 100
CHROMA_HZ = (130.0, 2100.0)  # C3 to C7: below, semitones are closer than bins
CHROMA_WIDTH = 0.5  # standard deviation of a pitch class, in semitones
DISSONANCE_HZ = 4000.0  # partials up to here


def _between(bins: int, low: float, high: float) -> slice:
    """The bins from `low` Hz to below `high` Hz; half the sample rate itself is in the last."""
    hertz = SAMPLE_RATE / 2 / (bins - 1)
    last = bins if high >= SAMPLE_RATE / 2 else math.ceil(high / hertz)
    return slice(math.ceil(low / hertz), last)


def spectral_shape(magnitude: Tensor) -> Tensor:
    """Eight numbers on a spectrum's shape (Peeters et al., The Timbre Toolbox, JASA 2011).

    The spectrum taken as a distribution over frequency: its mean, the centroid, in octaves above
    1 kHz; its standard deviation, the spread, likewise; its skewness; the logarithm of its
    kurtosis. Of the power: the flatness, geometric to arithmetic mean, and the crest, largest to
    mean, both natural logarithms; the frequency below which 85 % lie, in octaves above 1 kHz; the
    highest peak of the singers' formant to that of all below it, in natural logarithms (the singing
    power ratio of Omori et al., J. Voice 1996).
    """
    magnitude = magnitude + FLOOR
    bins = magnitude.shape[1]
    spacing = SAMPLE_RATE / 2000 / (bins - 1)  # kHz
    kilohertz = spacing * torch.arange(bins, device=magnitude.device)
    total = magnitude.sum(dim=1)
    centroid = (kilohertz @ magnitude) / total
    distance = kilohertz[:, None] - centroid.unsqueeze(1)
    squares = distance.square()
    second = magnitude * squares
    variance = second.sum(dim=1) / total
    skewness = (second * distance).sum(dim=1) / total / variance.pow(1.5)
    kurtosis = (second * squares).sum(dim=1) / total / variance.square()
    power = magnitude.square()
    mean = power.mean(dim=1)
    flatness = power.log().mean(dim=1) - mean.log()
    crest = power.amax(dim=1).log() - mean.log()
    below = power.cumsum(dim=1) < ROLL_OFF * power.sum(dim=1, keepdim=True)
    rolled = below.sum(dim=1).clamp(min=1) * spacing
    low = power[:, _between(bins, 0, FORMANT[0])].amax(dim=1)
    high = power[:, _between(bins, *FORMANT)].amax(dim=1)
    singing = high.log() - low.log()
    rows = [centroid.log2(), variance.log2() / 2, skewness, kurtosis.log()]
    return torch.stack([*rows, flatness, crest, rolled.log2(), singing], dim=1)


def spectral_contrast(magnitude: Tensor) -> Tensor:
    """Octave-based spectral contrast (Jiang, Lu, Zhang, Tao, Cai: ICME 2002).

    In each of six bands: log of the mean of its loudest 2 % of bins, at least one, less log of the
    mean of its quietest 2 %.
    """
    rows = []
    for low, high in itertools.pairwise(CONTRAST_EDGES):
        band = magnitude[:, _between(magnitude.shape[1], low, high)]
        count = max(1, round(CONTRAST_SHARE * band.shape[1]))
        peaks = band.topk(count, dim=1, sorted=False).values.mean(dim=1)
        valleys = band.topk(count, dim=1, largest=False, sorted=False).values.mean(dim=1)
        rows.append((peaks + FLOOR).log() - (valleys + FLOOR).log())
    return torch.stack(rows, dim=1)


def harmonic_levels(magnitude: Tensor, f0: Tensor) -> Tensor:
    """The levels of the first eight harmonics of `f0 (batch, frames)`, Hz, to all eight together.

    Natural logarithms of shares of power. A harmonic is the loudest bin within two of its place.
    """
    bins = magnitude.shape[1]
    near = functional.max_pool1d(magnitude.transpose(1, 2), 5, stride=1, padding=2).transpose(1, 2)
    numbers = torch.arange(1, HARMONIC_ROWS + 1, device=f0.device)[:, None]
    places = (numbers * f0.unsqueeze(1) * (2 * (bins - 1) / SAMPLE_RATE)).round().long()
    power = (near.gather(1, places.clamp(max=bins - 1)) + FLOOR).square()
    return power.log() - power.sum(dim=1, keepdim=True).log()


def zero_crossings(wave: Tensor, window: int, hop: int) -> Tensor:
    """`wave (batch, samples)` → how often it changes its sign, `(batch, 1 + samples // hop)`.

    Log of the share of the samples of a window, which is centred as a spectrogram's is.
    """
    padded = functional.pad(wave, (window // 2, window // 2), mode="reflect")
    changes = (padded[:, 1:] * padded[:, :-1] < 0).float().unsqueeze(1)
    share = functional.avg_pool1d(changes, window - 1, stride=hop).squeeze(1)
    return (share + 1 / window).log() - math.log(1 / window)


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
