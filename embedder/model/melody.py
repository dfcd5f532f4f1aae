"""Log-mel spectrogram with the melody below it, as an image on the same axes.

Enters: `wave (batch, samples)`, float32 in [−1, 1). Leaves: `(batch, 2·mels, frames)`, float32: the
mel bands, then as many rows in which each frame has one entry, in the band of the sung pitch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedder.config import SAMPLE_RATE, FeatureConfig
from embedder.model.features import LogMel, one_level
from embedder.model.pitch import Pitch


def mel_of(frequency: Tensor) -> Tensor:
    """Hz → mel, on the scale of the mel bands (O'Shaughnessy 1987)."""
    return 2595 * torch.log10(1 + frequency / 700)


class MelodyMel(nn.Module):
    """The melody contour of Hsieh et al. (ICASSP 2020), quantised to the mel axis.

    There each frame's entry is 1, sung or not. Here it is the strength of the pitch, in [0, 1]: the
    contour fades where nothing is sung.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.mel_rows, self.rows = config.n_mels, 2 * config.n_mels
        self.mel = LogMel(config)
        self.pitch = Pitch(config.hop)
        edges = mel_of(torch.tensor([config.f_min, SAMPLE_RATE / 2]))
        self.lowest = float(edges[0])
        self.spacing = float(edges[1] - edges[0]) / (config.n_mels + 1)  # mel between two centres

    def band(self, f0: Tensor) -> Tensor:
        """`f0`, any shape, in Hz → the mel band with the nearest centre, same shape."""
        places = ((mel_of(f0) - self.lowest) / self.spacing).round().long()
        return (places - 1).clamp(0, self.mel_rows - 1)  # a bank's first centre is one step up

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `(batch, 2·mels, 1 + samples // hop)`, float32."""
        mel = self.mel(wave)
        f0, strength = self.pitch(one_level(wave.float()))
        image = torch.zeros_like(mel).scatter_(1, self.band(f0).unsqueeze(1), strength.unsqueeze(1))
        return torch.cat([mel, image], dim=1)
