"""Waveforms to cepstra: what classical speaker recognition hears.

Enters: `wave (batch, samples)`, float32 in [−1, 1). Leaves: `cepstra (batch, 3·CEPSTRA, frames)`,
float32: the coefficients, their slopes, and the slopes of those.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from embedder.config import FeatureConfig
from embedder.model.features import LogMel

CEPSTRA = 20  # coefficients of the cosine transform, the level of the frame among them
SLOPE_FRAMES = 5  # over which a slope is fitted


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients with first and second slopes (Davis & Mermelstein 1980).

    The orthonormal cosine transform (type II) of the log-mel spectrogram, and least-squares slopes
    over five frames (Furui 1981). With `mel_norm` "mean" each band's mean over the segment is gone,
    which is cepstral mean subtraction.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.rows, self.mel_rows = 3 * CEPSTRA, 0
        self.mel = LogMel(config)
        dct = torchaudio.functional.create_dct(CEPSTRA, config.n_mels, norm="ortho")
        self.register_buffer("dct", dct, persistent=False)  # (mels, CEPSTRA)
        self.dct: Tensor

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `cepstra (batch, 60, 1 + samples // hop)`, float32."""
        with torch.autocast(wave.device.type, enabled=False):
            cepstra = torch.matmul(self.dct.T, self.mel(wave))
            slopes = torchaudio.functional.compute_deltas(cepstra, SLOPE_FRAMES)
            bends = torchaudio.functional.compute_deltas(slopes, SLOPE_FRAMES)
            return torch.cat([cepstra, slopes, bends], dim=1)
