"""The harmonic CNN by definition: multiples of fundamentals, bandwidths by Q, and the layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedder.config import SAMPLE_RATE, FeatureConfig
from embedder.models.frontends import FLOOR, LEVEL
from embedder.models.zoo.harmonic import BANDS, HARMONICS, Harmonic, HarmonicFilters
from embedder.settings import build_config
from tests.embedder.models.reference import Layers, backbone, max_pool, noise, stirred

USUAL = build_config(changes={"backbone": "harmonic"}).features


@pytest.fixture
def front() -> HarmonicFilters:
    return HarmonicFilters(USUAL)


def test_centres_are_multiples_of_quarter_tones_from_c1(front: HarmonicFilters) -> None:
    centres = front.centres.view(HARMONICS, BANDS)
    assert float(centres[0, 0]) == pytest.approx(32.703, abs=1e-3)  # C1
    assert float(centres[0, 24]) == pytest.approx(65.406, abs=1e-3)  # an octave is 24 bands
    torch.testing.assert_close(centres[0, 1:] / centres[0, :-1], torch.full((127,), 2 ** (1 / 24)))
    for n in range(1, HARMONICS + 1):
        torch.testing.assert_close(centres[n - 1], n * centres[0])
    assert centres.max() < SAMPLE_RATE / 2


def test_filters_are_triangles_at_the_multiples() -> None:
    fine = HarmonicFilters(FeatureConfig(n_fft=8192, hop=256))  # bins 2 Hz apart
    with torch.no_grad():
        fine.log_q.fill_(float(np.log(1.7)))
    filters = fine.filters().detach().numpy()
    bins = np.arange(4097) * SAMPLE_RATE / 8192
    for n in (1, 2, 6):
        for band in (0, 50, 127):
            centre = n * 440 * 2 ** ((24 + band / 2 - 69) / 12)
            width = (0.1079 * centre + 24.7) / 1.7
            slow = [max(0.0, 1 - 2 * abs(g - centre) / width) for g in bins]
            np.testing.assert_allclose(filters[(n - 1) * BANDS + band], slow, atol=2e-3)


def test_features_are_those_of_the_definition(front: HarmonicFilters) -> None:
    samples = 3000
    wave = noise(0, 2, samples, spread=0.1)
    out = front(wave).detach().numpy()
    size, hop = USUAL.n_fft, USUAL.hop
    assert out.shape == (2, HARMONICS * BANDS, 1 + samples // hop)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    weights = front.filters().detach().numpy().astype(np.float64)
    for row in range(2):
        x = wave[row].numpy().astype(np.float64)
        padded = np.pad(x * LEVEL / np.sqrt(np.mean(x**2)), size // 2, mode="reflect")
        for frame in range(out.shape[2]):
            power = np.abs(np.fft.rfft(padded[frame * hop :][:size] * window)) ** 2
            np.testing.assert_allclose(
                out[row, :, frame], np.log(weights @ power + FLOOR), atol=2e-3
            )


def test_no_filter_is_empty_at_the_architecture_s_window(front: HarmonicFilters) -> None:
    assert (front.filters().sum(dim=1) > 0).all()
    paper = HarmonicFilters(FeatureConfig(n_fft=512))
    assert not (paper.filters().sum(dim=1) > 0).all()  # why the window is twice the paper's


def test_q_is_learnt_and_stays_above_zero(front: HarmonicFilters) -> None:
    assert [name for name, _ in front.named_parameters()] == ["log_q"]
    assert float(front.log_q.detach().exp()) == 1.0
    wave = noise(1, 2, 4000, spread=0.1)
    front(wave).sum().backward()
    slope = float(front.log_q.grad)
    with torch.no_grad():
        around = []
        for step in (-1e-2, 1e-2):
            front.log_q.fill_(step)
            around.append(float(front(wave).double().sum()))
    assert slope == pytest.approx((around[1] - around[0]) / 2e-2, rel=0.05)
    assert slope < 0  # narrower filters let less through
    with torch.no_grad():
        front.log_q.fill_(-20.0)
    assert torch.isfinite(front(wave)).all()


def test_autocast_changes_nothing_and_only_q_is_in_the_checkpoint(front: HarmonicFilters) -> None:
    wave = noise(2, 2, 4000, spread=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = front(wave)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, front(wave), atol=0, rtol=0)
    assert {name for name in front.state_dict() if not name.startswith("spectrum")} == {"log_q"}


# The layers ---------------------------------------------------------------------------------------


@pytest.fixture
def network() -> Harmonic:
    return stirred(backbone("harmonic", channels=16), 0.2, 0.5)  # type: ignore[no-any-return]


@pytest.mark.parametrize("frames", [45, 188, 1])
def test_forward_is_that_of_the_definition(network: Harmonic, frames: int) -> None:
    rows, layers = noise(1, 1, 6 * 128, frames), Layers(network)
    channels = [rows.double()[:, 128 * n : 128 * (n + 1)] for n in range(6)]
    x = layers.norm(torch.stack(channels, dim=1), "norm")
    for number in range(7):
        layer = f"layers.{number}"
        if number in (0, 4):  # the others have a path around two convolutions
            x = layers.norm(layers.conv2d(x, f"{layer}.0"), f"{layer}.1").clamp(min=0)
        else:
            x = layers.block(x, layer)
        if number < 6:
            x = max_pool(x, 2, 3 if number == 5 else 2)
    assert x.shape[2] == 2
    expected = x.flatten(2).max(dim=2).values
    assert expected.std() > 0.01
    torch.testing.assert_close(network(rows).double(), expected, atol=1e-3, rtol=1e-3)
