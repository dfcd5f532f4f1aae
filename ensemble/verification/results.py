"""How well a verification tells singers apart on the songs of one split.

Enters: the members' stores, and the fitted `Verification`. Leaves: `VerificationResult` with
intervals. On validation songs, which the thresholds and calibrations were fitted on, what depends
on those is cross-fitted by album; on test songs nothing was fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store
from embedder.statistics import Estimate
from ensemble.verification.error_rates import (
    Measure,
    cllr_measure,
    eer_measure,
    min_dcf_measure,
    over_albums,
    share_measure,
)
from ensemble.verification.trials import Trials, member_cosines, trials_of
from ensemble.verification.verification import Calibration, fit_calibration, mean_cosine

FOLDS = 5


@dataclass(frozen=True)
class VerificationResult:
    """What was measured on the trials of one split's songs."""

    split: str
    songs: int
    albums: int
    with_training: tuple[int, int]  # target and non-target trials with training songs
    among_themselves: tuple[int, int]  # the same, between two songs of the split
    eer: Estimate
    min_dcf: Estimate
    judged: Judged | None  # None where there are too few albums to cross-fit by


@dataclass(frozen=True)
class Judged:
    """What depends on a fitted threshold and calibration."""

    cross_fitted: bool  # fitted on other albums of the same split
    trials: int
    miss: Estimate  # share of target trials below the threshold
    false_alarm: Estimate  # share of non-target trials from it on
    cllr: Estimate


def measure_verification(
    train_stores: Sequence[Store],
    stores: Sequence[Store],
    fitted: Calibration | None,
    seed: int = 0,
) -> VerificationResult | str:
    """Measure the mean cosine of the stores' members on the trials of the stores' songs.

    `fitted` judges the trials; without it they are judged cross-fitted by album. Leaves a sentence
    instead where the songs make no trials of both kinds. `seed` draws folds and resamples.
    """
    trials = trials_of(train_stores[0], stores[0])
    if problem := trials.problem():
        return problem
    cosines = member_cosines(trials, train_stores, stores)
    scores = mean_cosine(cosines, list(cosines))
    pairs, target = trials.album_pairs, trials.target

    def counted(chosen: NDArray[np.bool_]) -> tuple[int, int]:
        return int((chosen & target).sum()), int((chosen & ~target).sum())

    return VerificationResult(
        split=stores[0].split,
        songs=len(trials.albums),
        albums=len(set(trials.albums.tolist())),
        with_training=counted(trials.trained),
        among_themselves=counted(~trials.trained),
        eer=over_albums(eer_measure(scores, target), pairs, seed),
        min_dcf=over_albums(min_dcf_measure(scores, target), pairs, seed),
        judged=_judged(trials, scores, fitted, seed),
    )


def _judged(
    trials: Trials, scores: NDArray[np.float64], fitted: Calibration | None, seed: int
) -> Judged | None:
    if fitted:
        log_odds, accepted = fitted.log_odds(scores), scores >= fitted.threshold
    elif found := cross_fitted(trials, scores, seed):
        log_odds, accepted = found
    else:
        return None

    def interval(measure: Measure, most: float = 1.0) -> Estimate:
        return over_albums(measure, trials.album_pairs, seed, most)

    target = trials.target
    return Judged(
        cross_fitted=fitted is None,
        trials=len(target),
        miss=interval(share_measure(~accepted, target)),
        false_alarm=interval(share_measure(accepted, ~target)),
        cllr=interval(cllr_measure(log_odds, target), np.inf),
    )


def cross_fitted(
    trials: Trials, scores: NDArray[np.floating[Any]], seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """Log-likelihood ratios and decisions (trials,), fitted on other albums than either song's.

    The evaluated songs' albums are cut into 5 folds (as many as there are albums, if fewer). What
    judges the trials between two folds is fitted on the trials of the others: neither of its songs
    is in any of them. None where a fit would lack trials of both kinds.
    """
    from sklearn.model_selection import GroupKFold  # only fitting needs scikit-learn

    albums = int(trials.albums.max()) + 1
    if albums < 3:
        return None
    fold = np.zeros(len(trials.albums), dtype=np.int64)
    folds = GroupKFold(min(FOLDS, albums), shuffle=True, random_state=seed)
    for number, (_, held) in enumerate(folds.split(fold, groups=trials.albums)):
        fold[held] = number
    first = fold[trials.evaluated]
    second = first.copy()
    second[~trials.trained] = fold[trials.other[~trials.trained]]
    pairs = np.sort(np.stack([first, second], axis=1), axis=1)
    log_odds, accepted = np.zeros(len(scores)), np.zeros(len(scores), dtype=np.bool_)
    for pair in np.unique(pairs, axis=0):
        there = (pairs == pair).all(axis=1)
        others = ~np.isin(pairs, pair).any(axis=1)
        kinds = trials.target[others]
        if kinds.all() or not kinds.any():
            return None
        songs = int((~np.isin(fold, pair)).sum())
        calibration = fit_calibration(scores[others], kinds, songs)
        log_odds[there] = calibration.log_odds(scores[there])
        accepted[there] = scores[there] >= calibration.threshold
    return log_odds, accepted
