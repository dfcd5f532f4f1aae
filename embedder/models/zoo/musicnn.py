"""musicnn (Pons et al., ISMIR 2018; Pons & Serra 2019): filters shaped after what music is made of.

Maps `mel (batch, mels, frames)`, 96 mels in the paper to `(batch, output_dim)`, before the
projection. The sizes are those of Won et al., SMC 2020, with 204 `channels`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig

HEIGHTS = (0.7, 0.4)  # of the vertical filters, in shares of the mel axis; `channels` of each
WIDTH = 7  # of the vertical filters and of the dense layers, frames
LENGTHS = (129, 65, 33)  # of the horizontal filters, frames; a quarter of `channels` of each
DENSE = 64  # channels of each dense layer


def _layer(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution over time that keeps the number of frames, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
    )


class Vertical(nn.Module):
    """Timbre: filters over many bands and few frames, then the maximum over where they lie.

    The maximum over the mel axis makes them invariant to transposition. The 2-D convolution is one
    over time whose inputs are the bands under the filter, once for each place: the same numbers,
    several times as fast on the CPU.
    """

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.bands = bands
        self.conv = nn.Conv1d(bands, channels, WIDTH, padding=WIDTH // 2, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, channels, frames)`."""
        places = mel.unfold(1, self.bands, 1).transpose(2, 3)  # (batch, places, bands, frames)
        maps: Tensor = self.norm(self.conv(places.flatten(0, 1)))
        maps = maps.view(*places.shape[:2], *maps.shape[1:])
        return maps.max(dim=1).values.relu()  # amax's gradient would cost several times as much


class Musicnn(nn.Module):
    """Vertical and horizontal filters side by side, three dense layers, maximum and mean over time.

    Horizontal filters take the loudness of all bands over up to two seconds: rhythm. The dense
    layers are residual, and what is pooled is the front's output and all of theirs. The paper's two
    dense layers behind the pooling are here the network's projection and the loss's head.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:
        super().__init__()
        # No gain and shift: they would do nothing before a batch norm, and cost a third more time.
        self.norm = nn.BatchNorm2d(1, affine=False)
        few = model.channels // 4
        self.vertical = nn.ModuleList(
            Vertical(int(share * features.n_mels), model.channels) for share in HEIGHTS
        )
        self.horizontal = nn.ModuleList(_layer(1, few, length) for length in LENGTHS)
        front = len(HEIGHTS) * model.channels + len(LENGTHS) * few
        self.dense = nn.ModuleList(_layer(n, DENSE, WIDTH) for n in (front, DENSE, DENSE))
        self.output_dim = 2 * (front + 3 * DENSE)

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, output_dim)`: maxima, then means."""
        mel = self.norm(mel.unsqueeze(1)).squeeze(1)
        loudness = mel.mean(dim=1, keepdim=True)
        timbre = [layer(mel) for layer in self.vertical]
        rhythm = [layer(loudness) for layer in self.horizontal]
        front = torch.cat([*timbre, *rhythm], dim=1)
        first = self.dense[0](front)
        second = self.dense[1](first) + first
        third = self.dense[2](second) + second
        frames = torch.cat([front, first, second, third], dim=1)
        return torch.cat([frames.amax(dim=2), frames.mean(dim=2)], dim=1)
