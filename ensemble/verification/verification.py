"""Whether two recordings are of one singer: what a cosine between their embeddings means.

Enters: the members' train and validation stores. Leaves: `Verification`, for each set of members
that may be asked a threshold and a line from cosine to log-likelihood ratio; and
`verification.json`. It is fitted on the trials of validation songs (see `trials.py`): with
each other and with training songs, all of singers that the networks know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import read_json, write_json
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.store import AGAIN, Store
from ensemble.verification.error_rates import eer_threshold
from ensemble.verification.trials import member_cosines, trials_of

VERIFICATION_FORMAT = 1
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
    listening: InferenceConfig  # how its songs were heard, and new ones must be
    songs: int  # validation songs that it was fitted on
    targets: int  # their trials of one singer
    non_targets: int
    calibrations: tuple[Calibration, ...]  # one for each set of members that may be asked
    problem: str = ""  # why nothing could be fitted; empty if it could
    fusion: str = ""  # id of the one that was fitted beside it

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


def fit_verification(
    train_stores: Sequence[Store],
    validation_stores: Sequence[Store],
    listening: InferenceConfig | None = None,
) -> Verification:
    """Fit thresholds and calibrations on all trials of the validation songs.

    One train and one validation store for each member. Where the songs make no trials of both
    kinds the result has no calibration and says why. Raises `UserError` if the stores do not fit
    together.
    """
    trials = trials_of(train_stores[0], validation_stores[0])
    cosines = member_cosines(trials, train_stores, validation_stores)
    problem = trials.problem()
    songs = len(trials.albums)
    chosen = [] if problem else subsets(list(cosines))
    return Verification(
        made_from={s.member: s.made_from.get("checkpoint", "") for s in validation_stores},
        listening=listening or InferenceConfig(),
        songs=songs,
        targets=int(trials.target.sum()),
        non_targets=int((~trials.target).sum()),
        calibrations=tuple(
            fit_calibration(mean_cosine(cosines, members), trials.target, songs, members)
            for members in chosen
        ),
        problem=problem,
    )


def subsets(members: Sequence[str]) -> list[tuple[str, ...]]:
    """The sets of members that may be asked, since some may be unable to hear a file."""
    sizes = range(1, len(members) + 1) if len(members) <= EVERY_SUBSET else (1, len(members))
    return [chosen for size in sizes for chosen in combinations(members, size)]


def mean_cosine(cosines: Mapping[str, Floats], members: Sequence[str]) -> NDArray[np.float64]:
    """Mean over some members of the cosines (trials,) of each."""
    mean: NDArray[np.float64] = np.mean([cosines[member] for member in members], axis=0)
    return mean


def fit_calibration(
    cosines: Floats, target: NDArray[np.bool_], songs: int, members: Sequence[str] = ()
) -> Calibration:
    """Line and threshold fitted to cosines (trials,) of both kinds.

    Prior-weighted logistic regression (Brümmer & du Preez, Computer Speech & Language 2006) with
    equal priors: target and non-target trials weigh the same in sum, however many there are of
    each, so the line gives log-likelihood ratios. Trials share songs and are not independent: all
    together count as much as there are evaluated `songs`. A wide normal prior keeps the slope
    finite where the two kinds do not overlap. If more alike songs are not likelier of one singer,
    the line is 0 everywhere: the cosine says nothing.
    """
    from sklearn.linear_model import LogisticRegression  # only fitting needs scikit-learn

    slope = offset = 0.0
    centre, spread = float(cosines.mean()), float(cosines.std())
    if spread > 0:
        shares = np.where(target, 1.0 / target.sum(), 1.0 / (~target).sum())
        model = LogisticRegression(C=SLOPE_SD**2, solver="newton-cholesky", tol=1e-8, max_iter=1000)
        standard = ((cosines - centre) / spread)[:, None]
        model.fit(standard, target, sample_weight=shares * songs / 2)
        rise = float(model.coef_[0, 0]) / spread
        if rise > 0:
            slope, offset = rise, float(model.intercept_[0]) - rise * centre
    return Calibration(tuple(members), slope, offset, eer_threshold(cosines, target))


def check_verification(verification: Verification, fusion: str) -> None:
    """Raise `UserError` unless it was fitted beside the fusion of this id."""
    if verification.fusion != fusion:
        raise UserError(f"the verification belongs to another fusion than is used here; {AGAIN}")


def write_verification(path: Path, verification: Verification) -> None:
    """Write `verification.json`, atomically."""
    write_json(path, {"format": VERIFICATION_FORMAT, **asdict(verification)})


def read_verification(path: Path) -> Verification:
    """Read what `write_verification` wrote; raise `UserError` naming the file if it cannot."""
    if not path.is_file():
        raise UserError(f"{path} is missing; {AGAIN}")
    found = read_json(path)
    try:
        if found["format"] != VERIFICATION_FORMAT:
            raise UserError(
                f"{path} is of format {found['format']}, this program reads format "
                f"{VERIFICATION_FORMAT}; {AGAIN}"
            )
        return Verification(
            made_from=dict(found["made_from"]),
            listening=InferenceConfig(**found["listening"]),
            songs=int(found["songs"]),
            targets=int(found["targets"]),
            non_targets=int(found["non_targets"]),
            calibrations=tuple(_calibration(row) for row in found["calibrations"]),
            problem=str(found["problem"]),
            fusion=str(found["fusion"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a readable verification ({error!r}); {AGAIN}") from None


def _calibration(found: dict[str, Any]) -> Calibration:
    numbers = {name: float(found[name]) for name in ("slope", "offset", "threshold")}
    if not all(np.isfinite(list(numbers.values()))):
        raise ValueError(f"numbers that are not finite: {numbers}")
    return Calibration(tuple(found["members"]), **numbers)
