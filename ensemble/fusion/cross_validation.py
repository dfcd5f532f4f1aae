"""Fitting experts and fusers on some albums, and trying them on the others.

What is reported of a song comes from what was fitted on other albums. The choice between fusers is
part of the fitting: for each fold the other folds choose, among themselves. A default stands unless
another is clearly better, because a hundred songs of twenty albums cannot tell two dozen candidates
apart (the one-standard-error rule, Breiman et al. 1984, 3.4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.metrics import song_nll
from ensemble.fusion.calibration import LIMITS, PRIOR_SD, TemperatureScaling, log_softmax
from ensemble.fusion.experts import NO_VOTES, ExpertScores, Raw, candidates, raw_logits
from ensemble.fusion.fusers import FUSERS, FitData, Fuser
from ensemble.fusion.knn import Votes

FOLDS = 5
DEFAULT = "log_linear"  # the fuser that stands unless another is clearly better
ERRORS = 2.0  # standard errors; at one, a single song that others get wrong chooses the fuser
STEPS = 33  # temperatures that are tried for each candidate

Logs = NDArray[np.float64]
Songs = NDArray[np.int64]
Methods = Sequence[str]  # keys of `FUSERS`


@dataclass(frozen=True, eq=False)
class ValidationData:
    """All that can be fitted on, and what was computed of it so far."""

    songs: ExpertScores
    chunks: ExpertScores  # the same experts on chunks of the songs
    owners: Songs  # (chunks,), ascending: the song that each is from
    score_norm: str = "none"
    computed: dict[Any, Logs] = field(default_factory=dict)

    def logits(self, expert: str, votes: Votes, chunks: bool = False) -> Logs:
        """Uncalibrated logits of all songs, or chunks, (rows, singers)."""
        key = (expert, votes, chunks)
        if key not in self.computed:
            scores = self.chunks if chunks else self.songs
            self.computed[key] = scores.logits(expert, votes)
        return self.computed[key]

    def losses(self, expert: str) -> Logs:
        """The expert's `vote_losses` by its candidates."""
        if expert not in self.computed:
            scores, grid = self.songs, candidates(expert, self.score_norm)
            self.computed[expert] = vote_losses(
                scores.raw[expert], scores.labels, len(scores.singers), grid
            )
        return self.computed[expert]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What some of the songs say about the experts and the fusers."""

    votes: dict[str, Votes]
    temperatures: dict[str, float]
    fusers: dict[str, Fuser]


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Log-probabilities (songs, singers) of songs by what was fitted on other albums."""

    experts: dict[str, Logs]
    methods: dict[str, Logs]
    plain: dict[str, Logs]  # the experts' at temperature 1, their votes cross-fitted alike
    fused: Logs  # of the method that the other folds chose
    choices: tuple[str, ...]  # that method, fold by fold
    method: str  # the one that all songs choose
    fitted: Fitted  # on all songs; of the fusers, that one


def album_folds(albums: Sequence[str] | Sequence[int], seed: int) -> Songs:
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


def cross_fit(data: ValidationData, methods: Methods, seed: int = 0) -> CrossFit:
    """Fit on all songs but each fold's, and on all; `methods` are those that are compared.

    On all songs only the method that they choose is fitted.
    """
    scores = data.songs
    folds = album_folds(scores.albums, seed)
    count = int(folds.max()) + 1
    shape = (len(folds), len(scores.singers))
    experts = {name: np.zeros(shape) for name in scores.experts}
    plain = {name: np.zeros(shape) for name in scores.experts}
    by_method = {name: np.zeros(shape) for name in methods}
    for number in range(count):
        held = np.flatnonzero(folds == number)
        found = fit(data, np.flatnonzero(folds != number), folds, methods)
        logs = calibrated(data, found, held)
        for name, values in logs.items():
            experts[name][held] = values
            plain[name][held] = log_softmax(data.logits(name, found.votes[name])[held])
        for name, fuser in found.fusers.items():
            by_method[name][held] = fuser.log_probabilities(logs)
    chosen = _choices(data, folds, methods)
    combined = np.zeros(shape)
    for number in range(count):
        held = folds == number
        combined[held] = by_method[chosen[number]][held]
    losses = np.array([song_nll(scores.labels, logs) for logs in by_method.values()])
    best = choose_method(methods, losses, scores.albums)
    everything = fit(data, np.arange(len(folds)), folds, (best,))
    return CrossFit(experts, by_method, plain, combined, tuple(chosen), best, everything)


def fit(data: ValidationData, songs: Songs, folds: Songs, methods: Methods) -> Fitted:
    """Votes, temperatures and fusers of some songs (ascending); `folds` (all songs,)."""
    scores = data.songs
    labels, kept = scores.labels[songs], np.isin(data.owners, songs)
    owners = data.owners[kept]
    chunk_labels, shares = scores.labels[owners], 1.0 / np.bincount(owners)[owners]
    votes = {name: _votes(data, name, songs, folds) for name in scores.experts}
    on_songs, on_chunks, logs, chunk_logs = [], [], [], []
    for name in scores.experts:
        whole = data.logits(name, votes[name])[songs]
        parts = data.logits(name, votes[name], chunks=True)[kept]
        on_songs.append(TemperatureScaling.fit(whole, labels))
        on_chunks.append(TemperatureScaling.fit(parts, chunk_labels, shares))
        logs.append(on_songs[-1].log_probabilities(whole))
        chunk_logs.append(on_chunks[-1].log_probabilities(parts))
    temperatures = [scaling.temperature for scaling in on_songs]
    fit_data = FitData(
        experts=scores.experts,
        logs=np.stack(logs),
        labels=labels,
        chunk_logs=np.stack(chunk_logs),
        chunk_labels=chunk_labels,
        shares=shares,
        temperature_ratio=np.array(temperatures)
        / np.array([scaling.temperature for scaling in on_chunks]),
    )
    fusers = {name: FUSERS[name].fit(fit_data) for name in methods}
    return Fitted(votes, dict(zip(scores.experts, temperatures, strict=True)), fusers)


def calibrated(data: ValidationData, fitted: Fitted, songs: Songs) -> dict[str, Logs]:
    """Log-probabilities (songs, singers) of each expert for some of the songs."""
    return {
        name: TemperatureScaling(temperature).log_probabilities(
            data.logits(name, fitted.votes[name])[songs]
        )
        for name, temperature in fitted.temperatures.items()
    }


def _choices(data: ValidationData, folds: Songs, methods: Methods) -> list[str]:
    """For each fold the method of the lowest NLL on the other folds, each fitted on the rest."""
    count = int(folds.max()) + 1
    if len(methods) == 1 or count < 3:  # with two folds, nothing would be left to fit on
        return [DEFAULT if DEFAULT in methods else methods[0]] * count
    labels = data.songs.labels
    held_out = np.zeros((count, len(methods), len(folds)))
    for first, second in combinations(range(count), 2):
        rest = np.flatnonzero((folds != first) & (folds != second))
        found = fit(data, rest, folds, methods)
        for left, held in ((first, second), (second, first)):
            songs = np.flatnonzero(folds == held)
            logs = calibrated(data, found, songs)
            for row, fuser in enumerate(found.fusers.values()):
                held_out[left, row, songs] = song_nll(labels[songs], fuser.log_probabilities(logs))
    albums = np.array(data.songs.albums)
    return [
        choose_method(methods, held_out[left][:, folds != left], albums[folds != left].tolist())
        for left in range(count)
    ]


def choose_method(methods: Methods, held_out: Logs, albums: Sequence[str]) -> str:
    """The method of the lowest NLL (methods, songs), or `DEFAULT` if it is not clearly worse."""
    if DEFAULT not in methods:
        return methods[int(held_out.mean(axis=1).argmin())]
    return methods[clearly_best(held_out, albums, methods.index(DEFAULT), ERRORS)]


def _votes(data: ValidationData, expert: str, songs: Songs, folds: Songs) -> Votes:
    grid = candidates(expert, data.score_norm)
    parts = [np.flatnonzero(folds[songs] == number) for number in np.unique(folds[songs])]
    if len(grid) == 1 or len(parts) < 2:
        return grid[0] if grid else NO_VOTES
    table = data.losses(expert)[:, :, songs]
    return choose_votes(table, [data.songs.albums[song] for song in songs], grid, parts)


def vote_losses(
    raw: Raw, labels: NDArray[np.integer[Any]], singers: int, grid: Sequence[Votes]
) -> Logs:
    """NLL (candidates, STEPS, songs) of each labelled song at each of `temperatures()`, in nats."""
    rows = np.arange(len(labels))
    return np.array(
        [
            [
                -TemperatureScaling(float(t)).log_probabilities(logits)[rows, labels]
                for t in temperatures()
            ]
            for logits in (raw_logits(raw, singers, votes) for votes in grid)
        ]
    )


def temperatures() -> Logs:
    """The temperatures at which candidate votes are compared (STEPS,)."""
    return np.geomspace(*LIMITS, STEPS)


def choose_votes(
    table: Logs, albums: Sequence[str], grid: Sequence[Votes], folds: Sequence[Songs]
) -> Votes:
    """The votes of the lowest cross-validated NLL, or the first if none is clearly better than it.

    `table` (candidates, STEPS, songs) as `vote_losses` gives it; `albums` of its songs;
    `folds`: the songs that are held out each time, for which the temperature is fitted on the
    others.
    """
    return grid[clearly_best(held_out_losses(table, folds), albums)]


def held_out_losses(table: Logs, folds: Sequence[Songs]) -> Logs:
    """NLL (candidates, songs) of each song, at the temperature that suits the other folds best."""
    prior = np.log(temperatures()) ** 2 / (2 * PRIOR_SD**2)
    result = np.zeros((len(table), table.shape[2]))
    for fold in folds:
        rest = np.setdiff1d(np.arange(table.shape[2]), fold)
        best = (table[:, :, rest].sum(axis=2) + prior).argmin(axis=1)
        result[:, fold] = table[np.arange(len(table)), best][:, fold]
    return result


def clearly_best(held: Logs, albums: Sequence[str], default: int = 0, errors: float = 1.0) -> int:
    """The candidate of the lowest mean loss, or the default if it is not clearly better than that.

    `held` (candidates, songs): losses of held-out songs; `albums` of the songs. Clearly: by more
    than `errors` standard errors of the mean difference, with albums for independent draws.
    """
    best = int(held.mean(axis=1).argmin())
    better = held[default] - held[best]
    names, place = np.unique(np.asarray(albums), return_inverse=True)
    if len(names) < 2:
        return default
    apart = np.bincount(place, better) - better.mean() * np.bincount(place)
    spread = np.std(apart, ddof=1) * np.sqrt(len(names))
    return best if better.sum() > errors * spread else default
