"""ECAPA-TDNN (Desplanques, Thienpondt, Demuynck: Interspeech 2020), with channels as a setting.

Maps `mel (batch, mels, frames)` to `(batch, 2·mfa_channels)`, before the projection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig
from embedder.models.pooling import AttentiveStatistics


def _conv(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution over time that keeps the number of frames, then ReLU and batch norm."""
    padding = dilation * (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=padding),
        nn.ReLU(),
        nn.BatchNorm1d(outputs),
    )


class Res2Conv(nn.Module):
    """Dilated convolutions in a hierarchy of groups (section 3.2, after Gao et al. 2019)."""

    def __init__(self, channels: int, scale: int, dilation: int) -> None:
        super().__init__()
        self.width = channels // scale
        self.convs = nn.ModuleList(
            _conv(self.width, self.width, 3, dilation) for _ in range(scale - 1)
        )

    def forward(self, frames: Tensor) -> Tensor:
        first, *groups = torch.split(frames, self.width, dim=1)
        outputs = [first]
        carried: Tensor | None = None
        for conv, group in zip(self.convs, groups, strict=True):
            carried = conv(group if carried is None else group + carried)
            outputs.append(carried)
        return torch.cat(outputs, dim=1)


class SqueezeExcitation(nn.Module):
    """Channels rescaled by a gate on their means over time (section 3.2, eqs. 7 to 9)."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, bottleneck),
            nn.ReLU(),
            nn.Linear(bottleneck, channels),
            nn.Sigmoid(),
        )

    def forward(self, frames: Tensor) -> Tensor:
        scaled: Tensor = frames * self.gate(frames.mean(dim=2)).unsqueeze(2)
        return scaled


class SERes2Block(nn.Module):
    """1×1 convolution, Res2 convolution, 1×1 convolution, gate, skip (figure 1)."""

    def __init__(self, channels: int, scale: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(channels, channels),
            Res2Conv(channels, scale, dilation),
            _conv(channels, channels),
            SqueezeExcitation(channels, min(128, channels)),
        )

    def forward(self, frames: Tensor) -> Tensor:
        joined: Tensor = frames + self.layers(frames)
        return joined


class Ecapa(nn.Module):
    """Three SE-Res2 blocks with dilations 2, 3, 4, their outputs aggregated and pooled (figure 2).

    Each block takes the sum of the outputs of all before it (section 3.3).
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:
        super().__init__()
        channels = model.channels
        self.front = _conv(features.n_mels, channels, 5)
        self.blocks = nn.ModuleList(
            SERes2Block(channels, model.res2_scale, dilation) for dilation in (2, 3, 4)
        )
        self.aggregate = nn.Sequential(nn.Conv1d(3 * channels, model.mfa_channels, 1), nn.ReLU())
        self.pool = AttentiveStatistics(model.mfa_channels, model.attention_channels)
        self.norm = nn.BatchNorm1d(2 * model.mfa_channels)
        self.output_dim = 2 * model.mfa_channels

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, 2·mfa_channels)`."""
        total = self.front(mel)
        outputs = []
        for block in self.blocks:
            frames = block(total)
            outputs.append(frames)
            total = total + frames
        pooled: Tensor = self.norm(self.pool(self.aggregate(torch.cat(outputs, dim=1))))
        return pooled
