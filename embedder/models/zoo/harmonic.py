"""The harmonic CNN (Won, Chun, Nieto, Serra: ICASSP 2020): learnt filters and a small CNN.

The layers are those of Won et al., SMC 2020, with 128 `channels`.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from embedder.config import SAMPLE_RATE, FeatureConfig, ModelConfig
from embedder.models.frontends import FLOOR, one_level
from embedder.models.resnet import BasicBlock, conv_norm_relu

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


# Bands × frames of each layer's max pooling; the seventh pools all that is left.
POOLS = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 3))


class Harmonic(nn.Module):
    """Seven layers of 3×3 convolutions, five of them residual, each with a max pooling.

    The harmonics of a pitch are channels of one cell, so a small filter covers a whole series. A
    window that reaches over the end pools what is there, so that any length will do.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        narrow, wide = model.channels, 2 * model.channels
        self.norm = nn.BatchNorm2d(HARMONICS)
        self.layers = nn.ModuleList(
            [
                conv_norm_relu(HARMONICS, narrow),
                *(BasicBlock(narrow, narrow) for _ in range(3)),
                conv_norm_relu(narrow, wide),
                *(BasicBlock(wide, wide) for _ in range(2)),
            ]
        )
        self.pools = nn.ModuleList(
            [*(nn.MaxPool2d(pool, ceil_mode=True) for pool in POOLS), nn.AdaptiveMaxPool2d(1)]
        )
        self.output_dim = wide

    def forward(self, harmonics: Tensor) -> Tensor:
        """`harmonics (batch, 6·128, frames)` → `(batch, 2·channels)`; any number of frames."""
        tensor = self.norm(harmonics.reshape(harmonics.shape[0], HARMONICS, BANDS, -1))
        maps: Tensor = tensor.contiguous(memory_format=torch.channels_last)  # faster on the CPU
        for layer, pool in zip(self.layers, self.pools, strict=True):
            maps = pool(layer(maps))
        return maps.flatten(1)
