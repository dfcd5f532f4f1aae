"""Is this one of the known singers at all? The score, its threshold, and what they are worth.

Enters: what the experts say of songs, and how near they lie to those of known singers. Leaves: a
score from 0 to 1, and `Unknown`, fitted by `ensemble/openset.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store
from embedder.metrics import Estimate
from ensemble.calibrate import apply_temperature
from ensemble.index.members import MemberIndex

UNKNOWN = "unknown"  # what a prediction says first where the singer is none of those known
SOFT = 2.0  # temperature of uncalibrated logits
TARGET_FPR = 0.1
LEAST_PREFERENCE = -0.1  # of an enrolled singer; DECISIONS.md has what other values let in
NEAREST = 3  # songs whose mean cosine is the distance
PARTS: dict[str, tuple[str, ...]] = {  # measure → what it is made of
    "confidence": ("confidence",),
    "energy": ("energy",),
    "distance": ("distance",),
    "both": ("energy", "distance"),
}

Floats = NDArray[np.float64]
Raw = dict[str, dict[str, Floats]]  # part → member ("" of all together) → (songs,)
Scales = dict[str, dict[str, tuple[float, float]]]  # part → member → mean and standard deviation


@dataclass(frozen=True)
class Unknown:
    """When a song is said to be of none of the singers, and how often that is right.

    Measured by leaving out each singer in turn: the singer's validation songs are then of nobody.
    A false positive is an unknown singer's song that gets a known singer's name.
    """

    measure: str  # a key of `PARTS`: the one that tells left-out singers best
    scales: Scales  # of its parts on known singers' songs; none for the confidence
    threshold: float  # of the measure, 0 to 1: a song below it is of nobody
    target_fpr: float  # share of unknown singers' songs that may get a name
    songs: int  # of known singers, and as many again with their singer left out
    singers: int  # of those songs
    auroc: dict[str, Estimate]  # score → area under the ROC curve, known against left-out
    fpr_95: Estimate  # false positives where 95 % of the known singers' songs keep their names
    fpr: Estimate  # false positives; measure and threshold cross-fitted by singer
    accuracy: Estimate  # of known singers' songs: named, and right; cross-fitted likewise
    accuracy_before: Estimate  # the same without a threshold

    @property
    def costly(self) -> bool:
        """Whether the threshold leaves fewer than half of the right answers."""
        return self.accuracy.value < self.accuracy_before.value / 2

    def worth(self) -> str:
        """What asking for unknown singers costs the known ones."""
        return (
            f"of {self.songs} validation songs of {self.singers} known singers, "
            f"{self.accuracy.value:.0%} are named right with --unknown and "
            f"{self.accuracy_before.value:.0%} without it"
        )

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Unknown:
        """From what `dataclasses.asdict` gave."""
        auroc = {name: Estimate(**value) for name, value in found["auroc"].items()}
        scales = {
            part: {member: (mean, spread) for member, (mean, spread) in each.items()}
            for part, each in found["scales"].items()
        }
        rest = {
            name: Estimate(**found[name])
            for name in ("fpr_95", "fpr", "accuracy", "accuracy_before")
        }
        return cls(**{**found, **rest, "auroc": auroc, "scales": scales})


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


def familiarity(
    stores: Sequence[Store], indexes: Mapping[str, MemberIndex], without_own: bool = False
) -> Raw:
    """Energy and distance (songs,) of each song, by member.

    Energy: log Σ exp of the head's mean segment logits (Liu et al., NeurIPS 2020, eq. 4, T = 1).
    Distance: mean cosine of the nearest songs of trained singers; higher is nearer. `without_own`:
    without the song's own singer.
    """
    found: Raw = {"energy": {}, "distance": {}}
    for store in stores:
        index, labels = indexes[store.member], store.labels
        trained = index.labels < index.known
        singers, near = index.labels[trained], index.embeddings[trained].astype(np.float64)
        values = []
        for song, label in zip(store.embeddings, labels, strict=True):  # each on its own, for BLAS
            cosines = near @ song.astype(np.float64)
            if without_own:
                cosines = cosines[singers != label]
            values.append(np.sort(cosines)[::-1][:NEAREST].mean())
        found["distance"][store.member] = np.array(values)
        if store.segment_logits is not None:
            logits = store.logits("mean")
            if without_own:
                logits[np.arange(len(labels)), labels] = -np.inf
            found["energy"][store.member] = np.logaddexp.reduce(logits, axis=1)
    return {part: each for part, each in found.items() if each}


def scales_of(raw: Raw, songs: NDArray[np.integer[Any]] | slice = slice(None)) -> Scales:
    """Mean and standard deviation of energy and distance over some of the songs."""
    return {
        part: {
            member: (float(values[songs].mean()), max(float(values[songs].std()), 1e-9))
            for member, values in each.items()
        }
        for part, each in raw.items()
        if part != "confidence"
    }


def score(measure: str, raw: Raw, scales: Scales) -> Floats:
    """How much a song is like those of known singers (songs,), 0 to 1, by a key of `PARTS`.

    The confidence as it is; else the mean over parts and members in standard deviations of known
    singers' songs, by the logistic function: 0.5 is the mean of those. Where no member has a part
    of it, as the energy without a head, the rest decides.
    """
    if measure == "confidence":
        return raw["confidence"][""]
    wanted = [part for part in PARTS[measure] if part in raw] or ["distance"]
    means = [
        np.mean(
            [
                (values - scales[part][member][0]) / scales[part][member][1]
                for member, values in raw[part].items()
            ],
            axis=0,
        )
        for part in wanted
    ]
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.mean(means, axis=0))))


def is_unknown(
    unknown: Unknown,
    confidence: NDArray[np.floating[Any]],
    enrolled: NDArray[np.bool_],
    preference: NDArray[np.floating[Any]],
) -> NDArray[np.bool_]:
    """Which songs (songs,) are of none of the singers.

    `confidence` (songs,) is the `score` by the measure that was chosen. Of those whose first choice
    is an `enrolled` singer (songs,), whom it does not know,
    the ones that are not near enough to prefer an enrolled singer: `preference` (songs,) as
    `enrolment.enlarged` gives it.
    """
    strange = np.where(enrolled, preference < LEAST_PREFERENCE, confidence < unknown.threshold)
    return np.asarray(strange, dtype=np.bool_)
