"""Fitting the i-vector extractor: background model, T, whitening, projection.

All is done by expectation-maximisation or in closed form, in double precision on the CPU but for
the statistics: 4·components·rows bytes a crop.

Why not factor analysis of the normalised supervectors, as a library has it: that model takes the
same noise for all segments, whereas a component's mean shift has a variance of 1 over its count.
In three seconds most components are hardly visited, and their shifts are nearly all noise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import TrainConfig
from embedder.errors import UserError
from embedder.models.network import Network
from embedder.models.zoo.ivector import IVector

BLOCK = 256  # segments at a time: bounds the memory of the posteriors' second moments
UBM_FRAMES = 100_000  # from which the background model is estimated, at most
CROP_FRAMES = 32  # of them from one crop
UBM_ITERATIONS = 15
MIN_VARIANCE = 1e-3  # of a component, the frames' own being 1
Batches = Iterable[tuple[Tensor, Tensor]]  # wave (batch, samples), labels (batch,)


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


def fit_network(
    network: Network, batches: Batches, singers: int, train: TrainConfig, say: Callable[[str], None]
) -> tuple[Tensor, float]:
    """Background model, T, whitening and projection, one after the other; `epochs` iterations of T.

    Returns the class weights `(singers, dim)` and a crop's mean log-likelihood before the last one.
    """
    backbone = network.eval().backbone
    assert isinstance(backbone, IVector)
    fit_background(backbone, sample_frames(network, batches, train.seed), train.seed)
    say(f"background model: {len(backbone.weights)} components")
    counts, shifts, labels = gather_statistics(network, batches)
    if len(np.unique(labels)) < max(2, singers):
        raise UserError(
            "ivector learns what tells singers apart: it needs 2 or more, and crops of each; "
            "give more songs, or a higher crops_per_song"
        )
    components, rows, dim = backbone.variability.shape
    matrix = start_variability((components, rows, dim), train.seed)
    likelihood = 0.0
    for number in range(train.epochs):
        matrix, likelihood = reestimate(counts, shifts, matrix)
        say(
            f"total variability {number + 1:>3}/{train.epochs}  log-likelihood of a crop "
            f"{likelihood:.1f}"
        )
    backbone.variability.copy_(matrix)
    ivectors = torch.cat([mean for _, mean, _, _ in posteriors(counts, shifts, matrix)])
    fit_whitening(backbone, ivectors)
    return fit_projection(network, backbone.whitened(ivectors.float()), labels, singers), likelihood


def sample_frames(network: Network, batches: Batches, seed: int) -> Tensor:
    """Frames of the first crops, `(frames, rows)`: some of each, without those next to them."""
    rng = np.random.default_rng(seed)
    parts: list[Tensor] = []
    total = 0
    for wave, _ in batches:
        for crop in network.extract_features(wave).transpose(1, 2):
            chosen = rng.permutation(len(crop))[:CROP_FRAMES]
            parts.append(crop[torch.from_numpy(chosen)])
            total += len(chosen)
        if total >= UBM_FRAMES:
            break
    return torch.cat(parts)


def fit_background(backbone: IVector, frames: Tensor, seed: int) -> None:
    """Standardise `frames (frames, rows)` and fit the universal background model to them."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    components = len(backbone.weights)
    if len(frames) < components:
        raise UserError(
            f"ivector_components = {components} is too many for {len(frames)} frames of these "
            "songs; fewer, or a higher crops_per_song"
        )
    backbone.feature_mean.copy_(frames.mean(dim=0))
    backbone.feature_deviation.copy_(frames.std(dim=0).clamp(min=1e-6))
    standard = (frames - backbone.feature_mean) / backbone.feature_deviation
    mixture = GaussianMixture(
        components,
        covariance_type="diag",
        init_params="k-means++",
        max_iter=UBM_ITERATIONS,
        reg_covar=MIN_VARIANCE,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # more iterations change little
        mixture.fit(standard.numpy())
    backbone.weights.copy_(torch.from_numpy(mixture.weights_))
    backbone.means.copy_(torch.from_numpy(mixture.means_))
    backbone.variances.copy_(torch.from_numpy(mixture.covariances_))


def gather_statistics(
    network: Network, batches: Batches
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """All crops' `counts (crops, components)` and `shifts (crops, components, rows)`, float32, and
    their labels `(crops,)`."""

    def parts() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for wave, labels in batches:
            yield *network.backbone.statistics(network.extract_features(wave)), labels

    counts, shifts, labels = zip(*parts(), strict=True)
    return torch.cat(counts), torch.cat(shifts), torch.cat(labels).numpy()


def fit_whitening(backbone: IVector, ivectors: Tensor) -> None:
    """Centre and whitening of `ivectors (crops, dim)`: after it their covariance is the identity.

    Directions in which they hardly vary (fewer crops than dimensions) are not blown up.
    """
    centred = ivectors.double() - ivectors.double().mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    scales = values.clamp(min=1e-4 * float(values[-1])).rsqrt()
    backbone.centre.copy_(ivectors.double().mean(dim=0))
    backbone.whitening.copy_(scales.unsqueeze(1) * vectors.T)


def fit_projection(
    network: Network, whitened: Tensor, labels: NDArray[np.int64], singers: int
) -> Tensor:
    """Linear discriminants of `whitened (crops, dim)` into the network's projection; the head.

    There are fewer discriminants than singers; the embedding's other numbers are 0. scikit-learn
    scales them so that the covariance within singers is the identity, which is what within-class
    covariance normalisation (Dehak et al., section III.B) would do to them: it has nothing to add.
    A singer's class weight, `(singers, dim)`, is the direction of the mean of the embeddings.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    values = whitened.double().numpy()
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(values, labels)
    linear, norm = network.projection
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    norm.reset_parameters()  # the identity but for its epsilon, which the unit length takes out
    used = min(linear.out_features, singers - 1, values.shape[1])
    rows = torch.from_numpy(analysis.scalings_[:, :used].T.copy())
    nn.init.zeros_(linear.weight)[:used] = rows
    nn.init.zeros_(linear.bias)[:used] = -rows @ torch.from_numpy(values.mean(axis=0))
    embeddings = functional.normalize(network.projection(whitened), dim=1)
    head = torch.zeros(singers, linear.out_features)
    head.index_add_(0, torch.from_numpy(labels), embeddings)
    return functional.normalize(head, dim=1)
