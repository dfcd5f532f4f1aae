"""Is this one of the known singers at all? The score, its threshold, and what they are worth.

The threshold is learnt by leaving singers out: each in turn is taken out of the index and out of
every expert's choices, and the singer's validation songs are then of an unknown singer. The
networks were trained on the singer, which makes that singer's songs lie further from the others'
than a truly unknown one's would: what is measured so is optimistic for energy and distance (by up
to 0.05 of AUROC), and fair for the confidence (docs/results has both). So the confidence stands
unless another measure is better by more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.catalogue import UNKNOWN as UNKNOWN
from embedder.inference.store import Store
from embedder.metrics import ranking
from embedder.statistics import Estimate, Statistic, bootstrap_interval, mean_of
from ensemble.fusion.calibration import TemperatureScaling
from ensemble.index.members import MemberIndex

SOFTENING = TemperatureScaling(2.0)  # of uncalibrated logits
TARGET_FPR = 0.1
MIN_PREFERENCE = -0.1  # for an enrolled singer; docs/results has what other values let in
NEAREST = 3  # songs whose mean cosine is the distance
FOLDS = 5
OPTIMISM = 0.05  # of AUROC, which energy and distance gain by the singers having been trained on
PARTS: dict[str, tuple[str, ...]] = {  # measure → what it is made of
    "confidence": ("confidence",),
    "energy": ("energy",),
    "distance": ("distance",),
    "both": ("energy", "distance"),
}

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Parts = dict[str, dict[str, Floats]]  # part → member ("" of all together) → (songs,)
Scales = dict[str, dict[str, tuple[float, float]]]  # part → member → mean and standard deviation


@dataclass(frozen=True)
class OpenSetThreshold:
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


# Scoring -----------------------------------------------------------------------------------------


def confidence(logits: Mapping[str, NDArray[np.floating[Any]]]) -> Floats:
    """How much of the experts' softened probability the likeliest singer has (songs,), 0 to 1.

    max_c mean_e softmax(logits_e / 2)_c over uncalibrated logits (songs, singers): the maximum of
    the softmax (Hendrycks & Gimpel, ICLR 2017) at a raised temperature (Liang et al., ICLR 2018).
    Calibrated probabilities are of no use here: sharp enough for known singers, they are near 1 for
    unknown ones too. Raises `ValueError` without an expert.
    """
    if not logits:
        raise ValueError("no expert")
    shares = [np.exp(SOFTENING.log_probabilities(found)) for found in logits.values()]
    return np.asarray(np.mean(shares, axis=0).max(axis=1))


def familiarity(
    stores: Sequence[Store], indexes: Mapping[str, MemberIndex], without_own: bool = False
) -> Parts:
    """Energy and distance (songs,) of each song, by member.

    Energy: log Σ exp of the head's mean segment logits (Liu et al., NeurIPS 2020, eq. 4, T = 1).
    Distance: mean cosine of the nearest songs of trained singers; higher is nearer. `without_own`:
    without the song's own singer.
    """
    found: Parts = {"energy": {}, "distance": {}}
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


def scales_of(parts: Parts, songs: NDArray[np.integer[Any]] | slice = slice(None)) -> Scales:
    """Mean and standard deviation of energy and distance over some of the songs."""
    return {
        part: {
            member: (float(values[songs].mean()), max(float(values[songs].std()), 1e-9))
            for member, values in each.items()
        }
        for part, each in parts.items()
        if part != "confidence"
    }


def known_score(measure: str, parts: Parts, scales: Scales) -> Floats:
    """How much a song is like those of known singers (songs,), 0 to 1, by a key of `PARTS`.

    The confidence as it is; else the mean over parts and members in standard deviations of known
    singers' songs, by the logistic function: 0.5 is the mean of those. Where no member has a part
    of it, as the energy without a head, the rest decides.
    """
    if measure == "confidence":
        return parts["confidence"][""]
    wanted = [part for part in PARTS[measure] if part in parts] or ["distance"]
    means = [
        np.mean(
            [
                (values - scales[part][member][0]) / scales[part][member][1]
                for member, values in parts[part].items()
            ],
            axis=0,
        )
        for part in wanted
    ]
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.mean(means, axis=0))))


def is_unknown(
    fitted: OpenSetThreshold,
    scores: NDArray[np.floating[Any]],
    enrolled: NDArray[np.bool_],
    preference: NDArray[np.floating[Any]],
) -> NDArray[np.bool_]:
    """Which songs (songs,) are of none of the singers.

    Args:
        fitted: the threshold.
        scores: (songs,), the `known_score` by the measure that was chosen.
        enrolled: (songs,), whose first choice is an enrolled singer, whom that score does not know.
            Of these, the ones that are not near enough to prefer an enrolled singer.
        preference: (songs,), for enrolled singers, −inf where nobody is enrolled.
    """
    unknown = np.where(enrolled, preference < MIN_PREFERENCE, scores < fitted.threshold)
    return np.asarray(unknown, dtype=np.bool_)


# Fitting -----------------------------------------------------------------------------------------


class Scorer(Protocol):
    """What experts say, as a fusion does."""

    @property
    def singers(self) -> tuple[str, ...]:
        """Those that the experts choose among."""
        ...

    def expert_logits(
        self, stores: Sequence[Store], indexes: Mapping[str, MemberIndex], without: int | None
    ) -> dict[str, Floats]:
        """Uncalibrated logits (songs, singers) of each expert; `without` a singer's songs."""
        ...


@dataclass(frozen=True, eq=False)
class LeftOut:
    """The same songs with their singers known, and with each song's singer left out."""

    labels: Rows  # (songs,)
    known: Parts
    unknown: Parts

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that there is all of."""
        return tuple(m for m, parts in PARTS.items() if all(part in self.known for part in parts))

    def scores(self, measure: str, scales: Scales) -> tuple[Floats, Floats]:
        """Of the known and of the left-out songs, (songs,) each."""
        known, unknown = (known_score(measure, p, scales) for p in (self.known, self.unknown))
        return known, unknown


def leave_singers_out(
    scorer: Scorer, indexes: Mapping[str, MemberIndex], stores: Sequence[Store]
) -> LeftOut | None:
    """Leave out each singer of the stores.

    None with fewer than three singers: to leave one out, and for two to choose between.
    """
    labels = stores[0].labels
    if len(scorer.singers) < 3 or len(np.unique(labels)) < 2:
        return None
    left_out = np.zeros(len(labels))
    for singer in np.unique(labels):
        rows = np.flatnonzero(labels == singer)
        parts = [store.take(rows) for store in stores]
        logits = scorer.expert_logits(parts, indexes, int(singer))
        left_out[rows] = confidence(
            {name: np.delete(values, singer, axis=1) for name, values in logits.items()}
        )
    known = confidence(scorer.expert_logits(stores, indexes, None))
    return LeftOut(
        labels,
        {"confidence": {"": known}, **familiarity(stores, indexes)},
        {"confidence": {"": left_out}, **familiarity(stores, indexes, without_own=True)},
    )


def fit_threshold(
    left_out: LeftOut, fused: Floats, target_fpr: float, seed: int = 0
) -> OpenSetThreshold:
    """Measure and threshold at which `target_fpr` of left-out singers' songs get a name.

    `fused`: cross-fitted log-probabilities (songs, singers) of the same songs. All intervals
    resample singers, with all their songs.
    """
    labels = left_out.labels

    def over_singers(statistic: Statistic) -> Estimate:
        return bootstrap_interval(statistic, len(labels), seed, labels)

    measure, scales, threshold = _fit(left_out, np.arange(len(labels)), target_fpr)
    known, unknown = left_out.scores(measure, scales)
    right = (ranking(fused)[:, 0] == labels).astype(np.float64)
    named, kept = cross_fitted_decisions(left_out, right, target_fpr, seed)
    return OpenSetThreshold(
        measure=measure,
        scales={} if measure == "confidence" else scales,  # of all parts: a member may be missing
        threshold=threshold,
        target_fpr=target_fpr,
        songs=len(labels),
        singers=len(np.unique(labels)),
        auroc={
            name: over_singers(auroc_of(*left_out.scores(name, scales)))
            for name in left_out.measures
        },
        fpr_95=over_singers(fpr_of(known, unknown, 0.95)),
        fpr=over_singers(mean_of(named)),
        accuracy=over_singers(mean_of(kept)),
        accuracy_before=over_singers(mean_of(right)),
    )


def _fit(left_out: LeftOut, rows: Rows, target_fpr: float) -> tuple[str, Scales, float]:
    """The measure, scales and threshold that some of the songs ask for."""
    scales = scales_of(left_out.known, rows)
    measure = choose_measure(left_out, rows, scales)
    unknown = left_out.scores(measure, scales)[1][rows]
    return measure, scales, threshold_for(unknown, target_fpr)


def choose_measure(left_out: LeftOut, rows: Rows, scales: Scales) -> str:
    """The measure of the highest AUROC on some of the songs, or the confidence.

    Another is taken only if it is better by more than `OPTIMISM`.
    """
    areas = {}
    for measure in left_out.measures:
        known, unknown = (scores[rows] for scores in left_out.scores(measure, scales))
        areas[measure] = float(auroc_of(known, unknown)(np.ones((1, len(rows))))[0])
    best = max(areas, key=lambda name: areas[name])
    return best if areas[best] > areas["confidence"] + OPTIMISM else "confidence"


def threshold_for(unknown: Floats, target_fpr: float) -> float:
    """The lowest score above which new unknown songs get a name at a rate of `target_fpr` or less.

    It lies just above the k-th highest of n left-out songs, k the largest with k / (n + 1) within
    the target: the next song of such singers lies above it with that probability (Vovk et al. 2005,
    prop. 4.1). With so few songs that k is 0, just above them all.
    """
    allowed = max(int(np.floor(target_fpr * (len(unknown) + 1) + 1e-9)), 1)
    ordered = np.sort(unknown)[::-1]
    if allowed > len(ordered):
        return 0.0
    return float(np.nextafter(ordered[allowed - 1], np.inf))


def cross_fitted_decisions(
    left_out: LeftOut, right: Floats, target_fpr: float, seed: int
) -> tuple[Floats, Floats]:
    """Per song: whether it got a name with its singer left out, and whether it was named right.

    The measure, its scales and the threshold of each song come from singers of other folds.
    """
    labels = left_out.labels
    singers = np.random.default_rng(seed).permutation(np.unique(labels))
    named, kept = np.zeros(len(labels)), np.zeros(len(labels))
    for part in np.array_split(singers, min(FOLDS, len(singers))):
        held = np.isin(labels, part)
        measure, scales, limit = _fit(left_out, np.flatnonzero(~held), target_fpr)
        known, unknown = left_out.scores(measure, scales)
        named[held] = unknown[held] >= limit
        kept[held] = right[held] * (known[held] >= limit)
    return named, kept


def auroc_of(known: Floats, unknown: Floats) -> Statistic:
    """The statistic AUROC: P(known > unknown) + ½ P(equal), both over the same songs (songs,)."""
    higher = (known[:, None] > unknown[None]) + 0.5 * (known[:, None] == unknown[None])

    def statistic(weights: Floats) -> Floats:
        return np.asarray(((weights @ higher) * weights).sum(axis=1) / weights.sum(axis=1) ** 2)

    return statistic


def fpr_of(known: Floats, unknown: Floats, recall: float) -> Statistic:
    """The statistic 'unknown songs that get a name where `recall` of the known, or more, do'.

    The threshold is the highest that keeps so many.
    """
    order = np.argsort(known, kind="stable")

    def statistic(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        lost = np.floor((1 - recall) * total + 1e-9)
        first = (np.cumsum(weights[:, order], axis=1) > lost[:, None]).argmax(axis=1)
        named = unknown >= known[order][first][:, None]
        return np.asarray((weights * named).sum(axis=1) / total)

    return statistic
