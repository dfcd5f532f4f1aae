"""The fully convolutional network FCN-5 (Choi, Fazekas, Sandler: ISMIR 2016).

Maps `mel (batch, mels, frames)`, 96 mels in the paper to `(batch, channels)`, before the
projection. The widths are those of Won et al., SMC 2020, with 64 `channels`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig
from embedder.models.resnet import conv_norm_relu

WIDTHS = (1, 2, 2, 2, 1)  # channels of each layer, in multiples of `channels`
POOLS = ((2, 4), (2, 2), (2, 2), (3, 2))  # mel bands × frames; the fifth pools all that is left


class Fcn(nn.Module):
    """Five 3×3 convolutions, each with a max pooling, the last of which leaves one number a map.

    On the mel axis these are the paper's poolings. Its poolings of the time axis (4, 4, 4, 5, 4)
    are made for 29 s: of 3 s they would leave a single column after the fourth layer. A window that
    reaches over the end pools what is there, so that any length will do.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        widths = [1, *(model.channels * width for width in WIDTHS)]
        self.norm = nn.BatchNorm2d(1, affine=False)  # each convolution has a batch norm behind it
        self.layers = nn.ModuleList(conv_norm_relu(a, b) for a, b in pairwise(widths))
        self.pools = nn.ModuleList(
            [*(nn.MaxPool2d(pool, ceil_mode=True) for pool in POOLS), nn.AdaptiveMaxPool2d(1)]
        )
        self.dropout = nn.Dropout(0.5)
        self.output_dim = widths[-1]
        # A quarter faster on the CPU. (torch's stubs know this argument only beside others.)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, channels)`; any number of mels and frames."""
        maps = self.norm(mel.unsqueeze(1))
        for layer, pool in zip(self.layers, self.pools, strict=True):
            maps = pool(layer(maps))
        pooled: Tensor = self.dropout(maps.flatten(1))
        return pooled
