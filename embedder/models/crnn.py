"""The CRNN of Nasrullah & Zhao (IJCNN 2019), and CRNNM, the same with a melody branch.

After Choi et al. 2017; the melody branch is that of Hsieh, Cheng, Fan, Yang, Yang: ICASSP 2020.
Both give `(batch, 32)`, before the projection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig

CHANNELS = (64, 128, 128, 128)
POOLS = ((2, 2), (4, 2), (4, 2), (4, 2))  # mel bands × frames
HIDDEN = 32


def _block(inputs: int, outputs: int, pool: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ELU(),
        nn.BatchNorm2d(outputs),
        nn.MaxPool2d(pool),
        nn.Dropout(0.1),
    )


def convolutions(pools: tuple[tuple[int, int], ...] = POOLS) -> nn.Sequential:
    """The four blocks: `(batch, 1, mels, frames)` → `(batch, 128, bands, steps)`."""
    inputs = (1, *CHANNELS)
    blocks = nn.Sequential(
        *(_block(i, o, p) for i, o, p in zip(inputs, CHANNELS, pools, strict=False))
    )
    # A CPU's kernels are half as fast again where a position's channels lie together.
    nn.utils.convert_conv2d_weight_memory_format(blocks, torch.channels_last)
    return blocks


def bands_left(mels: int, pools: tuple[tuple[int, int], ...] = POOLS) -> int:
    """Bands that the blocks leave of so many mels."""
    for pool, _ in pools:
        mels //= pool
    return mels


def recurrence(inputs: int) -> nn.GRU:
    """The two recurrent layers, over `steps (batch, steps, inputs)`."""
    return nn.GRU(inputs, HIDDEN, num_layers=2, batch_first=True)


def steps_of(maps: Tensor) -> Tensor:
    """`maps (batch, channels, bands, steps)` → `(batch, steps, channels·bands)`."""
    return maps.flatten(1, 2).transpose(1, 2)


class Crnn(nn.Module):
    """Batch norm over the frequency axis, four convolutional blocks, two GRU layers, dropout.

    The last GRU state is the song excerpt's description, as in the paper (section III.B).
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.norm = nn.BatchNorm1d(features.n_mels)
        self.blocks = convolutions()
        self.gru = recurrence(CHANNELS[-1] * bands_left(features.n_mels))
        self.dropout = nn.Dropout(0.3)
        self.output_dim = HIDDEN

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, 32)`; needs 16 frames or more."""
        maps = self.blocks(self.norm(mel).unsqueeze(1))
        states, _ = self.gru(steps_of(maps))
        last: Tensor = self.dropout(states[:, -1])
        return last


class Crnnm(nn.Module):
    """Four convolutional blocks over the mels, four over the melody, their channels joined, GRU.

    The mels are normed band by band, as in the CRNN. The melody has one norm for the whole image:
    normed by itself, a band that never had the pitch in training would later shout.
    """

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
