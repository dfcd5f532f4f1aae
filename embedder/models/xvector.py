"""The x-vector TDNN (Snyder, Garcia-Romero, Sell, Povey, Khudanpur: ICASSP 2018), table 1.

Maps `mel (batch, mels, frames)` to `(batch, 2·mfa_channels)`, before the projection.

The paper has 512 channels in frame1 to frame4 and 1500 in frame5: `channels` and `mfa_channels`
here. Its embedding is the affine part of segment6, which is the network's projection. Segment7 is
left out: it stands between the embedding and the classes only in training, and the losses here take
the embedding itself.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from embedder.config import FeatureConfig, ModelConfig
from embedder.models.pooling import Statistics

# frame1 to frame5: frames taken, steps between them. frame2 takes t−2, t, t+2, for one.
CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
REACH = sum((taps - 1) // 2 * step for taps, step in CONTEXTS)  # 7 frames before and after


class Xvector(nn.Module):
    """Five layers over time, each ReLU and then batch norm, and the statistics of the last one.

    A frame of the last layer sees 15 frames. Beyond the ends the first and the last frame go on,
    as in the recipe that the paper published.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:
        super().__init__()
        widths = (features.n_mels, *[model.channels] * 4, model.mfa_channels)
        layers: list[nn.Module] = []
        for (taps, step), inputs, outputs in zip(CONTEXTS, widths[:-1], widths[1:], strict=True):
            layers += [
                nn.Conv1d(inputs, outputs, taps, dilation=step),
                nn.ReLU(inplace=True),
                nn.BatchNorm1d(outputs),
            ]
        self.frames = nn.Sequential(*layers)
        self.pool = Statistics()
        self.output_dim = 2 * model.mfa_channels

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, 2·mfa_channels)`: means, then deviations."""
        lengthened = functional.pad(mel, (REACH, REACH), mode="replicate")
        pooled: Tensor = self.pool(self.frames(lengthened))
        return pooled
