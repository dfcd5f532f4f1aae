"""The separator: recomputed frame by frame, and what must not change its answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.config import SeparatorConfig
from embedder.models.frontends import LEVEL
from embedder.models.separators.vocal_separator import (
    MIN_MAGNITUDE,
    POWER,
    ROWS,
    VocalSeparator,
    wiener,
)

SMALL = SeparatorConfig(
    separator_n_fft=128, separator_hop=32, separator_hidden=8, separator_layers=1
)


def separator(config: SeparatorConfig = SMALL) -> VocalSeparator:
    """Random weights, in eval mode, with statistics that are not those of a new batch norm."""
    torch.manual_seed(0)
    made = VocalSeparator(config)
    made.train()
    made(noise(4, 4000))
    return made.eval().requires_grad_(False)


def noise(rows: int, samples: int, seed: int = 1) -> Tensor:
    return 0.2 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))


class Known(nn.Module):
    """In the network's place: a gain for each bin and frame that is easily told."""

    def forward(self, compressed: Tensor) -> Tensor:
        bins, frames = compressed.shape[2:]
        bin_gain = torch.linspace(0, 1.5, bins)[:, None]
        return compressed * bin_gain * torch.linspace(1, 0.5, frames)


def test_it_weighs_each_bin_of_each_frame_and_adds_the_frames_up_again() -> None:
    made = separator()
    made.network = Known()
    samples, size, hop = 1000, 128, 32
    wave = noise(1, samples)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = 1 + -(-samples // hop)
    padded = np.zeros((frames - 1) * hop + size)
    padded[size // 2 : size // 2 + samples] = wave[0].double().numpy()
    total, weight = np.zeros_like(padded), np.zeros_like(padded)
    for frame in range(frames):
        place = slice(frame * hop, frame * hop + size)
        spectrum = np.fft.rfft(window * padded[place])
        spectrum *= np.linspace(0, 1.5, 65) * np.linspace(1, 0.5, frames)[frame]
        total[place] += window * np.fft.irfft(spectrum)
        weight[place] += window**2
    inside = slice(size // 2, size // 2 + samples)
    expected = total[inside] / weight[inside]
    np.testing.assert_allclose(made(wave)[0].numpy(), expected, atol=2e-6)


def test_the_network_sees_compressed_magnitudes_at_one_level() -> None:
    made = separator()
    compressed: list[Tensor] = []
    made.network.register_forward_pre_hook(lambda _, given: compressed.append(given[0]))
    wave = noise(1, 1024)
    made(wave)
    levelled = wave * LEVEL / wave.square().mean().sqrt()
    window = torch.hann_window(128)
    frame = torch.fft.rfft(window * levelled[0, 10 * 32 - 64 : 10 * 32 + 64]).abs()
    torch.testing.assert_close(compressed[0][0, 0, :, 10], frame.clamp(min=MIN_MAGNITUDE) ** POWER)


def test_its_answer_is_the_networks_output_over_its_input() -> None:
    made = separator()
    wave = noise(2, 2000)
    spectrum = made.spectrum(wave * LEVEL / wave.square().mean(1, keepdim=True).sqrt())
    compressed = spectrum.abs().clamp(min=MIN_MAGNITUDE) ** POWER
    gain = made.network(compressed[:, None])[:, 0] / compressed
    assert 0 <= float(gain.min()) < float(gain.max())  # it does something, and turns no phase
    level = wave.square().mean(1, keepdim=True).sqrt() / LEVEL
    expected = torch.istft(spectrum * gain, 128, 32, window=torch.hann_window(128), length=2000)
    torch.testing.assert_close(made(wave), level * expected)


@pytest.mark.parametrize("samples", [1, 31, 32, 33, 1000, 1024])
def test_gains_of_one_give_the_mixture_back_at_any_length(samples: int) -> None:
    made = separator()
    made.network = nn.Identity()
    wave = noise(2, samples)
    torch.testing.assert_close(made(wave), wave, atol=1e-5, rtol=1e-4)


def test_gains_of_one_give_it_back_where_the_frames_share_only_half() -> None:
    made = separator(
        SeparatorConfig(
            separator_n_fft=128, separator_hop=64, separator_hidden=8, separator_layers=1
        )
    )
    made.network = nn.Identity()
    wave = noise(1, 640 + 63)
    torch.testing.assert_close(made(wave), wave, atol=1e-5, rtol=1e-4)


def test_vocals_are_as_loud_as_the_mixture_makes_them() -> None:
    made, wave = separator(), noise(2, 3000)
    torch.testing.assert_close(made(0.01 * wave), 0.01 * made(wave), rtol=1e-3, atol=1e-6)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    made = separator()
    wave = noise(3, 2000)
    wave[1] *= 100
    torch.testing.assert_close(made(wave)[2], made(wave[2:])[0], rtol=1e-4, atol=1e-6)


def test_more_rows_than_are_separated_at_once_are_all_separated_in_order() -> None:
    made, wave = separator(), noise(2 * ROWS + 3, 500)
    whole = made(wave)
    for row in (0, ROWS - 1, ROWS, 2 * ROWS + 2):
        torch.testing.assert_close(whole[row], made(wave[row : row + 1])[0], rtol=1e-4, atol=1e-6)


def test_silence_stays_silence() -> None:
    assert float(separator()(torch.zeros(1, 1000)).abs().max()) < 1e-6


def test_half_precision_leaves_transforms_and_level_alone() -> None:
    made, wave = separator(), noise(2, 4000)
    with torch.autocast("cpu", torch.bfloat16):
        rough = made(wave)
    assert rough.dtype == torch.float32
    assert float((rough - made(wave)).abs().max()) < 0.02 * float(wave.abs().max())


def test_wiener_weighs_the_mixture_by_the_estimates_share_of_power() -> None:
    low, high = (torch.sin(2 * torch.pi * f * torch.arange(16000) / 16000) for f in (440, 3000))
    wave = (low + high)[None]
    vocals = wiener(wave, (0.8 * low + 0.4 * high)[None])[0]
    inside = slice(4096, -4096)  # each tone fills bins of its own
    expected = 0.8**2 / (0.8**2 + 0.2**2) * low + 0.4**2 / (0.4**2 + 0.6**2) * high
    np.testing.assert_allclose(vocals[inside].numpy(), expected[inside].numpy(), atol=2e-3)


@pytest.mark.parametrize("samples", [1, 300, 4096, 5001])
def test_wiener_keeps_what_is_wholly_one_of_the_two(samples: int) -> None:
    wave = noise(2, samples)
    np.testing.assert_allclose(wiener(wave, wave).numpy(), wave.numpy(), atol=1e-6)
    assert not wiener(wave, torch.zeros_like(wave)).any()
    assert torch.isfinite(wiener(torch.zeros_like(wave), torch.zeros_like(wave))).all()


def test_refined_is_the_networks_answer_filtered() -> None:
    made, wave = separator(), noise(2, 5000)
    torch.testing.assert_close(made.refined(wave), wiener(wave, made(wave)))
