"""The classical way to a member: an i-vector extractor fitted by expectation-maximisation.

Enters: a `Training` whose network is still random, its crops, its validation songs. Leaves: the
network fitted, the class weights set, and what the validation songs say in the keeper's log.
Everything is in double precision on the CPU but the statistics, 4·components·rows bytes a crop.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import TrainConfig
from embedder.errors import UserError
from embedder.keeper import Keeper, Say
from embedder.loop import Training
from embedder.model.ivector import IVector
from embedder.model.network import Network
from embedder.total_variability import posteriors, reestimate, start_variability

UBM_FRAMES = 100_000  # from which the background model is estimated, at most
CROP_FRAMES = 32  # of them from one crop
UBM_ITERATIONS = 15
LEAST_VARIANCE = 1e-3  # of a component, the frames' own being 1

Batches = Iterable[tuple[Tensor, Tensor]]  # wave (batch, samples), labels (batch,)


def fit_classical(training: Training, batches: Batches, songs: Batches, keeper: Keeper) -> None:
    """Fit a training's network in place, hear the validation songs with it, and keep it.

    `batches`: crops, the same each time they are gone through. `songs`: whole validation songs.
    What stands for the loss in the log is minus the log-likelihood of a crop that T adds to the
    background model's.

    Raises:
        UserError: fewer frames than the background model has components, or singers without crops.
    """
    began = time.perf_counter()
    with torch.no_grad():
        network, train = training.network, training.config.train
        head, likelihood = fit_network(network, batches, training.singers, train, keeper.say)
        training.loss.start_from(head)
        seconds = time.perf_counter() - began
        training.on_validation_epoch_start()
        for index, song in enumerate(songs):
            training.validation_step(song, index)  # type: ignore[arg-type]
    keeper.say(keeper.keep(training, 1, -likelihood, 0.0, seconds))


def fit_network(
    network: Network, batches: Batches, singers: int, train: TrainConfig, say: Say
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
        for crop in network.hear(wave).transpose(1, 2):
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
        reg_covar=LEAST_VARIANCE,
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
            yield *network.backbone.statistics(network.hear(wave)), labels

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
