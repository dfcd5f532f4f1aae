"""Fitting experts and methods on some albums, and trying them on the others.

Enters: `Validation`, the evidence of labelled songs and of pieces of them. Leaves: what is fitted
on all of them, and log-probabilities of each song by what was fitted on other albums. The choice
between methods is part of the fitting: for each fold the other folds choose, among themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.metrics import song_nll
from ensemble.fusion.calibration import apply_temperature, fit_temperature, log_softmax
from ensemble.fusion.experts import NO_VOTES, Evidence, candidates
from ensemble.fusion.fusers import FUSIONS, Material, Pooling, fused
from ensemble.fusion.knn import Votes
from ensemble.fusion.tuning import choose_votes, clearly_best, losses

FOLDS = 5
DEFAULT = "log_linear"  # the method that stands unless another is clearly better
ERRORS = 2.0  # standard errors; at one, a single song that others get wrong chooses the method

Logs = NDArray[np.float64]
Songs = NDArray[np.int64]
Methods = Sequence[str]  # keys of `FUSIONS`


@dataclass(frozen=True, eq=False)
class Validation:
    """All that can be fitted on, and what was computed of it so far."""

    songs: Evidence
    pieces: Evidence  # the same experts on pieces of the songs
    owners: Songs  # (pieces,), ascending: the song that each is from
    score_norm: str = "none"
    known: dict[Any, Logs] = field(default_factory=dict)

    def logits(self, expert: str, votes: Votes, pieces: bool = False) -> Logs:
        """Uncalibrated logits of all songs, or pieces, (rows, singers)."""
        key = (expert, votes, pieces)
        if key not in self.known:
            evidence = self.pieces if pieces else self.songs
            self.known[key] = evidence.logits(expert, votes)
        return self.known[key]

    def losses(self, expert: str) -> Logs:
        """What `tuning.losses` says of the expert's candidates."""
        if expert not in self.known:
            grid = candidates(expert, self.score_norm)
            evidence = self.songs
            self.known[expert] = losses(
                evidence.raw[expert], evidence.labels, len(evidence.singers), grid
            )
        return self.known[expert]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What some of the songs say about the experts and the methods."""

    votes: dict[str, Votes]
    temperatures: dict[str, float]
    poolings: dict[str, Pooling]


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Log-probabilities (songs, singers) of songs by what was fitted on other albums."""

    experts: dict[str, Logs]
    methods: dict[str, Logs]
    plain: dict[str, Logs]  # the experts' at temperature 1, their votes cross-fitted alike
    fused: Logs  # of the method that the other folds chose
    choices: tuple[str, ...]  # that method, fold by fold
    method: str  # the one that all songs choose
    fitted: Fitted  # on all songs


def album_folds(albums: Sequence[str], seed: int) -> Songs:
    """The fold (songs,) of each song; an album's songs share theirs. `UserError` with one album."""
    from sklearn.model_selection import GroupKFold  # only fitting needs scikit-learn

    different = len(set(albums))
    if different < 2:
        raise UserError(
            f"the validation songs come from {different} album; fusion needs two or more albums to "
            "report numbers that were not fitted on the same songs"
        )
    folds = GroupKFold(min(FOLDS, different), shuffle=True, random_state=seed)
    result = np.zeros(len(albums), dtype=np.int64)
    for number, (_, held_out) in enumerate(folds.split(result, groups=list(albums))):
        result[held_out] = number
    return result


def cross_fit(validation: Validation, methods: Methods, seed: int = 0) -> CrossFit:
    """Fit on all songs but each fold's, and on all; `methods` are those that are compared."""
    evidence = validation.songs
    folds = album_folds(evidence.albums, seed)
    count = int(folds.max()) + 1
    shape = (len(folds), len(evidence.singers))
    experts = {name: np.zeros(shape) for name in evidence.experts}
    plain = {name: np.zeros(shape) for name in evidence.experts}
    by_method = {name: np.zeros(shape) for name in methods}
    for number in range(count):
        held = np.flatnonzero(folds == number)
        found = fit(validation, np.flatnonzero(folds != number), folds, methods)
        logs = calibrated(validation, found, held)
        for name, values in logs.items():
            experts[name][held] = values
            plain[name][held] = log_softmax(validation.logits(name, found.votes[name])[held])
        for name, pooling in found.poolings.items():
            by_method[name][held] = fused(pooling, logs)
    chosen = _choices(validation, folds, methods)
    combined = np.zeros(shape)
    for number in range(count):
        held = folds == number
        combined[held] = by_method[chosen[number]][held]
    losses_of = np.array([song_nll(evidence.labels, logs) for logs in by_method.values()])
    best = choose_method(methods, losses_of, evidence.albums)
    everything = fit(validation, np.arange(len(folds)), folds, methods)
    return CrossFit(experts, by_method, plain, combined, tuple(chosen), best, everything)


def fit(validation: Validation, songs: Songs, folds: Songs, methods: Methods) -> Fitted:
    """Votes, temperatures and methods of some songs (ascending); `folds` (all songs,)."""
    evidence = validation.songs
    labels, kept = evidence.labels[songs], np.isin(validation.owners, songs)
    owners = validation.owners[kept]
    there, shares = evidence.labels[owners], 1.0 / np.bincount(owners)[owners]
    votes = {name: _votes(validation, name, songs, folds) for name in evidence.experts}
    temperatures, softer, logs, piece_logs = {}, [], [], []
    for name in evidence.experts:
        whole = validation.logits(name, votes[name])[songs]
        parts = validation.logits(name, votes[name], pieces=True)[kept]
        temperatures[name] = fit_temperature(whole, labels)
        softer.append(fit_temperature(parts, there, shares))
        logs.append(apply_temperature(whole, temperatures[name]))
        piece_logs.append(apply_temperature(parts, softer[-1]))
    material = Material(
        experts=evidence.experts,
        logs=np.stack(logs),
        labels=labels,
        piece_logs=np.stack(piece_logs),
        piece_labels=there,
        shares=shares,
        sharper=np.array(list(temperatures.values())) / np.array(softer),
    )
    return Fitted(votes, temperatures, {name: FUSIONS[name](material) for name in methods})


def calibrated(validation: Validation, fitted: Fitted, songs: Songs) -> dict[str, Logs]:
    """Log-probabilities (songs, singers) of each expert for some of the songs."""
    return {
        name: apply_temperature(validation.logits(name, fitted.votes[name])[songs], temperature)
        for name, temperature in fitted.temperatures.items()
    }


def _votes(validation: Validation, expert: str, songs: Songs, folds: Songs) -> Votes:
    grid = candidates(expert, validation.score_norm)
    parts = [np.flatnonzero(folds[songs] == number) for number in np.unique(folds[songs])]
    if len(grid) == 1 or len(parts) < 2:
        return grid[0] if grid else NO_VOTES
    table = validation.losses(expert)[:, :, songs]
    albums = [validation.songs.albums[song] for song in songs]
    return choose_votes(table, albums, grid, parts)


def _choices(validation: Validation, folds: Songs, methods: Methods) -> list[str]:
    """For each fold the method of the lowest NLL on the other folds, each fitted on the rest."""
    count = int(folds.max()) + 1
    if len(methods) == 1 or count < 3:  # with two folds, nothing would be left to fit on
        return [DEFAULT if DEFAULT in methods else methods[0]] * count
    labels = validation.songs.labels
    held_out = np.zeros((count, len(methods), len(folds)))
    for first, second in _pairs(count):
        rest = np.flatnonzero((folds != first) & (folds != second))
        found = fit(validation, rest, folds, methods)
        for left, held in ((first, second), (second, first)):
            songs = np.flatnonzero(folds == held)
            logs = calibrated(validation, found, songs)
            for row, pooling in enumerate(found.poolings.values()):
                held_out[left, row, songs] = song_nll(labels[songs], fused(pooling, logs))
    albums = np.array(validation.songs.albums)
    return [
        choose_method(methods, held_out[left][:, folds != left], albums[folds != left].tolist())
        for left in range(count)
    ]


def choose_method(methods: Methods, held_out: Logs, albums: Sequence[str]) -> str:
    """The method of the lowest NLL (methods, songs), or `DEFAULT` if it is not clearly worse."""
    if DEFAULT not in methods:
        return methods[int(held_out.mean(axis=1).argmin())]
    return methods[clearly_best(held_out, albums, methods.index(DEFAULT), ERRORS)]


def _pairs(count: int) -> Iterable[tuple[int, int]]:
    return ((first, second) for first in range(count) for second in range(first + 1, count))
