"""Convolutions that give what the Fourier transforms give, at every length."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from embedder.config import SeparatorConfig
from embedder.models.onnx import DftSeparator, DftSpectrogram, basis, inverse_basis
from embedder.models.separators.vocal_separator import VocalSeparator


def noise(batch: int, samples: int) -> Tensor:
    rng = np.random.default_rng(samples)
    return torch.from_numpy(rng.normal(0, 0.1, (batch, samples)).astype(np.float32))


@pytest.mark.parametrize("n_fft", [8, 9])
def test_the_basis_is_the_discrete_fourier_transform(n_fft: int) -> None:
    rows, signal = basis(n_fft), torch.randn(n_fft, dtype=torch.float64)
    bins = n_fft // 2 + 1
    for k in range(bins):
        real = sum(float(signal[n]) * math.cos(2 * math.pi * k * n / n_fft) for n in range(n_fft))
        imaginary = -sum(
            float(signal[n]) * math.sin(2 * math.pi * k * n / n_fft) for n in range(n_fft)
        )
        assert float(rows[k] @ signal) == pytest.approx(real, abs=1e-12)
        assert float(rows[bins + k] @ signal) == pytest.approx(imaginary, abs=1e-12)


@pytest.mark.parametrize("n_fft", [128, 129])
def test_the_inverse_basis_gives_the_signal_back(n_fft: int) -> None:
    signal = torch.randn(n_fft, dtype=torch.float64)
    spectrum = basis(n_fft) @ signal
    torch.testing.assert_close(spectrum @ inverse_basis(n_fft), signal)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize(("n_fft", "hop"), [(512, 320), (2048, 512), (301, 77)])
def test_spectrograms_are_torchaudio_s(n_fft: int, hop: int, power: float) -> None:
    fast = torchaudio.transforms.Spectrogram(n_fft=n_fft, hop_length=hop, power=power)
    slow = DftSpectrogram(fast)
    for batch, samples in ((1, n_fft // 2 + 1), (3, 8000), (2, 8000 + hop - 1)):
        wave = noise(batch, samples)
        wanted = fast(wave)
        # Rounding grows with what is added up: a window's worth of samples.
        torch.testing.assert_close(slow(wave), wanted, atol=1e-6 * float(wanted.max()), rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"center": False}, {"normalized": True}, {"pad": 3}, {"power": None}, {"win_length": 300}],
)
def test_other_spectrograms_have_no_convolution(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no convolution|a window of 300, not 512"):
        DftSpectrogram(torchaudio.transforms.Spectrogram(n_fft=512, **options))


@pytest.mark.parametrize(
    "shape",
    [
        SeparatorConfig(
            separator_n_fft=256, separator_hop=128, separator_hidden=8, separator_layers=1
        ),
        SeparatorConfig(
            separator_n_fft=301, separator_hop=77, separator_hidden=10, separator_layers=2
        ),
    ],
)
def test_separated_vocals_are_the_separator_s(shape: SeparatorConfig) -> None:
    torch.manual_seed(0)
    fast = VocalSeparator(shape)
    fast(noise(2, 4000))  # its norms have statistics of their own
    fast.eval().requires_grad_(False)
    slow = DftSeparator(fast)
    for batch, samples in ((1, 1), (2, 77), (3, 4001), (20, 1000)):
        wave = noise(batch, samples)
        vocals = slow(wave)
        torch.testing.assert_close(vocals, fast(wave), atol=1e-5, rtol=0)
        assert samples < 100 or not torch.allclose(vocals, wave, atol=1e-2)
    assert torch.equal(slow(torch.zeros(1, 500)), torch.zeros(1, 500))
