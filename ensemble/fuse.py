"""Experts become one: temperatures and weights fitted on validation songs, and applied.

Enters: the members' train and validation stores. Leaves: `Fusion`; fused log-probabilities of any
songs; and a table of results in which everything fitted on validation songs is reported
cross-fitted by album.

The pool is log-linear: p(singer) ∝ exp(Σ_e w_e · log p_e(singer)), w_e ≥ 0 (Genest & Zidek 1986).
The weights' proportions are learnt on pieces of the songs, where there are mistakes to learn from,
and their sum on whole songs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.listening import Listening
from embedder.metrics import summarise
from embedder.store import AGAIN, Store
from ensemble.calibrate import apply_temperature, fit_temperature, log_softmax
from ensemble.experts import FUSED as FUSED
from ensemble.experts import check_agreement, gather
from ensemble.fusion import AS_TRAINED, Fusion, ResultRow, check_fusion
from ensemble.knn import NeighbourIndex, Votes, build_index
from ensemble.pieces import in_pieces

FOLDS = 5
DEFAULT_VOTES = Votes()
WEIGHT_SD = 0.5  # of the prior of each weight around 1/experts; see `fit_weights`

Scores = dict[str, NDArray[np.float64]]  # expert → (songs, singers)


@dataclass(frozen=True, eq=False)
class Pieces:
    """What the experts say of the songs' pieces, uncalibrated."""

    scores: Mapping[str, NDArray[np.floating[Any]]]  # expert → (pieces, singers)
    songs: NDArray[np.int64]  # (pieces,), ascending: the song that each is from

    def of(self, songs: NDArray[np.integer[Any]]) -> Pieces:
        """The pieces of some of the songs (ascending), which are then numbered from 0."""
        kept = np.isin(self.songs, songs)
        scores = {name: logits[kept] for name, logits in self.scores.items()}
        return Pieces(scores, np.searchsorted(songs, self.songs[kept]))

    @property
    def shares(self) -> NDArray[np.float64]:
        """What each piece counts (pieces,), so that a song's pieces count as one song."""
        shares: NDArray[np.float64] = 1.0 / np.bincount(self.songs)[self.songs]
        return shares


def fit_fusion(
    train_stores: Sequence[Store],
    validation_stores: Sequence[Store],
    aggregate: str = "probability",
    seed: int = 0,
    votes: Votes = DEFAULT_VOTES,
    listening: Listening = AS_TRAINED,
) -> tuple[Fusion, dict[str, NeighbourIndex], Scores]:
    """Fit temperatures and weights on all validation songs; all that is reported is cross-fitted.

    Leaves the fusion, each member's index of its training songs, and the cross-fitted
    log-probabilities of the validation songs. The fusion's `results` are their table: a row for
    each expert, the fused row last. One train and one validation store for each member. `seed`
    draws the album folds and the resamples; `listening` is how the stores' songs were heard.
    Raises `UserError` if stores do not fit together, or if validation has fewer than two albums.
    """
    check_agreement(train_stores)
    indexes = {store.member: build_index(store) for store in train_stores}
    evidence = gather(validation_stores, indexes, aggregate, votes.k)
    made_from = {s.member: s.made_from.get("checkpoint", "") for s in validation_stores}
    raw = evidence.scores(votes)
    parts, songs = in_pieces(validation_stores)
    pieces = Pieces(gather(parts, indexes, aggregate, votes.k).scores(votes), songs)
    temperatures, weights = fit_experts(raw, evidence.labels, pieces)
    scores = cross_fitted(raw, evidence.labels, evidence.albums, pieces, seed)
    rows = result_rows(evidence.labels, scores, "validation", cross_fitted=True, seed=seed)
    fusion = Fusion(
        evidence.singers, aggregate, temperatures, weights, votes, made_from, listening, rows
    )
    return fusion, indexes, scores


def cross_fitted(
    scores: Mapping[str, NDArray[np.floating[Any]]],
    labels: NDArray[np.integer[Any]],
    albums: Sequence[str],
    pieces: Pieces,
    seed: int = 0,
) -> Scores:
    """Log-probabilities (songs, singers) of each expert and of "fused", fitted on other albums.

    Enters: uncalibrated logits (songs, singers) of each expert, labels (songs,), each song's
    album, and the songs' pieces. The albums are cut into 5 folds (as many as there are albums, if
    fewer); temperatures and weights for a fold are fitted on the other folds. Raises `UserError`
    with fewer than two albums.
    """
    from sklearn.model_selection import GroupKFold  # only fitting needs scikit-learn

    different = len(set(albums))
    if different < 2:
        raise UserError(
            f"the validation songs come from {different} album; fusion needs two or more albums to "
            "report numbers that were not fitted on the same songs"
        )
    folds = GroupKFold(min(FOLDS, different), shuffle=True, random_state=seed)
    result = {name: np.zeros(next(iter(scores.values())).shape) for name in (*scores, FUSED)}
    for fitted, held_out in folds.split(labels, groups=albums):
        part = {name: logits[fitted] for name, logits in scores.items()}
        temperatures, weights = fit_experts(part, labels[fitted], pieces.of(fitted))
        there = {name: logits[held_out] for name, logits in scores.items()}
        for name, logs in _calibrate_and_pool(temperatures, weights, there).items():
            result[name][held_out] = logs
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
    return _calibrate_and_pool(fusion.temperatures, fusion.weights, expert_scores)


def predict_songs(
    fusion: Fusion, stores: Sequence[Store], indexes: Mapping[str, NeighbourIndex]
) -> Scores:
    """Log-probabilities (songs, singers) of each expert and of "fused" for the songs of the stores.

    Raises `UserError` if a store or index was made by another checkpoint than the fusion.
    """
    check_fusion(fusion, {s.member: s.made_from.get("checkpoint", "") for s in stores})
    evidence = gather(stores, indexes, fusion.aggregate, fusion.votes.k)
    if evidence.singers != fusion.singers:
        raise UserError(f"the fusion knows other singers than the stores; {AGAIN}")
    return all_log_probabilities(fusion, evidence.scores(fusion.votes))


def pool(
    log_probabilities: NDArray[np.floating[Any]], weights: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Log-linear pool (songs, singers) of (experts, songs, singers) with weights (experts,)."""
    # A plain sum, not BLAS, whose rounding depends on how many songs there are.
    return log_softmax((weights[:, None, None] * log_probabilities).sum(axis=0))


def fit_experts(
    scores: Mapping[str, NDArray[np.floating[Any]]],
    labels: NDArray[np.integer[Any]],
    pieces: Pieces,
) -> tuple[dict[str, float], dict[str, float]]:
    """Temperature and weight of each expert, fitted to logits (songs, singers) and known labels.

    Temperatures are fitted on songs. On pieces the experts are calibrated once more and weighed by
    `fit_weights`; what a logit counts there it counts in the pool of songs, and one factor for all
    calibrates that pool: w_e = v_e · T_e / (T'_e · T), with v_e and T'_e fitted on pieces, T on the
    pool of songs.
    """
    temperatures = {name: fit_temperature(logits, labels) for name, logits in scores.items()}
    there, shares = labels[pieces.songs], pieces.shares
    softer = {n: fit_temperature(pieces.scores[n], there, shares) for n in scores}
    calibrated = [apply_temperature(pieces.scores[name], t) for name, t in softer.items()]
    found = fit_weights(np.stack(calibrated), there, shares)
    raised = [w * temperatures[n] / softer[n] for n, w in zip(scores, found, strict=True)]
    weights = np.array(raised)
    songs = [apply_temperature(scores[name], t) for name, t in temperatures.items()]
    weights /= fit_temperature(pool(np.stack(songs), weights), labels)
    return temperatures, dict(zip(temperatures, map(float, weights), strict=True))


def fit_weights(
    log_probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    shares: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Weights (experts,) ≥ 0 that minimise Σ NLL of the pool + Σ_e (w_e − 1/E)² / (2 · WEIGHT_SD²).

    Calibrated log-probabilities (experts, pieces, singers), known labels (pieces,), and what each
    piece counts in the first sum (pieces,). The second term
    draws the weights to the plain average, so that few songs move them little and many alike
    experts share. The sum is not held at 1: experts whose errors are independent deserve a sharper
    pool than any of them. The objective is convex, so the minimum is the only one.
    """
    from scipy.optimize import minimize  # only fitting needs scipy

    experts = len(log_probabilities)
    equal, rows = 1.0 / experts, np.arange(len(labels))
    right = log_probabilities[:, rows, labels] @ shares

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logs = pool(log_probabilities, weights)
        pull = (weights - equal) / WEIGHT_SD**2
        expected = np.einsum("s,sc,esc->e", shares, np.exp(logs), log_probabilities, optimize=True)
        value = -(shares @ logs[rows, labels]) + 0.5 * float(pull @ (weights - equal))
        return float(value), expected - right + pull

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


def _calibrate_and_pool(
    temperatures: Mapping[str, float],
    weights: Mapping[str, float],
    scores: Mapping[str, NDArray[np.floating[Any]]],
) -> Scores:
    names = [name for name in temperatures if name in scores]
    result = {name: apply_temperature(scores[name], temperatures[name]) for name in names}
    shares = np.array([weights[name] for name in names])
    total = sum(weights.values())
    if shares.sum() > 0:
        shares = shares * (total / shares.sum())
    else:
        shares = np.full(len(names), total / len(names))
    result[FUSED] = pool(np.stack([result[name] for name in names]), shares)
    return result
