"""The short-chunk CNN with residual blocks (Won, Ferraro, Bogdanov, Serra: SMC 2020).

Maps `mel (batch, mels, frames)`, 128 mels in the paper to `(batch, 4·channels)`, before
the projection. The paper has 128 `channels`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig
from embedder.models.resnet import BasicBlock

WIDTHS = (1, 1, 2, 2, 2, 2, 4)  # channels of each block, in multiples of `channels`


class ShortChunk(nn.Module):
    """Seven residual blocks that halve both axes, then the maximum over all that is left.

    128 mels come down to one row and 3 s to two columns; the maximum over them makes the length
    free. The paper's two dense layers are here the network's projection and the loss's head.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        widths = [1, *(model.channels * width for width in WIDTHS)]
        # A gain and a shift would say nothing: each convolution has a batch norm behind it.
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.blocks = nn.Sequential(
            *(BasicBlock(a, b, (2, 2), shortcut_kernel=3) for a, b in pairwise(widths))
        )
        self.output_dim = widths[-1]
        # A quarter faster on the CPU. (torch's stubs know this argument only beside others.)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, 4·channels)`; any number of mels and frames."""
        maps: Tensor = self.blocks(self.norm(mel.unsqueeze(1)))
        return maps.amax(dim=(2, 3))
