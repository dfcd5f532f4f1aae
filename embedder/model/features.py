"""Waveforms to log-mel spectrograms.

Enters: `wave (batch, samples)`, float32 in [−1, 1). Leaves: `mel (batch, mels, frames)`, float32.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from embedder.config import SAMPLE_RATE, AugmentConfig, FeatureConfig

LEVEL = 0.1  # root mean square to which each segment is brought, so that loudness says nothing
SILENCE = 1e-4  # a segment quieter than this (−80 dB full scale) is not amplified further
FLOOR = 1e-5  # added to mel power; about −50 dB under a band that carries the whole segment


class LogMel(nn.Module):
    """Natural logarithm of mel power at one level, optionally less each band's mean over time."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=SAMPLE_RATE,
            n_fft=config.n_fft,
            hop_length=config.hop,
            n_mels=config.n_mels,
            f_min=config.f_min,
        )

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `mel (batch, mels, 1 + samples // hop)`, float32."""
        with torch.autocast(wave.device.type, enabled=False):
            wave = wave.float()
            level = wave.square().mean(dim=1, keepdim=True).sqrt().clamp(min=SILENCE)
            mel: Tensor = torch.log(self.mel(wave * (LEVEL / level)) + FLOOR)
            if self.config.mel_norm == "mean":
                mel = mel - mel.mean(dim=2, keepdim=True)
        return mel


class SpecAugment(nn.Module):
    """Masks of time and mel bands, drawn for each crop (Park et al., Interspeech 2019, section 2).

    A masked stretch takes the crop's mean. Draws from torch's global generator.
    """

    def __init__(self, features: FeatureConfig, augment: AugmentConfig) -> None:
        super().__init__()
        frames = round(augment.time_mask_s * SAMPLE_RATE / features.hop)
        self.time = (augment.time_masks, frames)
        self.bands = (augment.band_masks, augment.band_mask_mels)

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → the same shape."""
        hidden = torch.zeros_like(mel, dtype=torch.bool)
        for axis, (count, widest) in ((1, self.bands), (2, self.time)):
            for _ in range(count if widest else 0):
                hidden |= self._mask(mel, axis, widest)
        return torch.where(hidden, mel.mean(dim=(1, 2), keepdim=True), mel)

    @staticmethod
    def _mask(mel: Tensor, axis: int, widest: int) -> Tensor:
        size = mel.shape[axis]
        shape = (mel.shape[0], 1, 1)
        width = torch.randint(0, min(widest, size) + 1, shape, device=mel.device)
        start = (torch.rand(shape, device=mel.device) * (size - width + 1)).long()
        position = torch.arange(size, device=mel.device).view(
            (1, -1, 1) if axis == 1 else (1, 1, -1)
        )
        return (position >= start) & (position < start + width)
