"""SampleCNN, the 3⁹ model (Lee, Park, Kim, Nam: SMC 2017): a CNN over single samples.

Maps `wave (batch, 1, samples)` to `(batch, 4·channels)`, before the projection. The paper
has 128 `channels`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig

# Channels of the first convolution and of the nine layers after it, in multiples of `channels`.
WIDTHS = (1, 1, 1, 2, 2, 2, 2, 2, 2, 4)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; with He's initial weights, as in the paper."""
    padding = (0, 0 if stride > 1 else kernel // 2)
    conv = nn.Conv2d(inputs, outputs, (1, kernel), stride=(1, stride), padding=padding, bias=False)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class SampleCnn(nn.Module):
    """A convolution in strides of 3 samples, nine layers each pooled by 3, a 1×1 convolution.

    The paper's 59,049 samples (3.7 s at 16 kHz) come down to 3 columns before the ninth pooling.
    That one is over all columns, however many there are, and the others pool what is there where a
    window reaches over the end: 3 samples are enough. Maps have a second axis of length 1, because
    torch's fastest memory format on the CPU is one for two axes.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        widths = [model.channels * width for width in WIDTHS]
        self.front = _layer(1, widths[0], 3, stride=3)
        self.layers = nn.ModuleList(_layer(a, b, 3) for a, b in pairwise(widths))
        self.pools = nn.ModuleList(
            [*(nn.MaxPool2d((1, 3), ceil_mode=True) for _ in range(8)), nn.AdaptiveMaxPool2d(1)]
        )
        self.last = _layer(widths[-1], widths[-1], 1)
        self.dropout = nn.Dropout(0.5)
        self.output_dim = widths[-1]
        # torch's stubs know this argument only beside others.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, 1, samples)` → `(batch, 4·channels)`."""
        maps = self.front(wave.unsqueeze(2))
        for layer, pool in zip(self.layers, self.pools, strict=True):
            maps = pool(layer(maps))
        pooled: Tensor = self.dropout(self.last(maps).flatten(1))
        return pooled
