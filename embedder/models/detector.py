"""Where someone sings, found in the mixture alone: a small network for singing voice detection.

Maps `wave (batch, samples)` at 16 kHz to `logits (batch, samples // 800)`, one for each
50 ms; their sigmoid is the probability that someone sings.

The front is that of Schlüter & Lehner (Zero-mean convolutions for level-invariant singing voice
detection, ISMIR 2018): log-magnitude mels and a first convolution whose kernels sum to 0. A gain
adds a constant to log magnitudes, so the network cannot know how loud a recording is. Above it, 3×3
convolutions with pooling over frequency and a recurrent layer in both directions, as in the
detection branch of JDC (Kum & Nam, Applied Sciences 2019), but much smaller and without its melody.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import SAMPLE_RATE

MELS = 72  # bands from 60 Hz to 8 kHz
F_MIN = 60.0
N_FFT = 1024
HOP = 400  # samples: 25 ms; pooled in twos to 50 ms
FRAME = 2 * HOP  # samples that one logit stands for
FLOOR = 1e-3  # least mel magnitude: a sine at −108 dB full scale
CHANNELS = (16, 32, 64)  # of the convolutions before each pooling
HIDDEN = 64  # of the recurrent layer, in each direction


class ZeroMeanConv(nn.Module):
    """A 3×3 convolution whose kernels sum to 0 (Schlüter & Lehner 2018): w − mean(w) for each.

    The edge is continued, not filled with zeros, so that a constant vanishes at the edges too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="leaky_relu")

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, 1, mels, frames)` → `(batch, channels, mels, frames)`."""
        kernel = self.weight - self.weight.mean(dim=(2, 3), keepdim=True)
        return functional.conv2d(functional.pad(mel, (1, 1, 1, 1), mode="replicate"), kernel)


def _after(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(0.01))


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), _after(outputs))


class VoiceDetector(nn.Module):
    """About 110,000 parameters; 60 million multiply-adds for a second of audio."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = torchaudio.transforms.MelSpectrogram(
            sample_rate=SAMPLE_RATE,
            n_fft=N_FFT,
            hop_length=HOP,
            n_mels=MELS,
            f_min=F_MIN,
            power=1.0,
            center=False,
        )
        low, middle, high = CHANNELS
        self.maps = nn.Sequential(
            ZeroMeanConv(low),
            _after(low),
            nn.MaxPool2d((3, 1)),
            _convolution(low, middle),
            nn.MaxPool2d((3, 2)),
            _convolution(middle, high),
            nn.MaxPool2d((2, 1)),
            _convolution(high, high),
            nn.MaxPool2d((4, 1)),
            nn.Dropout(0.2),
        )
        self.recurrent = nn.GRU(high, HIDDEN, batch_first=True, bidirectional=True)
        self.answer = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * HIDDEN, 1))

    def features(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `mel (batch, mels, 2 · (samples // 800))`, log magnitude.

        The edges are mirrored so that the middle of a frame's window is the middle of the frame.
        """
        with torch.autocast(wave.device.type, enabled=False):
            whole = wave[:, : wave.shape[1] // FRAME * FRAME].float()
            around = (N_FFT - HOP) // 2
            magnitude: Tensor = self.spectrogram(functional.pad(whole, (around, around), "reflect"))
            return magnitude.clamp(min=FLOOR).log()

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples ≥ 800)` in [−1, 1) → `logits (batch, samples // 800)`, float32."""
        maps = self.maps(self.features(wave).unsqueeze(1))
        states, _ = self.recurrent(maps.flatten(1, 2).transpose(1, 2))
        logits: Tensor = self.answer(states).squeeze(2).float()
        return logits
