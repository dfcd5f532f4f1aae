"""Whether two recordings are of one singer: what a cosine between their embeddings means.

Thresholds and calibrations are fitted on the trials of validation songs (see `trials.py`): with
each other and with training songs, all of singers that the networks know. How well that works is
measured on the songs of a split: on validation songs, which they were fitted on, cross-fitted by
album; on test songs nothing was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import Artifact
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.store import AGAIN, Store
from embedder.statistics import Estimate
from ensemble.fusion.cross_validation import album_folds
from ensemble.verification.error_rates import (
    Measure,
    cllr_measure,
    eer_measure,
    eer_threshold,
    min_dcf_measure,
    over_albums,
    share_measure,
)
from ensemble.verification.trials import Trials, member_cosines, trials_of

EVERY_SUBSET = 6  # members of which each set is calibrated; of more, all together and each alone
SLOPE_SD = 10.0  # of the prior of the slope, per standard deviation of the cosines

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Calibration:
    """What the mean cosine of some members means."""

    members: tuple[str, ...]
    slope: float  # 0 or more
    offset: float
    threshold: float  # cosine at which both error rates were equal; from there on, one singer

    @classmethod
    def fit(
        cls, cosines: Floats, target: NDArray[np.bool_], songs: int, members: Sequence[str] = ()
    ) -> Calibration:
        """Fit line and threshold to cosines (trials,) of both kinds.

        Prior-weighted logistic regression with equal priors: target and non-target trials weigh the
        same in sum, however many there are of each, so the line gives log-likelihood ratios. Trials
        share songs and are not independent: all together count as much as there are evaluated
        `songs`. A wide normal prior keeps the slope finite where the two kinds do not overlap. If
        more alike songs are not likelier of one singer, the line is 0 everywhere: the cosine says
        nothing.

        Source: Brümmer & du Preez, Computer Speech & Language 2006.
        """
        from sklearn.linear_model import LogisticRegression  # only fitting needs scikit-learn

        slope = offset = 0.0
        centre, spread = float(cosines.mean()), float(cosines.std())
        if spread > 0:
            shares = np.where(target, 1.0 / target.sum(), 1.0 / (~target).sum())
            strength = SLOPE_SD**2
            model = LogisticRegression(
                C=strength, solver="newton-cholesky", tol=1e-8, max_iter=1000
            )
            standard = ((cosines - centre) / spread)[:, None]
            model.fit(standard, target, sample_weight=shares * songs / 2)
            rise = float(model.coef_[0, 0]) / spread
            if rise > 0:
                slope, offset = rise, float(model.intercept_[0]) - rise * centre
        return cls(tuple(members), slope, offset, eer_threshold(cosines, target))

    def log_odds(self, cosines: Floats) -> NDArray[np.float64]:
        """Log-likelihood ratios (trials,) of cosines (trials,): log-odds where the prior is 1:1."""
        return self.slope * cosines.astype(np.float64) + self.offset

    def probability(self, cosine: float) -> float:
        """That one singer sings both, if that was as likely as not beforehand."""
        return float(np.exp(-np.logaddexp(0.0, -self.log_odds(np.array([cosine])))[0]))


@dataclass(frozen=True)
class Verification:
    """All that is fitted to tell whether two recordings are of one singer."""

    made_from: dict[str, str]  # member → hash of its checkpoint
    listening: InferenceConfig  # how its songs were embedded, and new ones must be
    songs: int  # validation songs that it was fitted on
    targets: int  # their trials of one singer
    non_targets: int
    calibrations: tuple[Calibration, ...]  # one for each set of members that may be asked
    problem: str = ""  # why nothing could be fitted; empty if it could
    fusion: str = ""  # id of the one that was fitted with it

    def of(self, members: Sequence[str]) -> Calibration:
        """The calibration of these members' mean cosine; `UserError` if there is none."""
        if self.problem:
            raise UserError(
                f"this run cannot verify singers: {self.problem}; prepare it with more albums of "
                "each singer"
            )
        for calibration in self.calibrations:
            if set(calibration.members) == set(members):
                return calibration
        raise UserError(
            f"nothing was fitted for the members {', '.join(members)} together; choose all with "
            f"--members {','.join(self.made_from)}, or one of them"
        )


VERIFICATION = Artifact("verification", 1, Verification, AGAIN)


def fit_verification(
    train_stores: Sequence[Store],
    validation_stores: Sequence[Store],
    inference: InferenceConfig | None = None,
) -> Verification:
    """Fit thresholds and calibrations on all trials of the validation songs.

    One train and one validation store for each member. Where the songs make no trials of both
    kinds the result has no calibration and says why. Raises `UserError` if the stores do not fit
    together.
    """
    trials = trials_of(train_stores[0], validation_stores[0])
    cosines = member_cosines(trials, train_stores, validation_stores)
    problem, songs = trials.problem(), len(trials.albums)
    chosen = [] if problem else subsets(list(cosines))
    return Verification(
        made_from={s.member: s.made_from.get("checkpoint", "") for s in validation_stores},
        listening=inference or InferenceConfig(),
        songs=songs,
        targets=int(trials.target.sum()),
        non_targets=int((~trials.target).sum()),
        calibrations=tuple(
            Calibration.fit(mean_cosine(cosines, members), trials.target, songs, members)
            for members in chosen
        ),
        problem=problem,
    )


def subsets(members: Sequence[str]) -> list[tuple[str, ...]]:
    """The sets of members that may be asked, since some may be unable to embed a file."""
    sizes = range(1, len(members) + 1) if len(members) <= EVERY_SUBSET else (1, len(members))
    return [chosen for size in sizes for chosen in combinations(members, size)]


def mean_cosine(cosines: Mapping[str, Floats], members: Sequence[str]) -> NDArray[np.float64]:
    """Mean over some members of the cosines (trials,) of each."""
    mean: NDArray[np.float64] = np.mean([cosines[member] for member in members], axis=0)
    return mean


def check_verification(verification: Verification, fusion: str) -> None:
    """Raise `UserError` unless it was fitted with the fusion of this id."""
    if verification.fusion != fusion:
        raise UserError(f"the verification belongs to another fusion than is used here; {AGAIN}")


# Measuring ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecisionErrors:
    """What depends on a fitted threshold and calibration."""

    cross_fitted: bool  # fitted on other albums of the same split
    trials: int
    miss: Estimate  # share of target trials below the threshold
    false_alarm: Estimate  # share of non-target trials from it on
    cllr: Estimate


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
    judged: DecisionErrors | None  # None where there are too few albums to cross-fit by


def measure_verification(
    train_stores: Sequence[Store],
    stores: Sequence[Store],
    fitted: Calibration | None,
    seed: int = 0,
) -> VerificationResult | str:
    """Measure the mean cosine of the stores' members on the trials of the stores' songs.

    `fitted` judges the trials; without it they are judged cross-fitted by album. Returns a sentence
    instead where the songs make no trials of both kinds. `seed` draws folds and resamples.
    """
    trials = trials_of(train_stores[0], stores[0])
    if problem := trials.problem():
        return problem
    cosines = member_cosines(trials, train_stores, stores)
    scores, target = mean_cosine(cosines, list(cosines)), trials.target

    def counted(chosen: NDArray[np.bool_]) -> tuple[int, int]:
        return int((chosen & target).sum()), int((chosen & ~target).sum())

    def interval(measure: Measure, most: float = 1.0) -> Estimate:
        return over_albums(measure, trials.album_pairs, seed, most)

    decisions = (
        (fitted.log_odds(scores), scores >= fitted.threshold)
        if fitted
        else cross_fitted_trials(trials, scores, seed)
    )
    judged = None
    if decisions:
        log_odds, accepted = decisions
        judged = DecisionErrors(
            cross_fitted=fitted is None,
            trials=len(target),
            miss=interval(share_measure(~accepted, target)),
            false_alarm=interval(share_measure(accepted, ~target)),
            cllr=interval(cllr_measure(log_odds, target), np.inf),
        )
    return VerificationResult(
        split=stores[0].split,
        songs=len(trials.albums),
        albums=len(set(trials.albums.tolist())),
        with_training=counted(trials.trained),
        among_themselves=counted(~trials.trained),
        eer=interval(eer_measure(scores, target)),
        min_dcf=interval(min_dcf_measure(scores, target)),
        judged=judged,
    )


def cross_fitted_trials(
    trials: Trials, scores: Floats, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """Log-likelihood ratios and decisions (trials,), fitted on other albums than either song's.

    The evaluated songs' albums are cut into 5 folds (as many as there are albums, if fewer). What
    judges the trials between two folds is fitted on the trials of the others: neither of its songs
    is in any of them. None where a fit would lack trials of both kinds.
    """
    if len(np.unique(trials.albums)) < 3:
        return None
    fold = album_folds(trials.albums.tolist(), seed)
    first = fold[trials.evaluated]
    second = first.copy()
    second[~trials.trained] = fold[trials.other[~trials.trained]]
    pairs = np.sort(np.stack([first, second], axis=1), axis=1)
    log_odds, accepted = np.zeros(len(scores)), np.zeros(len(scores), dtype=np.bool_)
    for pair in np.unique(pairs, axis=0):
        judged = (pairs == pair).all(axis=1)
        others = ~np.isin(pairs, pair).any(axis=1)
        kinds = trials.target[others]
        if kinds.all() or not kinds.any():
            return None
        songs = int((~np.isin(fold, pair)).sum())
        calibration = Calibration.fit(scores[others], kinds, songs)
        log_odds[judged] = calibration.log_odds(scores[judged])
        accepted[judged] = scores[judged] >= calibration.threshold
    return log_odds, accepted
