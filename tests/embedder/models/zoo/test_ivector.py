"""Cepstra and the i-vector: counted by hand, by direct computation, and of length 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from embedder.config import FeatureConfig
from embedder.models.frontends import LogMel
from embedder.models.zoo.ivector import CEPSTRA, IVector, Mfcc
from tests.embedder.models.reference import backbone, noise

PLAIN = FeatureConfig(mel_norm="none")
ROWS = 3 * CEPSTRA
COMPONENTS, DIM = 4, 3


@pytest.fixture
def ivector() -> IVector:
    """With all of its numbers stirred, as if fitted."""
    changes = {"ivector_components": COMPONENTS, "ivector_dim": DIM}
    net = backbone("ivector", **changes)
    net.feature_mean = torch.randn(ROWS)
    net.feature_deviation = torch.rand(ROWS) + 0.5
    net.weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    net.means = 0.3 * torch.randn(COMPONENTS, ROWS)
    net.variances = torch.rand(COMPONENTS, ROWS) + 0.5
    net.centre = torch.randn(DIM)
    net.whitening = torch.randn(DIM, DIM)
    return net  # type: ignore[no-any-return]


def cepstra(seed: int, batch: int, frames: int) -> Tensor:
    return noise(seed, batch, ROWS, frames)


def slow_statistics(net: IVector, segment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frame by frame and component by component; shifts still in the frames' own units."""
    mean, deviation = net.feature_mean.double().numpy(), net.feature_deviation.double().numpy()
    means, variances = net.means.double().numpy(), net.variances.double().numpy()
    counts, shifts = np.zeros(COMPONENTS), np.zeros((COMPONENTS, ROWS))
    for frame in segment.T:
        x = (frame - mean) / deviation
        densities = np.array(
            [
                float(net.weights[c]) * multivariate_normal.pdf(x, means[c], np.diag(variances[c]))
                for c in range(COMPONENTS)
            ]
        )
        shares = densities / densities.sum()
        for c in range(COMPONENTS):
            counts[c] += shares[c]
            shifts[c] += shares[c] * (x - means[c])
    return counts, shifts


def test_statistics_are_those_counted_by_hand(ivector: IVector) -> None:
    segments = cepstra(1, 2, 12)
    counts, shifts = ivector.statistics(segments)
    for row in range(2):
        slow_counts, slow_shifts = slow_statistics(ivector, segments[row].double().numpy())
        np.testing.assert_allclose(counts[row], slow_counts, atol=1e-4)
        slow_shifts /= ivector.variances.double().numpy() ** 0.5
        np.testing.assert_allclose(shifts[row], slow_shifts, atol=1e-3)
    torch.testing.assert_close(counts.sum(dim=1), torch.full((2,), 12.0))


def test_the_posterior_mean_is_that_of_the_joint_gaussian(ivector: IVector) -> None:
    """M = m + T·w with w standard normal: each component's mean shift is seen count times, under
    noise of its covariance. The mean of w given all of them, from the joint covariance matrix and
    without the formula: Cov(w, y)·Cov(y)⁻¹·y."""
    segment = cepstra(2, 1, 15)
    counts, shifts = slow_statistics(ivector, segment[0].double().numpy())
    deviation = ivector.variances.double().numpy() ** 0.5
    matrix = deviation[:, :, None] * ivector.variability.double().numpy()  # T itself
    stacked = matrix.reshape(COMPONENTS * ROWS, DIM)
    seen = (shifts / counts[:, None]).reshape(-1)  # means of the frames, less the UBM's
    noise = (ivector.variances.double().numpy() / counts[:, None]).reshape(-1)
    joint = stacked @ stacked.T + np.diag(noise)
    expected = stacked.T @ np.linalg.solve(joint, seen)
    found = ivector.posterior_mean(*ivector.statistics(segment))[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.05


def test_it_is_whitened_and_of_length_one(ivector: IVector) -> None:
    segments = cepstra(5, 6, 10)
    raw = ivector.posterior_mean(*ivector.statistics(segments)).double().numpy()
    out = ivector(segments).numpy()
    centre, whitening = ivector.centre.numpy(), ivector.whitening.numpy()
    for row in range(6):
        turned = whitening @ (raw[row] - centre)
        length = math.sqrt(sum(turned**2))
        np.testing.assert_allclose(out[row], turned / length, atol=1e-4)


def test_half_precision_changes_nothing(ivector: IVector) -> None:
    segments = cepstra(6, 3, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = ivector(segments)
    assert torch.equal(half, ivector(segments))


def test_nothing_of_it_learns_by_gradient_and_all_of_it_is_saved(ivector: IVector) -> None:
    assert not list(ivector.parameters())
    other = backbone("ivector", ivector_components=COMPONENTS, ivector_dim=DIM)
    segments = cepstra(7, 2, 10)
    assert not torch.allclose(other(segments), ivector(segments))
    other.load_state_dict(ivector.state_dict())
    assert torch.equal(other(segments), ivector(segments))


# Cepstra ------------------------------------------------------------------------------------------


def slow_slopes(rows: np.ndarray) -> np.ndarray:
    """The slope of the line that fits five frames best; beyond the ends the last frame goes on."""
    padded = np.pad(rows, ((0, 0), (2, 2)), mode="edge")
    steps = np.arange(-2, 3)
    columns = [
        np.polyfit(steps, padded[:, frame : frame + 5].T, 1)[0] for frame in range(rows.shape[1])
    ]
    return np.stack(columns, axis=1)


def test_cepstra_and_slopes_are_those_of_the_definition() -> None:
    wave = noise(0, 1, 8000, spread=0.1)
    mel = LogMel(PLAIN)(wave)[0].double().numpy()
    bands = len(mel)
    rows = []
    for k in range(CEPSTRA):
        scale = math.sqrt((1 if k == 0 else 2) / bands)
        angles = [math.cos(math.pi / bands * (m + 0.5) * k) for m in range(bands)]
        rows.append(scale * np.array(angles) @ mel)
    cepstra = np.stack(rows)
    slopes = slow_slopes(cepstra)
    expected = np.concatenate([cepstra, slopes, slow_slopes(slopes)])
    front = Mfcc(PLAIN)
    out = front(wave)[0].numpy()
    assert front.rows == len(out) == 3 * CEPSTRA
    assert front.mel_rows == 0
    np.testing.assert_allclose(out, expected, atol=2e-4)


def test_without_the_mean_a_filter_that_does_not_change_says_nothing() -> None:
    """A gain of each mel band shifts all frames alike; only the mean's removal makes it unheard."""
    front, wave = Mfcc(FeatureConfig(mel_norm="mean")), noise(1, 2, 16000, spread=0.1)
    assert front(wave)[:, :CEPSTRA].mean(dim=2).abs().max() < 1e-4
    coloured = torch.nn.functional.conv1d(wave[:, None], torch.tensor([[[-0.7, 1.0]]]))[:, 0]
    change = (front(coloured) - front(wave[:, 1:])).abs().mean()
    plain = (Mfcc(PLAIN)(coloured) - Mfcc(PLAIN)(wave[:, 1:])).abs().mean()
    assert change < 0.25 * plain
