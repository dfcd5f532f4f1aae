"""Convolutions in place of Fourier transforms, and the other doubles that ONNX can express.

The double of every architecture: test_architectures.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import MemberConfig, SeparatorConfig
from embedder.models.network import Network
from embedder.models.onnx import (
    DftSeparator,
    DftSpectrogram,
    EncoderLayer,
    Maximum,
    basis,
    inverse_basis,
    portable,
)
from embedder.models.separators.vocal_separator import VocalSeparator

Tiny = Callable[..., MemberConfig]


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


def test_the_double_of_a_network_with_a_separator_gives_the_same_embedding(tiny: Tiny) -> None:
    shape = SeparatorConfig(
        separator_n_fft=256, separator_hop=128, separator_hidden=8, separator_layers=1
    )
    torch.manual_seed(1)
    config = tiny(stem="separated", **shape.model_dump())
    network = Network(config).eval().requires_grad_(False)
    wave = noise(3, 9000)
    torch.testing.assert_close(portable(network)(wave), network(wave), atol=1e-5, rtol=0)


def test_an_encoder_layer_is_torch_s_for_any_number_of_columns() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(24, 4, 48, activation="gelu", batch_first=True).eval()
    double = EncoderLayer(layer)
    with torch.no_grad():
        for count in (1, 5, 12):
            columns = torch.randn(3, count, 24)
            torch.testing.assert_close(double(columns), layer(columns), atol=1e-6, rtol=1e-5)


def test_layers_that_would_be_said_wrongly_are_refused() -> None:
    for layer in (
        nn.TransformerEncoderLayer(24, 4, 48, activation="relu", batch_first=True),
        nn.TransformerEncoderLayer(24, 4, 48, activation="gelu", norm_first=True, batch_first=True),
    ):
        with pytest.raises(ValueError, match="norms in front, or with another activation"):
            EncoderLayer(layer)
    with pytest.raises(ValueError, match="batch does not come first"):
        EncoderLayer(nn.TransformerEncoderLayer(24, 4, 48, activation=functional.gelu))
    with pytest.raises(ValueError, match="no maximum over everything"):
        Maximum(nn.AdaptiveMaxPool2d(2))
