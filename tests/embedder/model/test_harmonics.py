"""Harmonic filters: multiples of fundamentals, bandwidths by Q, and a slow transform in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from embedder.config import SAMPLE_RATE, FeatureConfig
from embedder.models.frontends import FLOOR, LEVEL
from embedder.models.zoo.harmonic import BANDS, HARMONICS, HarmonicFilters
from embedder.settings import build_config

USUAL = build_config(changes={"backbone": "harmonic"}).features


@pytest.fixture
def front() -> HarmonicFilters:
    return HarmonicFilters(USUAL)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32))


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
    wave = noise(0, 2, samples)
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


def test_a_pitch_is_in_the_same_band_of_all_harmonics(front: HarmonicFilters) -> None:
    band = 72  # C4
    pitch = 261.63
    time = torch.arange(8000) / SAMPLE_RATE
    wave = sum(torch.sin(2 * torch.pi * n * pitch * time) for n in range(1, 7))
    tensor = front(wave[None]).detach().mean(dim=2).view(HARMONICS, BANDS)
    for n in range(HARMONICS):
        near = tensor[n, band - 3 : band + 4]  # the next harmonics are 6 bands away or more
        assert abs(int(near.argmax()) - 3) <= 1, n + 1  # loudest within half a semitone
    third = front(torch.sin(2 * torch.pi * 3 * pitch * time)[None]).detach().mean(dim=2)
    loudest = third.view(HARMONICS, BANDS)[:, band].argmax()
    assert int(loudest) == 2  # the third multiple alone sounds in the third channel


@pytest.mark.parametrize("q", [0.5, 1.0, 4.0])
def test_bandwidths_go_with_one_over_q(q: float) -> None:
    fine = HarmonicFilters(FeatureConfig(n_fft=8192, hop=256))
    with torch.no_grad():
        fine.log_q.fill_(float(np.log(q)))
    passed = (fine.filters()[[300, 700]] > 0).sum(dim=1) * SAMPLE_RATE / 8192
    expected = (0.1079 * fine.centres[[300, 700]] + 24.7) / q
    assert (passed - expected).abs().max() < 2 * SAMPLE_RATE / 8192


def test_no_filter_is_empty_at_the_architecture_s_window(front: HarmonicFilters) -> None:
    assert (front.filters().sum(dim=1) > 0).all()
    paper = HarmonicFilters(FeatureConfig(n_fft=512))
    assert not (paper.filters().sum(dim=1) > 0).all()  # why the window is twice the paper's


def test_q_is_learnt_and_stays_above_zero(front: HarmonicFilters) -> None:
    assert [name for name, _ in front.named_parameters()] == ["log_q"]
    assert float(front.log_q.detach().exp()) == 1.0
    wave = noise(1, 2, 4000)
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


def test_loudness_and_autocast_change_nothing(front: HarmonicFilters) -> None:
    wave = noise(2, 2, 4000)
    torch.testing.assert_close(front(0.01 * wave), front(wave), atol=1e-3, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = front(wave)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, front(wave), atol=0, rtol=0)


def test_only_q_is_in_the_checkpoint(front: HarmonicFilters) -> None:
    assert {name for name in front.state_dict() if not name.startswith("spectrum")} == {"log_q"}
