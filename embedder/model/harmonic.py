"""The harmonic CNN (Won, Chun, Nieto, Serra: ICASSP 2020): a small CNN over a harmonic tensor.

Enters: harmonics `(batch, 6·128, frames)` of `HarmonicFilters`. Leaves: `(batch, 2·channels)`,
before the projection. The layers are those of Won et al., SMC 2020, with 128 `channels`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig
from embedder.model.basicblock import BasicBlock
from embedder.model.harmonics import BANDS, HARMONICS

# Bands × frames of each layer's max pooling; the seventh pools all that is left.
POOLS = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 3))


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Harmonic(nn.Module):
    """Seven layers of 3×3 convolutions, five of them residual, each with a max pooling.

    The harmonics of a pitch are channels of one cell, so a small filter hears a whole series. A
    window that reaches over the end pools what is there, so that any length will do.
    """

    hears = "harmonics"

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        narrow, wide = model.channels, 2 * model.channels
        self.norm = nn.BatchNorm2d(HARMONICS)
        self.layers = nn.ModuleList(
            [
                _layer(HARMONICS, narrow),
                *(BasicBlock(narrow, narrow) for _ in range(3)),
                _layer(narrow, wide),
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
