"""Frames to one vector.

Enters: `frames (batch, channels, frames)`. Leaves: `(batch, 2·channels)`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Statistics(nn.Module):
    """Mean and standard deviation over time, every frame weighing the same.

    The statistics pooling of Snyder et al., ICASSP 2018, table 1. The deviation is the
    population's, so that a single frame has one too.
    """

    def forward(self, frames: Tensor) -> Tensor:
        """`frames (batch, channels, frames)` → `(batch, 2·channels)`: means, then deviations."""
        values = frames.float()
        mean = values.mean(dim=2, keepdim=True)
        return torch.cat([mean, _deviation(values, mean)], dim=1).squeeze(2)


class AttentiveStatistics(nn.Module):
    """Channel- and context-dependent statistics pooling (Desplanques et al. 2020, section 3.1).

    Weighted mean and standard deviation over time (their eqs. 5 and 6). The weights come from the
    frame beside the utterance's own mean and standard deviation, softmax over time (eq. 3).
    """

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Conv1d(3 * channels, bottleneck, 1),
            nn.ReLU(),
            nn.BatchNorm1d(bottleneck),
            nn.Tanh(),
            nn.Conv1d(bottleneck, channels, 1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """`frames (batch, channels, frames)` → `(batch, 2·channels)`: means, then deviations."""
        mean = frames.mean(dim=2, keepdim=True)
        deviation = _deviation(frames.float(), mean.float()).to(frames.dtype)
        context = torch.cat([frames, mean.expand_as(frames), deviation.expand_as(frames)], dim=1)
        weights = torch.softmax(self.attention(context).float(), dim=2)
        values = frames.float()
        mean = (weights * values).sum(dim=2)
        spread = (weights * values.square()).sum(dim=2) - mean.square()
        return torch.cat([mean, spread.clamp(min=1e-5).sqrt()], dim=1)


def _deviation(values: Tensor, mean: Tensor) -> Tensor:
    return (values - mean).square().mean(dim=2, keepdim=True).clamp(min=1e-5).sqrt()
