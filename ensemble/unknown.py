"""Is this one of the known singers at all? The score, its threshold, and what they are worth.

Enters: what the experts say of songs. Leaves: how sure they are together, and `Unknown`, fitted by
`ensemble/openset.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.metrics import Estimate
from ensemble.calibrate import apply_temperature

UNKNOWN = "unknown"  # what a prediction says first where the singer is none of those known
SOFT = 2.0  # temperature of uncalibrated logits
TARGET_FPR = 0.1
LEAST_PREFERENCE = -0.1  # of an enrolled singer; DECISIONS.md has what other values let in
NAMES = ("confidence", "energy", "distance", "both")  # scores that are compared


@dataclass(frozen=True)
class Unknown:
    """When a song is said to be of none of the singers, and how often that is right.

    Measured by leaving out each singer in turn: the singer's validation songs are then of nobody.
    A false positive is an unknown singer's song that gets a known singer's name.
    """

    threshold: float  # confidence, 0 to 1, below which a song is of nobody
    target_fpr: float  # share of unknown singers' songs that may get a name
    songs: int  # of known singers, and as many again with their singer left out
    auroc: dict[str, Estimate]  # score → area under the ROC curve, known against left-out
    fpr_95: Estimate  # false positives where 95 % of the known singers' songs keep their names
    fpr: Estimate  # false positives at the threshold, cross-fitted by singer
    accuracy: Estimate  # of known singers' songs at the threshold: named, and right; cross-fitted
    accuracy_before: Estimate  # the same without a threshold

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Unknown:
        """From what `dataclasses.asdict` gave."""
        auroc = {name: Estimate(**value) for name, value in found["auroc"].items()}
        rest = {
            name: Estimate(**found[name])
            for name in ("fpr_95", "fpr", "accuracy", "accuracy_before")
        }
        return cls(**{**found, **rest, "auroc": auroc})


def confidence(logits: Mapping[str, NDArray[np.floating[Any]]]) -> NDArray[np.float64]:
    """How much of the experts' softened probability the likeliest singer has (songs,), 0 to 1.

    max_c mean_e softmax(logits_e / 2)_c over uncalibrated logits (songs, singers): the maximum of
    the softmax (Hendrycks & Gimpel, ICLR 2017) at a raised temperature (Liang et al., ICLR 2018).
    Calibrated probabilities are of no use here: sharp enough for known singers, they are near 1 for
    strangers too. Raises `ValueError` without an expert.
    """
    if not logits:
        raise ValueError("no expert")
    shares = [np.exp(apply_temperature(found, SOFT)) for found in logits.values()]
    return np.asarray(np.mean(shares, axis=0).max(axis=1))


def is_unknown(
    unknown: Unknown,
    confidence: NDArray[np.floating[Any]],
    enrolled: NDArray[np.bool_],
    preference: NDArray[np.floating[Any]],
) -> NDArray[np.bool_]:
    """Which songs (songs,) are of none of the singers.

    Of those whose first choice is an `enrolled` singer (songs,), whom the confidence does not know,
    the ones that are not near enough to prefer an enrolled singer: `preference` (songs,) as
    `enrolment.enlarged` gives it.
    """
    strange = np.where(enrolled, preference < LEAST_PREFERENCE, confidence < unknown.threshold)
    return np.asarray(strange, dtype=np.bool_)
