"""Timbral and mid-level features beside a CRNN (Zhang, Wang, Cheng, Xiao: IJCNN 2022).

Enters: rows of `Descriptors`, `(batch, mels + 66, frames)`. Leaves: `(batch, 64)`, before the
projection.

The paper's order: what the frames say is first joined with timbre, then, after the recurrent layer,
with mid-level features. Its mid-level features come from a network trained on people's ratings. Of
them 7 are computed here, and 25 more are learnt from the rows of music together with the rest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig
from embedder.model.crnn import (
    CHANNELS,
    HIDDEN,
    POOLS,
    bands_left,
    convolutions,
    recurrence,
    steps_of,
)
from embedder.model.descriptors import MID_LEVEL_ROWS, MUSIC_ROWS, TIMBRE_ROWS
from embedder.model.pooling import Statistics

TIMBRE = 64  # numbers on timbre in each step
MUSIC_CHANNELS = 64
LEARNT = 32 - MID_LEVEL_ROWS  # mid-level features that have no formula
STEP = math.prod(pool for _, pool in POOLS)  # frames of one step of the recurrent layer
OUTLIER = 4.0  # standard deviations beyond which a descriptor is cut


class Standard(nn.Module):
    """Rows at mean 0 and standard deviation 1 over the training, and cut at four deviations.

    Some descriptors are ratios with little below the line; single frames must not outweigh a crop.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(rows, affine=False)

    def forward(self, rows: Tensor) -> Tensor:
        """`rows (batch, rows)` or `(batch, rows, frames)` → the same shape, in [−4, 4]."""
        normed: Tensor = self.norm(rows.float())
        return normed.clamp(-OUTLIER, OUTLIER)


class MidLevel(nn.Module):
    """The CRNN with timbre beside its steps and mid-level features beside its last state."""

    hears = "descriptors"

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.parts = (features.n_mels, TIMBRE_ROWS, MUSIC_ROWS, MID_LEVEL_ROWS)
        self.norm = nn.BatchNorm1d(features.n_mels)
        self.blocks = convolutions()
        self.timbre_norm = Standard(TIMBRE_ROWS)
        self.timbre = nn.Sequential(nn.Linear(2 * TIMBRE_ROWS, TIMBRE), nn.ELU())
        self.gru = recurrence(CHANNELS[-1] * bands_left(features.n_mels) + TIMBRE)
        self.music = nn.Sequential(
            Standard(MUSIC_ROWS),
            nn.Conv1d(MUSIC_ROWS, MUSIC_CHANNELS, 5, padding=2),
            nn.ELU(),
            nn.BatchNorm1d(MUSIC_CHANNELS),
            nn.Conv1d(MUSIC_CHANNELS, MUSIC_CHANNELS, 5, padding=2),
            nn.ELU(),
            nn.BatchNorm1d(MUSIC_CHANNELS),
            Statistics(),
            nn.Linear(2 * MUSIC_CHANNELS, LEARNT),
        )
        self.mid_level_norm = Standard(MID_LEVEL_ROWS)
        self.dropout = nn.Dropout(0.3)
        self.output_dim = HIDDEN + LEARNT + MID_LEVEL_ROWS

    def forward(self, rows: Tensor) -> Tensor:
        """`rows (batch, mels + 66, frames)` → `(batch, 64)`; needs 16 frames or more."""
        mel, timbre, music, mid_level = torch.split(rows, list(self.parts), dim=1)
        frames = steps_of(self.blocks(self.norm(mel).unsqueeze(1)))
        states, _ = self.gru(torch.cat([frames, self.timbre(self.of_steps(timbre))], dim=2))
        learnt, computed = self.music(music), self.mid_level_norm(mid_level[:, :, 0])
        joined: Tensor = self.dropout(torch.cat([states[:, -1], learnt, computed], dim=1))
        return joined

    def of_steps(self, timbre: Tensor) -> Tensor:
        """`timbre (batch, rows, frames)` → `(batch, frames // 16, 2·rows)`: means, deviations."""
        steps = timbre.shape[2] // STEP
        frames = self.timbre_norm(timbre)[:, :, : steps * STEP].unflatten(2, (steps, STEP))
        spread = frames.std(dim=3, correction=0)
        return torch.cat([frames.mean(dim=3), spread], dim=1).transpose(1, 2)
