"""Log-mel spectrogram with rows of descriptors below it: timbre, music, mid-level features.

Enters: `wave (batch, samples)`, float32 in [−1, 1). Leaves: `(batch, mels + 66, frames)`, float32.
A crop has one value of each mid-level feature; its row repeats it in every frame.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from embedder.config import FeatureConfig
from embedder.model import music, timbre
from embedder.model.features import LogMel, one_level
from embedder.model.perception import MID_LEVEL, mid_level
from embedder.model.pitch import N_FFT, Pitch

CEPSTRA = 20  # cepstral coefficients, without the first, which is the frame's level
TIMBRE_ROWS = timbre.SHAPE_ROWS + timbre.CONTRAST_ROWS + timbre.HARMONIC_ROWS + 1 + CEPSTRA
MUSIC_ROWS = 12 + 4  # chroma; onsets, dissonance, pitch and its strength
MID_LEVEL_ROWS = len(MID_LEVEL)


class Descriptors(nn.Module):
    """Mels, then timbre (`TIMBRE_ROWS`), music (`MUSIC_ROWS`), mid-level (`MID_LEVEL_ROWS`)."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.hop = config.hop
        self.mel_rows = config.n_mels
        self.rows = config.n_mels + TIMBRE_ROWS + MUSIC_ROWS + MID_LEVEL_ROWS
        self.mel = LogMel(config)
        self.pitch = Pitch(config.hop)
        self.harmony = music.Harmony(N_FFT // 2 + 1)
        dct = torchaudio.functional.create_dct(CEPSTRA + 1, config.n_mels, norm="ortho")[:, 1:]
        self.dct: Tensor
        self.register_buffer("dct", dct.T.contiguous(), persistent=False)  # (CEPSTRA, mels)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `(batch, mels + 66, 1 + samples // hop)`, float32."""
        with torch.autocast(wave.device.type, enabled=False):
            mel = self.mel(wave)
            wave = one_level(wave.float())
            magnitude = self.pitch.spectrum(wave)
            f0, strength = self.pitch.track(magnitude)
            chroma, dissonance = self.harmony(magnitude)
            onsets = music.onsets(mel)
            crop = mid_level(chroma, onsets, dissonance, f0, strength, self.hop)
            rows = [
                mel,
                timbre.shape(magnitude),
                timbre.contrast(magnitude),
                timbre.harmonics(magnitude, f0),
                timbre.zero_crossings(wave, N_FFT, self.hop).unsqueeze(1),
                self.dct @ mel,
                chroma,
                torch.stack([onsets, dissonance, music.octaves(f0), strength], dim=1),
                crop.unsqueeze(2).expand(-1, -1, mel.shape[2]),
            ]
            return torch.cat(rows, dim=1)
