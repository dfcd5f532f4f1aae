"""Frames to one vector.

Maps `frames (batch, channels, frames)` to `(batch, 2·channels)`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Statistics(nn.Module):
    """Mean and standard deviation over time, every frame weighing the same.

    The statistics pooling of Snyder et al., ICASSP 2018, table 1. The deviation is the
    population's, so that a single frame has one too.
    """

    def forward(self, frames: Tensor) -> Tensor:
        """`frames (batch, channels, frames)` → `(batch, 2·channels)`: means, then deviations."""
        return torch.cat(_statistics(frames), dim=1).squeeze(2)


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
        weights = torch.softmax(self._scores(frames).float(), dim=2)
        values = frames.float()
        weighted = weights * values
        mean = weighted.sum(dim=2)
        spread = (weighted * values).sum(dim=2) - mean.square()
        return torch.cat([mean, spread.clamp(min=1e-5).sqrt()], dim=1)

    def _scores(self, frames: Tensor) -> Tensor:
        """Eq. 2 of each frame beside the utterance's own mean and deviation.

        Those two are the same in all frames: their share of the first convolution is computed once
        for an utterance, a third of the work of convolving all three side by side.
        """
        first = self.attention[0]
        assert isinstance(first, nn.Conv1d)
        channels = frames.shape[1]
        of_frames, of_utterance = torch.split(first.weight, [channels, 2 * channels], dim=1)
        utterance = functional.conv1d(torch.cat(_statistics(frames), dim=1), of_utterance)
        scores: Tensor = functional.conv1d(frames, of_frames, first.bias) + utterance
        return self.attention[1:](scores)  # type: ignore[no-any-return]


def _statistics(frames: Tensor) -> tuple[Tensor, Tensor]:
    """`(batch, channels, frames)` → mean and deviation over time, `(batch, channels, 1)` each."""
    variance, mean = torch.var_mean(frames.float(), dim=2, keepdim=True, correction=0)
    return mean, variance.clamp(min=1e-5).sqrt()
