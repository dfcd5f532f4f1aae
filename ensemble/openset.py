"""Singers left out, to learn when a song is of none of the singers.

Enters: a fusion, the members' indexes, and their stores of validation songs. Leaves: `Unknown`.
Each singer in turn is taken out of the index and out of every expert's choices; the singer's
validation songs are then of an unknown singer. The networks have heard the singer in training,
which makes that singer's songs lie further from the others' than a stranger's would: what is
measured so is optimistic for the scores that ask how far (energy, distance), and fair for the
confidence (DECISIONS.md has both, beside true strangers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedder.metrics import Statistic, bootstrap_interval, mean_of, ranking
from embedder.store import Store
from ensemble.experts import gather
from ensemble.fusion import Fusion
from ensemble.index.members import MemberIndex
from ensemble.unknown import NAMES, Unknown, confidence

NEAREST = 3  # songs whose mean cosine is the distance
FOLDS = 5

Floats = NDArray[np.float64]


def leave_singers_out(
    fusion: Fusion, indexes: Mapping[str, MemberIndex], stores: Sequence[Store]
) -> dict[str, tuple[Floats, Floats]]:
    """Score → its values (songs,) for all songs, and for them with their singers left out.

    Empty with fewer than three singers: to leave one out, and for two to choose between.
    """
    labels = stores[0].labels
    if len(fusion.singers) < 3 or len(np.unique(labels)) < 2:
        return {}
    left_out = np.zeros(len(labels))
    for singer in np.unique(labels):
        rows = np.flatnonzero(labels == singer)
        parts = [store.take(rows) for store in stores]
        left_out[rows] = confidence(_raw(fusion, indexes, parts, int(singer)))
    known = {"confidence": confidence(_raw(fusion, indexes, stores)), **_far(indexes, stores)}
    strange = {"confidence": left_out, **_far(indexes, stores, leave_out=True)}
    if "energy" in known:
        known["both"], strange["both"] = (t["energy"] + t["distance"] for t in (known, strange))
    return {name: (known[name], strange[name]) for name in NAMES if name in known}


def fit_unknown(
    strangers: Mapping[str, tuple[Floats, Floats]],
    labels: NDArray[np.int64],
    fused: Floats,
    target_fpr: float,
    seed: int = 0,
) -> Unknown:
    """The threshold at which `target_fpr` of left-out singers' songs get a name.

    `strangers` as `leave_singers_out` gives it; `labels` (songs,) and cross-fitted fused
    log-probabilities (songs, singers) are of the same songs.
    """
    songs = len(labels)
    known, left_out = strangers["confidence"]
    right = (ranking(fused)[:, 0] == labels).astype(np.float64)
    fpr, kept = cross_fitted(known, left_out, right, labels, target_fpr, seed)
    return Unknown(
        threshold=threshold_for(left_out, target_fpr),
        target_fpr=target_fpr,
        songs=songs,
        auroc={
            name: bootstrap_interval(area_of(*pair), songs, seed)
            for name, pair in strangers.items()
        },
        fpr_95=bootstrap_interval(fpr_of(known, left_out, 0.95), songs, seed),
        fpr=bootstrap_interval(mean_of(fpr), songs, seed),
        accuracy=bootstrap_interval(mean_of(kept), songs, seed),
        accuracy_before=bootstrap_interval(mean_of(right), songs, seed),
    )


def threshold_for(strange: Floats, target_fpr: float) -> float:
    """The lowest confidence at which at most `target_fpr` of the strangers' songs get a name."""
    allowed = int(np.floor(target_fpr * len(strange) + 1e-9))
    ordered = np.sort(strange)[::-1]
    if allowed >= len(ordered):
        return 0.0
    return float(np.nextafter(ordered[allowed], np.inf))


def cross_fitted(
    known: Floats,
    strange: Floats,
    right: Floats,
    labels: NDArray[np.int64],
    target_fpr: float,
    seed: int,
) -> tuple[Floats, Floats]:
    """Per song: whether it got a name with its singer left out, and whether it was named right.

    The threshold of each song comes from singers of other folds.
    """
    singers = np.random.default_rng(seed).permutation(np.unique(labels))
    got, kept = np.zeros(len(labels)), np.zeros(len(labels))
    for part in np.array_split(singers, min(FOLDS, len(singers))):
        held = np.isin(labels, part)
        limit = threshold_for(strange[~held], target_fpr)
        got[held] = strange[held] >= limit
        kept[held] = right[held] * (known[held] >= limit)
    return got, kept


def area_of(known: Floats, strange: Floats) -> Statistic:
    """The statistic AUROC over draws of songs: P(known > strange) + ½ P(equal)."""

    def statistic(draws: NDArray[np.int64]) -> Floats:
        return np.array([_area(known[draw], strange[draw]) for draw in draws])

    return statistic


def fpr_of(known: Floats, strange: Floats, recall: float) -> Statistic:
    """The statistic 'strangers that get a name where `recall` of the known, or more, keep theirs'.

    The threshold is the highest that keeps so many.
    """

    def statistic(draws: NDArray[np.int64]) -> Floats:
        lost = int(np.floor((1 - recall) * draws.shape[1] + 1e-9))
        limits = np.sort(known[draws], axis=1)[:, lost]
        return np.asarray((strange[draws] >= limits[:, None]).mean(axis=1))

    return statistic


def _area(known: Floats, strange: Floats) -> float:
    ordered = np.sort(strange)
    below = np.searchsorted(ordered, known, "left") + np.searchsorted(ordered, known, "right")
    return float(below.mean() / (2 * len(strange)))


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


def _far(
    indexes: Mapping[str, MemberIndex], stores: Sequence[Store], leave_out: bool = False
) -> dict[str, Floats]:
    """Energy and distance (songs,) of each song, averaged over members in standard deviations.

    Energy: log Σ exp of the head's mean segment logits (Liu et al., NeurIPS 2020, eq. 4, T = 1).
    Distance: mean cosine of the nearest training songs. `leave_out`: without the song's own singer.
    """
    found: dict[str, list[Floats]] = {"energy": [], "distance": []}
    for store in stores:
        index, labels = indexes[store.member], store.labels
        cosines = store.embeddings.astype(np.float64) @ index.embeddings.astype(np.float64).T
        logits = None if store.segment_logits is None else store.logits("mean")
        plain = {"distance": _nearest(cosines)}
        if logits is not None:
            plain["energy"] = np.logaddexp.reduce(logits, axis=1)
        values = dict(plain)
        if leave_out:
            cosines[labels[:, None] == index.labels[None]] = -1.0
            values["distance"] = _nearest(cosines)
            if logits is not None:
                logits[np.arange(len(labels)), labels] = -np.inf
                values["energy"] = np.logaddexp.reduce(logits, axis=1)
        for name, value in values.items():
            scaled = (value - plain[name].mean()) / max(float(plain[name].std()), 1e-9)
            found[name].append(scaled)
    return {name: np.mean(parts, axis=0) for name, parts in found.items() if parts}


def _nearest(cosines: Floats) -> Floats:
    return np.asarray(np.sort(cosines, axis=1)[:, ::-1][:, :NEAREST].mean(axis=1))
