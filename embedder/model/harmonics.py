"""Harmonic band-pass filters with a learnt quality factor (Won, Chun, Nieto, Serra: ICASSP 2020).

Enters: `wave (batch, samples)`, float32 in [−1, 1). Leaves: `harmonics (batch, 6·128, frames)`,
natural log of power, float32; first the 128 fundamentals, then their doubles, and so on.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from embedder.config import SAMPLE_RATE, FeatureConfig
from embedder.model.features import FLOOR, one_level

HARMONICS = 6
BANDS = 128
LOWEST = 440 * 2 ** ((24 - 69) / 12)  # C1, MIDI note 24, in Hz
PER_OCTAVE = 24  # two bands a semitone: the sixth harmonic of the last stays under 8 kHz
ALPHA, BETA = 0.1079, 24.7  # a critical band at f is α·f + β Hz wide (Glasberg & Moore 1990)


class HarmonicFilters(nn.Module):
    """Triangular filters at n times the frequencies of 128 fundamentals, n from 1 to 6.

    Filter n of the fundamental f lets through max(0, 1 − 2·|g − n·f| / BW) of the power at g Hz,
    where BW = (α·n·f + β) / Q (their section 2). Q is one learnt number and begins at 1. It is kept
    as its logarithm, so that no step of the optimiser takes it to 0 or below.
    """

    centres: Tensor  # (6·128,), Hz
    bins: Tensor  # (bins,), Hz

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.rows = self.mel_rows = HARMONICS * BANDS  # no mel bands, but masked like them
        self.spectrum = torchaudio.transforms.Spectrogram(n_fft=config.n_fft, hop_length=config.hop)
        self.log_q = nn.Parameter(torch.zeros(()))
        fundamentals = LOWEST * 2 ** (torch.arange(BANDS) / PER_OCTAVE)
        centres = torch.outer(torch.arange(1, HARMONICS + 1), fundamentals).flatten()
        bins = torch.linspace(0, SAMPLE_RATE / 2, config.n_fft // 2 + 1)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("bins", bins, persistent=False)

    def filters(self) -> Tensor:
        """The share of each bin's power that each filter lets through, `(6·128, bins)`."""
        width = (ALPHA * self.centres + BETA) / self.log_q.exp()
        distance = (self.bins - self.centres[:, None]).abs()
        return (1 - 2 * distance / width[:, None]).clamp(min=0)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `(batch, 6·128, 1 + samples // hop)`, float32."""
        with torch.autocast(wave.device.type, enabled=False):
            power: Tensor = self.spectrum(one_level(wave.float()))
            return torch.log(self.filters() @ power + FLOOR)
