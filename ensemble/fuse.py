"""Experts become one: votes, temperatures and weights fitted on validation songs, and applied.

Enters: the members' train and validation stores. Leaves: `Fusion`; fused log-probabilities of any
songs; and a table of results in which everything fitted on validation songs is reported
cross-fitted by album.

The pool is log-linear: p(singer) ∝ exp(Σ_e w_e · log p_e(singer)), w_e ≥ 0 (Genest & Zidek 1986).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.metrics import nll, summarise
from embedder.store import AGAIN, Store
from ensemble.calibrate import apply_temperature, fit_temperature, log_softmax
from ensemble.experts import Evidence, check_agreement, gather
from ensemble.fusion import Fusion, ResultRow, check_fusion
from ensemble.knn import NeighbourIndex, Votes, build_index, neighbour_votes

FUSED = "fused"  # name of the last row of the table
FOLDS = 5
WEIGHT_SD = 0.5  # of the prior of each weight around 1/experts; see `fit_weights`
VOTES = tuple(Votes(k, tau) for k in (50, 10, 200) for tau in (0.1, 0.05, 0.2))  # tried in turn

Scores = dict[str, NDArray[np.float64]]  # expert → (songs, singers)


def fit_fusion(
    train_stores: Sequence[Store],
    validation_stores: Sequence[Store],
    aggregate: str = "mean",
    seed: int = 0,
) -> Fusion:
    """Fit votes, temperatures and weights on all validation songs; results are cross-fitted.

    One train and one validation store for each member, in one order. The table in `results` has a
    row for each expert and the fused row last. `seed` draws the album folds and the resamples.
    Raises `UserError` if stores do not fit together, or if validation has fewer than two albums.
    """
    check_agreement(train_stores)
    indexes = {store.member: build_index(store) for store in train_stores}
    evidence = gather(validation_stores, indexes, aggregate, max(votes.k for votes in VOTES))
    made_from = {s.member: s.made_from.get("checkpoint", "") for s in validation_stores}
    fusion = _fit(evidence, aggregate, made_from)
    scores = cross_fitted(evidence, aggregate, seed)
    rows = result_rows(evidence.labels, scores, "validation", cross_fitted=True, seed=seed)
    return replace(fusion, results=rows)


def cross_fitted(evidence: Evidence, aggregate: str = "mean", seed: int = 0) -> Scores:
    """Log-probabilities (songs, singers) of each expert and of "fused", fitted on other albums.

    The albums are cut into 5 folds (as many as there are albums, if fewer); votes, temperatures and
    weights for a fold are fitted on the other folds. Raises `UserError` with fewer than two albums.
    """
    from sklearn.model_selection import GroupKFold  # only fitting needs scikit-learn

    albums = len(set(evidence.albums))
    if albums < 2:
        raise UserError(
            f"the validation songs come from {albums} album; fusion needs two or more albums to "
            "report numbers that were not fitted on the same songs"
        )
    folds = GroupKFold(min(FOLDS, albums), shuffle=True, random_state=seed)
    songs, singers = len(evidence.labels), len(evidence.singers)
    result = {name: np.zeros((songs, singers)) for name in (*evidence.experts, FUSED)}
    for fitted, held_out in folds.split(np.zeros(songs), groups=evidence.albums):
        fusion = _fit(evidence.take(fitted), aggregate, {})
        there = evidence.take(held_out)
        for name, scores in all_log_probabilities(fusion, there.scores(fusion.votes)).items():
            result[name][held_out] = scores
    return result


def apply_fusion(
    fusion: Fusion, expert_scores: Mapping[str, NDArray[np.floating[Any]]]
) -> NDArray[np.float64]:
    """Fused log-probabilities (songs, singers) of uncalibrated logits of each expert.

    Where an expert is missing the others' weights grow in proportion until they sum to the same
    (to equal shares, if they were all 0). Raises `ValueError` for an unknown expert or none.
    """
    return all_log_probabilities(fusion, expert_scores)[FUSED]


def all_log_probabilities(
    fusion: Fusion, expert_scores: Mapping[str, NDArray[np.floating[Any]]]
) -> Scores:
    """As `apply_fusion`, with each expert's calibrated log-probabilities before the fused ones."""
    unknown = sorted(set(expert_scores) - set(fusion.experts))
    if unknown or not expert_scores:
        raise ValueError(f"unknown experts {unknown}; this fusion has {', '.join(fusion.experts)}")
    names = [name for name in fusion.experts if name in expert_scores]
    result = {
        name: apply_temperature(expert_scores[name], fusion.temperatures[name]) for name in names
    }
    total, present = sum(fusion.weights.values()), sum(fusion.weights[name] for name in names)
    weights = np.array(
        [
            fusion.weights[name] * (total / present) if present > 0 else total / len(names)
            for name in names
        ]
    )
    result[FUSED] = pool(np.stack([result[name] for name in names]), weights)
    return result


def predict_songs(
    fusion: Fusion, stores: Sequence[Store], indexes: Mapping[str, NeighbourIndex]
) -> Scores:
    """Log-probabilities (songs, singers) of each expert and of "fused" for the songs of the stores.

    Raises `UserError` if a store or index was made by another checkpoint than the fusion.
    """
    check_fusion(fusion, {s.member: s.made_from.get("checkpoint", "") for s in stores})
    evidence = gather(stores, indexes, fusion.aggregate, fusion.k)
    if evidence.singers != fusion.singers:
        raise UserError(f"the fusion knows other singers than the stores; {AGAIN}")
    return all_log_probabilities(fusion, evidence.scores(fusion.votes))


def pool(
    log_probabilities: NDArray[np.floating[Any]], weights: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Log-linear pool (songs, singers) of (experts, songs, singers) with weights (experts,)."""
    # A plain sum, not BLAS, whose rounding depends on how many songs there are.
    return log_softmax((weights[:, None, None] * log_probabilities).sum(axis=0))


def fit_weights(
    log_probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Weights (experts,) ≥ 0 that minimise Σ NLL of the pool + Σ_e (w_e − 1/E)² / (2 · WEIGHT_SD²).

    Calibrated log-probabilities (experts, songs, singers), known labels (songs,). The second term
    draws the weights to the plain average, so that few songs move them little and many alike
    experts share. The sum is not held at 1: experts whose errors are independent deserve a sharper
    pool than any of them. The objective is convex, so the minimum is the only one.
    """
    from scipy.optimize import minimize  # only fitting needs scipy

    experts, songs = len(log_probabilities), len(labels)
    equal, rows = 1.0 / experts, np.arange(songs)
    right = log_probabilities[:, rows, labels]

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logs = pool(log_probabilities, weights)
        pull = (weights - equal) / WEIGHT_SD**2
        expected = np.einsum("sc,esc->e", np.exp(logs), log_probabilities)
        value = -logs[rows, labels].sum() + 0.5 * float(pull @ (weights - equal))
        return float(value), expected - right.sum(axis=1) + pull

    start = np.full(experts, equal)
    bounds = [(0.0, None)] * experts
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x, dtype=np.float64)


def result_rows(
    labels: NDArray[np.int64],
    scores: Scores,
    split: str,
    level: str = "song",
    cross_fitted: bool = False,
    seed: int = 0,
) -> tuple[ResultRow, ...]:
    """One row for each of `scores`, in order: log-probabilities (songs, singers), known labels."""
    return tuple(
        ResultRow(name, split, level, cross_fitted, summarise(labels, logs, seed))
        for name, logs in scores.items()
    )


def _fit(evidence: Evidence, aggregate: str, made_from: dict[str, str]) -> Fusion:
    """Votes, then temperatures, then weights, all on the songs of `evidence`."""
    votes = {member: _fit_votes(evidence, member) for member in evidence.neighbours}
    scores = evidence.scores(votes)
    temperatures = {
        name: fit_temperature(logits, evidence.labels) for name, logits in scores.items()
    }
    calibrated = np.stack(
        [apply_temperature(scores[name], temperature) for name, temperature in temperatures.items()]
    )
    weights = fit_weights(calibrated, evidence.labels)
    return Fusion(
        singers=evidence.singers,
        aggregate=aggregate,
        temperatures=temperatures,
        weights=dict(zip(temperatures, map(float, weights), strict=True)),
        votes=votes,
        made_from=made_from,
    )


def _fit_votes(evidence: Evidence, member: str) -> Votes:
    """The `VOTES` whose calibrated NLL is lowest; of equal ones the first, so the defaults win."""
    near = evidence.neighbours[member]

    def loss(votes: Votes) -> float:
        logits = neighbour_votes(
            near.similarities, near.labels, len(evidence.singers), votes.k, votes.tau
        )
        temperature = fit_temperature(logits, evidence.labels)
        return nll(evidence.labels, apply_temperature(logits, temperature))

    return min(VOTES, key=loss)
