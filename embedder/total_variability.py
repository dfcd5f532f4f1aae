"""The total variability matrix, by expectation-maximisation in double precision.

Enters: Baum-Welch statistics of many segments. Leaves: T after one more iteration, and how likely
the statistics are; the posteriors of all segments.

Why not factor analysis of the normalised supervectors, as a library has it: that model takes the
same noise for all segments, whereas a component's mean shift has a variance of 1 over its count.
In three seconds most components are hardly visited, and their shifts are nearly all noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 256  # segments at a time: bounds the memory of the posteriors' second moments


def start_variability(shape: tuple[int, int, int], seed: int) -> Tensor:
    """A random T to begin from, `(components, rows, dim)`, float64.

    Small against the components' deviations, which are 1 in these units.
    """
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)


def posteriors(
    counts: Tensor, shifts: Tensor, variability: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Block by block: which segments, their posterior means `(block, dim)`, posterior covariances
    `(block, dim, dim)` and log-likelihoods `(block,)`, float64."""
    components, rows, dim = variability.shape
    upper = torch.triu_indices(dim, dim)
    squares = (variability.transpose(1, 2) @ variability)[:, upper[0], upper[1]]
    flat = variability.reshape(components * rows, dim)
    for first in range(0, len(counts), BLOCK):
        part = slice(first, min(first + BLOCK, len(counts)))
        precision = torch.zeros(part.stop - first, dim, dim, dtype=torch.float64)
        precision[:, upper[0], upper[1]] = counts[part].double() @ squares
        precision += torch.triu(precision, 1).transpose(1, 2)
        precision.diagonal(dim1=1, dim2=2).add_(1)
        pulled = shifts[part].double().flatten(1) @ flat
        factor = torch.linalg.cholesky(precision)
        covariance = torch.cholesky_inverse(factor)
        mean = (covariance @ pulled.unsqueeze(2)).squeeze(2)
        half_log_det = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        yield part, mean, covariance, 0.5 * (pulled * mean).sum(dim=1) - half_log_det


def reestimate(counts: Tensor, shifts: Tensor, variability: Tensor) -> tuple[Tensor, float]:
    """One iteration: a likelier T, and the mean log-likelihood of a segment under the old one.

    `counts (segments, components)`, `shifts (segments, components, rows)` and `variability
    (components, rows, dim)`, all divided by the UBM's deviations as in `IVector`. The alignment of
    frames and the UBM's covariances stay as they are; the likelihood is short of what T does not
    change. Kenny, Boulianne & Dumouchel, IEEE TSAP 13(3), 2005: proposition 3 (re-estimation),
    proposition 2 (likelihood); and Kenny, CRIM-06/08-13, 2005: the minimum divergence step, which
    turns T so that the posteriors' second moment over all segments is the prior's.
    """
    components, rows, dim = variability.shape
    upper = torch.triu_indices(dim, dim)
    weighted = torch.zeros(components, upper.shape[1], dtype=torch.float64)
    crossed = torch.zeros(components * rows, dim, dtype=torch.float64)
    moment = torch.zeros(dim, dim, dtype=torch.float64)
    likelihood = 0.0
    for part, mean, covariance, log_likelihood in posteriors(counts, shifts, variability):
        second = covariance + mean.unsqueeze(2) * mean.unsqueeze(1)
        weighted += counts[part].double().T @ second[:, upper[0], upper[1]]
        crossed += shifts[part].double().flatten(1).T @ mean
        moment += second.sum(dim=0)
        likelihood += float(log_likelihood.sum())
    system = torch.zeros(components, dim, dim, dtype=torch.float64)
    system[:, upper[0], upper[1]] = weighted
    system += torch.triu(system, 1).transpose(1, 2)
    right = crossed.view(components, rows, dim).transpose(1, 2)
    solved = torch.cholesky_solve(right, torch.linalg.cholesky(system)).transpose(1, 2)
    turn = torch.linalg.cholesky(moment / len(counts))
    return solved @ turn, likelihood / len(counts)
