"""Expectation-maximisation of T: likelihoods rise, and equal those of the joint Gaussian."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from embedder.models.zoo import total_variability
from embedder.models.zoo.total_variability import posteriors, reestimate, start_variability

SEGMENTS, COMPONENTS, ROWS, DIM = 60, 3, 4, 2


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of segments drawn from the model, with quite different counts, and the true T."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(COMPONENTS, ROWS, DIM, generator=generator, dtype=torch.float64)
    counts = 20 * torch.rand(SEGMENTS, COMPONENTS, generator=generator, dtype=torch.float64)
    places = torch.randn(SEGMENTS, DIM, generator=generator, dtype=torch.float64)
    noise = torch.randn(SEGMENTS, COMPONENTS, ROWS, generator=generator, dtype=torch.float64)
    shifts = counts.unsqueeze(2) * torch.einsum("crd,sd->scr", true, places)
    return counts, shifts + counts.sqrt().unsqueeze(2) * noise, true


def slow_posterior(
    counts: np.ndarray, shifts: np.ndarray, variability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, covariance and log-likelihood ratio of one segment from the joint Gaussian of w and the
    means of each component's frames."""
    stacked = variability.reshape(-1, DIM)
    noise = np.repeat(1 / counts, ROWS)
    seen = (shifts / counts[:, None]).reshape(-1)
    joint = stacked @ stacked.T + np.diag(noise)
    gain = stacked.T @ np.linalg.inv(joint)
    likelihood = multivariate_normal.logpdf(seen, cov=joint)
    without = multivariate_normal.logpdf(seen, cov=np.diag(noise))
    return gain @ seen, np.eye(DIM) - gain @ stacked, float(likelihood - without)


def test_posteriors_are_those_of_the_joint_gaussian(
    drawn: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(total_variability, "BLOCK", 25)  # 25, 25 and 10
    counts, shifts, true = drawn
    done = 0
    for part, mean, covariance, likelihood in posteriors(counts, shifts, true):
        assert part.start == done
        for row, segment in enumerate(range(part.start, part.stop)):
            slow = slow_posterior(counts[segment].numpy(), shifts[segment].numpy(), true.numpy())
            np.testing.assert_allclose(mean[row], slow[0], atol=1e-8)
            np.testing.assert_allclose(covariance[row], slow[1], atol=1e-8)
            assert float(likelihood[row]) == pytest.approx(slow[2], abs=1e-6)
        done = part.stop
    assert done == SEGMENTS


def iterated(
    counts: Tensor, shifts: Tensor, matrix: Tensor, iterations: int
) -> tuple[Tensor, list[float]]:
    """T after several iterations, and the likelihoods before each."""
    likelihoods = []
    for _ in range(iterations):
        matrix, likelihood = reestimate(counts, shifts, matrix)
        likelihoods.append(likelihood)
    return matrix, likelihoods


def test_each_iteration_makes_the_statistics_likelier(
    drawn: tuple[Tensor, Tensor, Tensor],
) -> None:
    counts, shifts, true = drawn
    start = start_variability((COMPONENTS, ROWS, DIM), seed=1)
    fitted, likelihoods = iterated(counts, shifts, start, 8)
    assert all(b > a for a, b in itertools.pairwise(likelihoods))
    ends = [
        float(torch.cat([p[3] for p in posteriors(counts, shifts, matrix)]).mean())
        for matrix in (fitted, true)
    ]
    assert ends[0] > likelihoods[-1]
    assert ends[0] > ends[1]  # at least as likely as under the matrix they were drawn from


def test_the_step_without_turning_is_the_weighted_regression(
    drawn: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Each component's rows maximise the expected likelihood (slopes are 0 there), and the turn
    brings the posteriors' mean second moment to the prior's."""
    counts, shifts, _ = drawn
    start = start_variability((COMPONENTS, ROWS, DIM), seed=2)
    fitted, _ = reestimate(counts, shifts, start)
    moment = np.zeros((DIM, DIM))
    weighted = np.zeros((COMPONENTS, DIM, DIM))
    crossed = np.zeros((COMPONENTS, ROWS, DIM))
    for segment in range(SEGMENTS):
        n, f = counts[segment].numpy(), shifts[segment].numpy()
        mean, covariance, _ = slow_posterior(n, f, start.numpy())
        second = covariance + np.outer(mean, mean)
        moment += second / SEGMENTS
        weighted += n[:, None, None] * second
        crossed += f[:, :, None] * mean
    turn = np.linalg.cholesky(moment)
    for c in range(COMPONENTS):
        regression = fitted[c].numpy() @ np.linalg.inv(turn)
        np.testing.assert_allclose(crossed[c] - regression @ weighted[c], 0, atol=1e-7)


def test_the_true_space_is_found(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    counts, shifts, true = drawn
    start = start_variability((COMPONENTS, ROWS, DIM), seed=3)
    fitted, _ = iterated(20 * counts, 20 * shifts, start, 40)
    one, other = (np.linalg.qr(m.reshape(-1, DIM).numpy())[0] for m in (fitted, true))
    cosines = np.linalg.svd(one.T @ other, compute_uv=False)
    assert cosines.min() > 0.97


def test_the_start_depends_on_the_seed_alone() -> None:
    one, same, other = (start_variability((2, 3, 2), seed) for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
