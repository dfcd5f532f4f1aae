"""Waveforms to what a backbone takes: log-mel spectrograms, with a melody, or the waveform itself.

Each front end maps `wave (batch, samples)`, float32 in [−1, 1), to `features (batch, rows,
frames)`, float32. Of the rows the first `mel_rows` are mel bands, which SpecAugment may mask.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from embedder.config import SAMPLE_RATE, AugmentConfig, FeatureConfig
from embedder.models.pitch import Pitch

LEVEL = 0.1  # root mean square to which each segment is brought, so that loudness says nothing
SILENCE = 1e-4  # a segment quieter than this (−80 dB full scale) is not amplified further
FLOOR = 1e-5  # added to mel power; about −50 dB under a band that carries the whole segment


def one_level(wave: Tensor) -> Tensor:
    """`wave (batch, samples)` → the same shape, each row brought to a root mean square of 0.1."""
    level = wave.square().mean(dim=1, keepdim=True).sqrt().clamp(min=SILENCE)
    return wave * (LEVEL / level)


class Waveform(nn.Module):
    """The waveform at one level, as a single row."""

    def __init__(self, config: FeatureConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.rows, self.mel_rows = 1, 0

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `(batch, 1, samples)`, float32."""
        return one_level(wave.float()).unsqueeze(1)


class LogMel(nn.Module):
    """Natural logarithm of mel power at one level, optionally less each band's mean over time."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.rows = self.mel_rows = config.n_mels
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
            mel: Tensor = torch.log(self.mel(one_level(wave.float())) + FLOOR)
            if self.config.mel_norm == "mean":
                mel = mel - mel.mean(dim=2, keepdim=True)
        return mel


class SpecAugment(nn.Module):
    """Masks of time and mel bands, drawn for each crop (Park et al., Interspeech 2019, section 2).

    A masked stretch takes the crop's mean. Draws from torch's global generator. Only the first
    `mel_rows` rows of the features are masked.
    """

    def __init__(self, features: FeatureConfig, augment: AugmentConfig, mel_rows: int) -> None:
        super().__init__()
        self.mel_rows = mel_rows
        frames = round(augment.time_mask_s * SAMPLE_RATE / features.hop)
        self.time = (augment.time_masks, frames)
        self.bands = (augment.band_masks, augment.band_mask_mels)

    def forward(self, features: Tensor) -> Tensor:
        """`features (batch, rows, frames)` → the same shape."""
        if self.mel_rows == features.shape[1]:
            return self._masked(features)
        if self.mel_rows == 0:
            return features
        mel, others = features[:, : self.mel_rows], features[:, self.mel_rows :]
        return torch.cat([self._masked(mel), others], dim=1)

    def _masked(self, mel: Tensor) -> Tensor:
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
