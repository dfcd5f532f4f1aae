"""How neighbours vote, chosen by cross-validation: k and tau of each expert of neighbours.

Enters: an expert's neighbours of labelled songs. Leaves: `Votes`. The default of the grid stands
unless another does better by more than one standard error, because a hundred songs of twenty albums
cannot tell two dozen candidates apart (the one-standard-error rule, Breiman et al. 1984, 3.4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.fusion.calibration import LIMITS, PRIOR_SD, apply_temperature
from ensemble.fusion.experts import Raw, raw_logits
from ensemble.fusion.knn import Votes

STEPS = 33  # temperatures that are tried for each candidate
Logs = NDArray[np.float64]


def temperatures() -> Logs:
    """The temperatures at which candidates are compared (STEPS,)."""
    return np.geomspace(*LIMITS, STEPS)


def losses(raw: Raw, labels: NDArray[np.integer[Any]], singers: int, grid: Sequence[Votes]) -> Logs:
    """NLL (candidates, STEPS, songs) of each labelled song at each temperature, in nats."""
    rows = np.arange(len(labels))
    return np.array(
        [
            [-apply_temperature(logits, t)[rows, labels] for t in temperatures()]
            for logits in (raw_logits(raw, singers, votes) for votes in grid)
        ]
    )


def choose_votes(
    table: Logs, albums: Sequence[str], grid: Sequence[Votes], folds: Sequence[NDArray[np.int64]]
) -> Votes:
    """The votes of the lowest cross-validated NLL, or the first if none is clearly better than it.

    `table` (candidates, STEPS, songs) as `losses` gives it; `albums` of its songs; `folds`: the
    songs that are held out each time, for which the temperature is fitted on the others.
    """
    return grid[clearly_best(held_out_losses(table, folds), albums)]


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


def held_out_losses(table: Logs, folds: Sequence[NDArray[np.int64]]) -> Logs:
    """NLL (candidates, songs) of each song, at the temperature that suits the other folds best."""
    prior = np.log(temperatures()) ** 2 / (2 * PRIOR_SD**2)
    result = np.zeros((len(table), table.shape[2]))
    for fold in folds:
        rest = np.setdiff1d(np.arange(table.shape[2]), fold)
        best = (table[:, :, rest].sum(axis=2) + prior).argmin(axis=1)
        result[:, fold] = table[np.arange(len(table)), best][:, fold]
    return result
