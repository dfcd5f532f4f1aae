"""Residual networks: the r-vector (ResNet34 as in wespeaker's recipe) and the short-chunk CNN.

The r-vector is that of Zeinali, Wang, Silnova, Matějka, Plchot: BUT system description to VoxCeleb
Speaker Recognition Challenge 2019; the recipe is that of Wang et al.: Wespeaker, ICASSP 2023. It
has 32 base channels: `channels` here. The short-chunk CNN is that of Won, Ferraro, Bogdanov, Serra:
SMC 2020, with 128 mels and 128 `channels`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import FeatureConfig, ModelConfig
from embedder.models.pooling import Statistics


def conv_norm_relu(inputs: int, outputs: int) -> nn.Sequential:
    """A 3×3 convolution that keeps the size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class BasicBlock(nn.Module):
    """Convolution, norm, ReLU, convolution, norm; the input is added, then ReLU.

    Where the shape changes, the input goes through a 1×1 convolution with batch norm (their eq. 2);
    else it is added as it is (eq. 1). The stride, bands × frames, is the first convolution's.
    `shortcut_kernel`: another size of that convolution than 1, odd.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: tuple[int, int] = (1, 1),
        shortcut_kernel: int = 1,
    ) -> None:
        super().__init__()
        padding = shortcut_kernel // 2
        self.strides_frames = stride[1] > 1
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != (1, 1):
            self.shortcut = nn.Sequential(
                nn.Conv2d(
                    inputs, outputs, shortcut_kernel, stride=stride, padding=padding, bias=False
                ),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, maps: Tensor) -> Tensor:
        """`maps (batch, inputs, bands, frames)` → `(batch, outputs, ⌈bands/s⌉, ⌈frames/s⌉)`."""
        if self.strides_frames and maps.shape[3] == 1:
            # A column of padding more, for the same sums: in bfloat16 on the CPU torch's gradient
            # of strided weights over a single column is not initialised (2.11).
            maps = functional.pad(maps, (0, 1))
        return functional.relu(self.layers(maps) + self.shortcut(maps))


STAGES = ((3, 1, 1), (4, 2, 2), (6, 4, 2), (3, 8, 2))  # blocks, width in base channels, stride


class ResNet34(nn.Module):
    """A 3×3 convolution, sixteen residual blocks in four stages, statistics of each map's bands.

    Unlike ResNet34 for images it begins with a 3×3 convolution and pools nothing before the end.
    Mel bands stay apart in the pooling: each of the last stage's maps has a mean and a standard
    deviation over time for each of its bands.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:
        super().__init__()
        width, bands = model.channels, features.n_mels
        self.front = conv_norm_relu(1, width)
        stages = []
        for count, factor, stride in STAGES:
            outputs = factor * model.channels
            first = BasicBlock(width, outputs, (stride, stride))
            others = (BasicBlock(outputs, outputs) for _ in range(count - 1))
            stages.append(nn.Sequential(first, *others))
            width, bands = outputs, -(-bands // stride)
        self.stages = nn.Sequential(*stages)
        self.pool = Statistics()
        self.output_dim = 2 * width * bands
        # Channels last: trains 15 % faster on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, output_dim)`: means, then deviations."""
        maps = self.stages(self.front(mel.unsqueeze(1)))
        pooled: Tensor = self.pool(maps.flatten(1, 2))
        return pooled


WIDTHS = (1, 1, 2, 2, 2, 2, 4)  # channels of each block, in multiples of `channels`


class ShortChunk(nn.Module):
    """Seven residual blocks that halve both axes, then the maximum over all that is left.

    128 mels come down to one row and 3 s to two columns; the maximum over them makes the length
    free. The paper's two dense layers are here the network's projection and the loss's head.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        widths = [1, *(model.channels * width for width in WIDTHS)]
        # A gain and a shift would do nothing: each convolution has a batch norm behind it.
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
