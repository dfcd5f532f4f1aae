"""Singers left out, to learn when a song is of none of the singers.

Enters: a fusion, the members' indexes, and their stores of validation songs. Leaves: `Unknown`.
Each singer in turn is taken out of the index and out of every expert's choices; the singer's
validation songs are then of an unknown singer. The networks were trained on the singer, which makes
that singer's songs lie further from the others' than a truly unknown one's would: what is measured
so is optimistic for energy and distance (by up to 0.05 of AUROC), and fair for the confidence
(DECISIONS.md has both). So the confidence stands unless another measure is better by more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store
from embedder.metrics import Statistic, bootstrap_interval, mean_of, ranking
from ensemble.experts import gather
from ensemble.fusion import Fusion
from ensemble.index.members import MemberIndex
from ensemble.unknown import (
    PARTS,
    Raw,
    Scales,
    Unknown,
    confidence,
    familiarity,
    scales_of,
    score,
)

FOLDS = 5
OPTIMISM = 0.05  # of AUROC, which energy and distance gain by the singers having been trained on

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """The same songs with their singers known, and with each song's singer left out."""

    labels: Rows  # (songs,)
    known: Raw
    strange: Raw

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that there is all of."""
        return tuple(m for m, parts in PARTS.items() if all(part in self.known for part in parts))

    def scores(self, measure: str, scales: Scales) -> tuple[Floats, Floats]:
        """Of the known and of the left-out songs, (songs,) each."""
        return score(measure, self.known, scales), score(measure, self.strange, scales)


def leave_singers_out(
    fusion: Fusion, indexes: Mapping[str, MemberIndex], stores: Sequence[Store]
) -> LeftOut | None:
    """Leave out each singer of the stores.

    None with fewer than three singers: to leave one out, and for two to choose between.
    """
    labels = stores[0].labels
    if len(fusion.singers) < 3 or len(np.unique(labels)) < 2:
        return None
    left_out = np.zeros(len(labels))
    for singer in np.unique(labels):
        rows = np.flatnonzero(labels == singer)
        parts = [store.take(rows) for store in stores]
        left_out[rows] = confidence(_raw(fusion, indexes, parts, int(singer)))
    known = {"confidence": {"": confidence(_raw(fusion, indexes, stores))}}
    return LeftOut(
        labels,
        {**known, **familiarity(stores, indexes)},
        {"confidence": {"": left_out}, **familiarity(stores, indexes, without_own=True)},
    )


def fit_unknown(left_out: LeftOut, fused: Floats, target_fpr: float, seed: int = 0) -> Unknown:
    """Measure and threshold at which `target_fpr` of left-out singers' songs get a name.

    `fused`: cross-fitted log-probabilities (songs, singers) of the same songs. All intervals
    resample singers, with all their songs.
    """
    labels = left_out.labels
    songs = len(labels)
    measure, scales, threshold = _fit(left_out, np.arange(songs), target_fpr)
    known, strange = left_out.scores(measure, scales)
    right = (ranking(fused)[:, 0] == labels).astype(np.float64)
    got, kept = cross_fitted(left_out, right, target_fpr, seed)
    return Unknown(
        measure=measure,
        scales={} if measure == "confidence" else scales,  # of all parts: a member may be missing
        threshold=threshold,
        target_fpr=target_fpr,
        songs=songs,
        singers=len(np.unique(labels)),
        auroc={
            name: bootstrap_interval(area_of(*left_out.scores(name, scales)), songs, seed, labels)
            for name in left_out.measures
        },
        fpr_95=bootstrap_interval(fpr_of(known, strange, 0.95), songs, seed, labels),
        fpr=bootstrap_interval(mean_of(got), songs, seed, labels),
        accuracy=bootstrap_interval(mean_of(kept), songs, seed, labels),
        accuracy_before=bootstrap_interval(mean_of(right), songs, seed, labels),
    )


def _fit(left_out: LeftOut, rows: Rows, target_fpr: float) -> tuple[str, Scales, float]:
    """The measure, scales and threshold that some of the songs ask for."""
    scales = scales_of(left_out.known, rows)
    measure = choose_measure(left_out, rows, scales)
    strange = left_out.scores(measure, scales)[1][rows]
    return measure, scales, threshold_for(strange, target_fpr)


def choose_measure(left_out: LeftOut, rows: Rows, scales: Scales) -> str:
    """The measure of the highest AUROC on some of the songs, or the confidence.

    Another is taken only if it is better by more than `OPTIMISM`.
    """
    one = np.ones((1, len(rows)))
    areas = {}
    for measure in left_out.measures:
        known, strange = left_out.scores(measure, scales)
        areas[measure] = float(area_of(known[rows], strange[rows])(one)[0])
    best = max(areas, key=lambda name: areas[name])
    return best if areas[best] > areas["confidence"] + OPTIMISM else "confidence"


def threshold_for(strange: Floats, target_fpr: float) -> float:
    """The lowest score above which new unknown songs get a name at a rate of `target_fpr` or less.

    It lies just above the k-th highest of n left-out songs, k the largest with k / (n + 1) within
    the target: the next song of such singers lies above it with that probability (Vovk et al. 2005,
    prop. 4.1). With so few songs that k is 0, just above them all.
    """
    allowed = max(int(np.floor(target_fpr * (len(strange) + 1) + 1e-9)), 1)
    ordered = np.sort(strange)[::-1]
    if allowed > len(ordered):
        return 0.0
    return float(np.nextafter(ordered[allowed - 1], np.inf))


def cross_fitted(
    left_out: LeftOut, right: Floats, target_fpr: float, seed: int
) -> tuple[Floats, Floats]:
    """Per song: whether it got a name with its singer left out, and whether it was named right.

    The measure, its scales and the threshold of each song come from singers of other folds.
    """
    labels = left_out.labels
    singers = np.random.default_rng(seed).permutation(np.unique(labels))
    got, kept = np.zeros(len(labels)), np.zeros(len(labels))
    for part in np.array_split(singers, min(FOLDS, len(singers))):
        held = np.isin(labels, part)
        measure, scales, limit = _fit(left_out, np.flatnonzero(~held), target_fpr)
        known, strange = left_out.scores(measure, scales)
        got[held] = strange[held] >= limit
        kept[held] = right[held] * (known[held] >= limit)
    return got, kept


def area_of(known: Floats, strange: Floats) -> Statistic:
    """The statistic AUROC: P(known > strange) + ½ P(equal), both over the same songs (songs,)."""
    higher = (known[:, None] > strange[None]) + 0.5 * (known[:, None] == strange[None])

    def statistic(weights: Floats) -> Floats:
        return np.asarray(((weights @ higher) * weights).sum(axis=1) / weights.sum(axis=1) ** 2)

    return statistic


def fpr_of(known: Floats, strange: Floats, recall: float) -> Statistic:
    """The statistic 'strangers that get a name where `recall` of the known, or more, keep theirs'.

    The threshold is the highest that keeps so many.
    """
    order = np.argsort(known, kind="stable")

    def statistic(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        lost = np.floor((1 - recall) * total + 1e-9)
        first = (np.cumsum(weights[:, order], axis=1) > lost[:, None]).argmax(axis=1)
        named = strange >= known[order][first][:, None]
        return np.asarray((weights * named).sum(axis=1) / total)

    return statistic


def _raw(
    fusion: Fusion,
    indexes: Mapping[str, MemberIndex],
    stores: Sequence[Store],
    singer: int | None = None,
) -> dict[str, Floats]:
    """Uncalibrated logits (songs, singers) of each expert, or (songs, singers − 1) without one."""
    evidence = gather(
        stores,
        indexes,
        fusion.aggregate,
        fusion.probes,
        fusion.score_norm,
        fusion.experts,
        without=singer,
    )
    scores = evidence.scores(fusion.votes)
    if singer is None:
        return scores
    return {name: np.delete(logits, singer, axis=1) for name, logits in scores.items()}
