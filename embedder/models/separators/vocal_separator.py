"""The vocals of a mixture, estimated by Open-Unmix's network on short mono spectrograms.

Maps `wave (batch, samples)` at 16 kHz to `vocals (batch, samples)`, in phase with it.

`refined` goes over the answer once more, for stems that are kept.

The network (Stöter et al., Open-Unmix, JOSS 2019) sees the magnitude spectrogram and answers with a
gain from 0 for each of its bins; the mixture's spectrogram times the gains, phase as it is, is the
vocals' spectrogram. Here it sees the magnitudes raised to the power 0.3, so that a few loud bins
do not decide everything (as Ephrat et al., Looking to listen at the cocktail party, SIGGRAPH 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedder.config import SeparatorConfig
from embedder.models.frontends import LEVEL, SILENCE

POWER = 0.3  # of the magnitudes that the network sees
ROWS = 16  # separated at once on a CPU: 64 would take half as long again, for its cache
MIN_MAGNITUDE = 1e-8  # magnitude below which a bin counts as empty
WIENER_N_FFT, WIENER_HOP = 4096, 1024  # samples; long windows part neighbouring harmonics


class VocalSeparator(nn.Module):
    """Short-time Fourier transform, Open-Unmix, inverse transform."""

    window: Tensor

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        from openunmix.model import OpenUnmix  # members of mixtures do without it

        self.config = config
        self.n_fft, self.hop = config.separator_n_fft, config.separator_hop
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.network = OpenUnmix(
            nb_bins=self.n_fft // 2 + 1,
            nb_channels=1,
            hidden_size=config.separator_hidden,
            nb_layers=config.separator_layers,
        )

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples ≥ 1)`, float → `vocals (batch, samples)`, float32.

        Each row is brought to one level for the network and back, so that vocals scale with it.
        """
        if self.training or wave.device.type != "cpu":
            return self._separated(wave)
        return torch.cat([self._separated(rows) for rows in torch.split(wave, ROWS)])

    def refined(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `vocals (batch, samples)`, Wiener-filtered."""
        return wiener(wave, self(wave))

    def _separated(self, wave: Tensor) -> Tensor:
        with torch.autocast(wave.device.type, enabled=False):
            wave = wave.float()
            level = wave.square().mean(dim=1, keepdim=True).sqrt().clamp(min=SILENCE) / LEVEL
            spectrum = self.spectrum(wave / level)
            compressed = spectrum.abs().clamp(min=MIN_MAGNITUDE).pow(POWER)
        answer = self.network(compressed.unsqueeze(1)).squeeze(1)
        with torch.autocast(wave.device.type, enabled=False):
            gain = answer.float() / compressed
            return level * self.wave(spectrum * gain, wave.shape[1])

    def spectrum(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `(batch, bins, 1 + samples / hop rounded up)`, complex.

        Silence is added up to a whole hop, so that every sample lies between two frames' middles.
        """
        missing = -wave.shape[1] % self.hop
        return torch.stft(
            nn.functional.pad(wave, (0, missing)),
            self.n_fft,
            self.hop,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )

    def wave(self, spectrum: Tensor, samples: int) -> Tensor:
        """The inverse of `spectrum`, `(batch, samples)`."""
        return torch.istft(spectrum, self.n_fft, self.hop, window=self.window, length=samples)


def wiener(wave: Tensor, vocals: Tensor) -> Tensor:
    """A mixture and an estimate of its vocals, `(batch, samples)` each → a better estimate.

    Each bin of the mixture is weighed by |v|² / (|v|² + |b|²), v the vocals and b what is left of
    the mixture: the single-channel Wiener filter, as Open-Unmix's own first step after its network
    (Stöter et al. 2019), here on longer windows than the network's.
    """
    wave, vocals = wave.float(), vocals.float()
    window = torch.hann_window(WIENER_N_FFT, device=wave.device)

    def spectrum(signal: Tensor) -> Tensor:
        return torch.stft(
            signal,
            WIENER_N_FFT,
            WIENER_HOP,
            window=window,
            pad_mode="constant",
            return_complex=True,
        )

    mixture = spectrum(wave)
    voice = spectrum(vocals).abs().square()
    rest = spectrum(wave - vocals).abs().square()
    weighed = mixture * (voice / (voice + rest).clamp(min=MIN_MAGNITUDE**2))
    return torch.istft(weighed, WIENER_N_FFT, WIENER_HOP, window=window, length=wave.shape[1])
