"""Statistics: against a loop over channels and frames, and what pooling must not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from embedder.models.pooling import AttentiveStatistics, Statistics

CHANNELS, BOTTLENECK = 6, 5


@pytest.fixture
def pool() -> AttentiveStatistics:
    torch.manual_seed(0)
    pool = AttentiveStatistics(CHANNELS, BOTTLENECK)
    norm = pool.attention[2]
    for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(values, 0.5, 1.5)
    return pool.eval()


def frames_of(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.3, 1, shape).astype(np.float32))


def slow(pool: AttentiveStatistics, x: np.ndarray) -> np.ndarray:
    """Desplanques et al. 2020, eqs. 1 to 6, for one utterance `x (channels, frames)`."""
    first, _, norm, _, second = pool.attention
    w1, b1 = first.weight[:, :, 0].detach().double().numpy(), first.bias.detach().numpy()
    w2, b2 = second.weight[:, :, 0].detach().double().numpy(), second.bias.detach().numpy()
    gain, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    centre, spread = norm.running_mean.numpy(), norm.running_var.numpy()
    channels, count = x.shape
    mean = [sum(x[c]) / count for c in range(channels)]
    deviation = [np.sqrt(sum((x[c] - mean[c]) ** 2) / count) for c in range(channels)]
    score = np.zeros((channels, count))
    for t in range(count):
        hidden = np.maximum(w1 @ np.concatenate([x[:, t], mean, deviation]) + b1, 0)
        hidden = np.tanh((hidden - centre) / np.sqrt(spread + norm.eps) * gain + shift)
        score[:, t] = w2 @ hidden + b2
    means, deviations = [], []
    for c in range(channels):
        alpha = np.exp(score[c]) / sum(np.exp(score[c]))
        mu = sum(alpha[t] * x[c, t] for t in range(count))
        square = sum(alpha[t] * x[c, t] ** 2 for t in range(count))
        means.append(mu)
        deviations.append(np.sqrt(max(square - mu**2, 1e-5)))
    return np.array(means + deviations)


@pytest.mark.parametrize("count", [2, 9, 40])
def test_pooling_is_that_of_the_paper(pool: AttentiveStatistics, count: int) -> None:
    frames = frames_of(1, 3, CHANNELS, count)
    pooled = pool(frames).detach().numpy()
    for row in range(3):
        expected = slow(pool, frames[row].double().numpy())
        np.testing.assert_allclose(pooled[row], expected, rtol=2e-4, atol=2e-5)


def test_frames_that_never_change_have_a_finite_deviation_and_gradient(
    pool: AttentiveStatistics,
) -> None:
    frames = torch.full((2, CHANNELS, 10), 0.7, requires_grad=True)
    pooled = pool(frames)
    torch.testing.assert_close(pooled[:, :CHANNELS], torch.full((2, CHANNELS), 0.7))
    torch.testing.assert_close(pooled[:, CHANNELS:], torch.full((2, CHANNELS), 1e-5**0.5))
    pooled.sum().backward()
    assert torch.isfinite(frames.grad).all()


def test_half_precision_only_costs_precision(pool: AttentiveStatistics) -> None:
    frames = frames_of(5, 2, CHANNELS, 200)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = pool(frames.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, pool(frames), atol=0.03, rtol=0.03)


@pytest.mark.parametrize("count", [1, 2, 33])
def test_plain_statistics_are_sums_over_frames(count: int) -> None:
    frames = frames_of(6, 3, CHANNELS, count)
    pooled = Statistics()(frames).numpy()
    for row in range(3):
        for channel in range(CHANNELS):
            line = frames[row, channel].double().numpy()
            mean = sum(line) / count
            deviation = np.sqrt(max(sum((line - mean) ** 2) / count, 1e-5))
            assert pooled[row, channel] == pytest.approx(mean, abs=1e-6)
            assert pooled[row, CHANNELS + channel] == pytest.approx(deviation, abs=1e-6)


def test_plain_statistics_of_half_precision_frames_are_taken_in_full() -> None:
    frames = (100 + frames_of(7, 2, CHANNELS, 500)).bfloat16()  # bf16 knows no 100.3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = Statistics()(frames)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, Statistics()(frames.float()), atol=0, rtol=0)
    expected = frames.double().std(dim=2, correction=0).float()
    torch.testing.assert_close(half[:, CHANNELS:], expected, atol=1e-4, rtol=1e-4)


def test_plain_statistics_of_frames_that_never_change_have_a_finite_gradient() -> None:
    frames = torch.full((2, CHANNELS, 10), 0.7, requires_grad=True)
    Statistics()(frames).sum().backward()
    torch.testing.assert_close(frames.grad, torch.full((2, CHANNELS, 10), 0.1))
