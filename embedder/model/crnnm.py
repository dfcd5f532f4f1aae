"""The CRNN with a melody branch: CRNNM (Hsieh, Cheng, Fan, Yang, Yang: ICASSP 2020).

Enters: `(batch, 2·mels, frames)` of `MelodyMel`, mel bands and melody. Leaves: `(batch, 32)`,
before the projection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig
from embedder.model.crnn import (
    CHANNELS,
    HIDDEN,
    bands_left,
    convolutions,
    recurrence,
    steps_of,
)


class Crnnm(nn.Module):
    """Four convolutional blocks over the mels, four over the melody, their channels joined, GRU.

    The mels are normed band by band, as in the CRNN. The melody has one norm for the whole image:
    normed by itself, a band that never had the pitch in training would later shout.
    """

    hears = "melody"

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.mels = features.n_mels
        self.norm = nn.BatchNorm1d(features.n_mels)
        self.blocks = convolutions()
        self.melody_norm = nn.BatchNorm2d(1)
        self.melody_blocks = convolutions()
        self.gru = recurrence(2 * CHANNELS[-1] * bands_left(features.n_mels))
        self.dropout = nn.Dropout(0.3)
        self.output_dim = HIDDEN

    def forward(self, rows: Tensor) -> Tensor:
        """`rows (batch, 2·mels, frames)` → `(batch, 32)`; needs 16 frames or more."""
        mel, melody = rows[:, : self.mels], rows[:, self.mels :]
        maps = self.blocks(self.norm(mel).unsqueeze(1))
        melody_maps = self.melody_blocks(self.melody_norm(melody.unsqueeze(1)))
        states, _ = self.gru(steps_of(torch.cat([maps, melody_maps], dim=1)))
        last: Tensor = self.dropout(states[:, -1])
        return last
