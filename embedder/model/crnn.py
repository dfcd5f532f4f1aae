"""The convolutional recurrent network of Nasrullah & Zhao (IJCNN 2019), after Choi et al. 2017.

Enters: `mel (batch, mels, frames)` with 128 mels. Leaves: `(batch, 32)`, before the projection.
"""

from __future__ import annotations

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


class Crnn(nn.Module):
    """Batch norm over the frequency axis, four convolutional blocks, two GRU layers, dropout.

    The last GRU state is the song excerpt's description, as in the paper (section III.B).
    """

    hears = "mel"

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.norm = nn.BatchNorm1d(features.n_mels)
        inputs = (1, *CHANNELS)
        self.blocks = nn.Sequential(
            *(_block(i, o, p) for i, o, p in zip(inputs, CHANNELS, POOLS, strict=False))
        )
        bands = features.n_mels
        for pool, _ in POOLS:
            bands //= pool
        self.gru = nn.GRU(CHANNELS[-1] * bands, HIDDEN, num_layers=2, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.output_dim = HIDDEN

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, 32)`; needs 16 frames or more."""
        maps = self.blocks(self.norm(mel).unsqueeze(1))
        steps = maps.flatten(1, 2).transpose(1, 2)
        states, _ = self.gru(steps)
        last: Tensor = self.dropout(states[:, -1])
        return last
