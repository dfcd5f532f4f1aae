"""CAM++ (Wang, Zheng, Chen, Cheng, Chen: Interspeech 2023): D-TDNN with context-aware masking.

Maps `mel (batch, mels, frames)` to `(batch, output_dim)`, before the projection.

All widths of the paper are multiples of one: its 128 channels before the first block are `channels`
here, and its 32 two-dimensional channels and growth rate of 32 are a quarter of that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import SAMPLE_RATE, FeatureConfig, ModelConfig
from embedder.models.pooling import Statistics
from embedder.models.resnet import BasicBlock

BLOCKS = ((12, 1), (24, 2), (16, 2))  # D-TDNN layers, dilation of their convolutions
STRIDE = 2  # frames of the input for one of the blocks
SEGMENT_S = 2.0  # the paper's 100 frames of the blocks, at its hop of 10 ms


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(channels), nn.ReLU(inplace=True))


class FrontEnd(nn.Module):
    """The paper's front-end convolution module: two dimensions, an eighth of the bands left.

    A convolution, four residual blocks, a convolution; three of them halve the bands, none the
    frames. Leaves `(batch, channels·⌈mels / 8⌉, frames)`.
    """

    def __init__(self, channels: int, mels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            BasicBlock(channels, channels, (2, 1)),
            BasicBlock(channels, channels),
            BasicBlock(channels, channels, (2, 1)),
            BasicBlock(channels, channels),
            nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.output_dim = channels * -(-mels // 8)

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, output_dim, frames)`."""
        maps: Tensor = self.layers(mel.unsqueeze(1))
        return maps.flatten(1, 2)


class MaskedConvolution(nn.Module):
    """A convolution whose output is masked by its context: context-aware masking.

    The mask is σ(W₂ ReLU(W₁(e_g + e_s) + b₁) + b₂), with e_g the input's mean over all frames and
    e_s its mean over the frame's own segment: pooling of two granularities. Segments of `segment`
    frames lie side by side from the first frame on; the last one is as long as what is left.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, segment: int) -> None:
        super().__init__()
        self.segment = segment
        self.local = nn.Conv1d(inputs, outputs, 3, dilation=dilation, padding=dilation, bias=False)
        self.mask = nn.Sequential(
            nn.Conv1d(inputs, inputs // 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv1d(inputs // 2, outputs, 1),
            nn.Sigmoid(),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """`frames (batch, inputs, frames)` → `(batch, outputs, frames)`."""
        segments = functional.avg_pool1d(frames, self.segment, self.segment, ceil_mode=True)
        # Frames of a segment share their context, so one mask a segment is enough.
        masks = self.mask(frames.mean(dim=2, keepdim=True) + segments)
        of_each = masks.unsqueeze(3).expand(*masks.shape, self.segment).flatten(2)
        masked: Tensor = self.local(frames) * of_each[:, :, : frames.shape[2]]
        return masked


class DenseBlock(nn.Module):
    """D-TDNN layers (Yu & Li, Interspeech 2020), each taking all that came before in the block.

    A layer: norm, ReLU, 1×1 convolution to `bottleneck` channels, norm, ReLU, masked convolution to
    `growth` channels. Leaves `(batch, inputs + layers·growth, frames)`.
    """

    def __init__(
        self, inputs: int, layers: int, bottleneck: int, growth: int, dilation: int, segment: int
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                _norm_relu(inputs + number * growth),
                nn.Conv1d(inputs + number * growth, bottleneck, 1, bias=False),
                _norm_relu(bottleneck),
                MaskedConvolution(bottleneck, growth, dilation, segment),
            )
            for number in range(layers)
        )
        self.output_dim = inputs + layers * growth

    def forward(self, frames: Tensor) -> Tensor:
        """`frames (batch, inputs, frames)` → `(batch, output_dim, frames)`."""
        for layer in self.layers:
            frames = torch.cat([frames, layer(frames)], dim=1)
        return frames


class Campplus(nn.Module):
    """Front end, a convolution that halves the frames, three dense blocks, statistics (figure 1).

    A transition after each block halves its channels.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:
        super().__init__()
        width, growth = model.channels, model.channels // 4
        segment = max(1, round(SEGMENT_S * SAMPLE_RATE / (STRIDE * features.hop)))
        self.front = FrontEnd(growth, features.n_mels)
        self.halving = nn.Sequential(
            nn.Conv1d(self.front.output_dim, width, 5, stride=STRIDE, padding=2, bias=False),
            _norm_relu(width),
        )
        blocks: list[nn.Module] = []
        for layers, dilation in BLOCKS:
            block = DenseBlock(width, layers, model.channels, growth, dilation, segment)
            width = block.output_dim // 2
            transition = nn.Conv1d(block.output_dim, width, 1, bias=False)
            blocks += [block, _norm_relu(block.output_dim), transition]
        self.blocks = nn.Sequential(*blocks, _norm_relu(width))
        self.pool = Statistics()
        self.output_dim = 2 * width

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, output_dim)`: means, then deviations."""
        pooled: Tensor = self.pool(self.blocks(self.halving(self.front(mel))))
        return pooled
