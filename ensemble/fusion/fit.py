"""Experts become one: all that is fitted on validation songs, and how it is compared.

Everything that is fitted on validation songs is reported cross-fitted by album.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError, did_you_mean
from embedder.inference.aggregate import song_embedding
from embedder.inference.config import InferenceConfig
from embedder.inference.store import Store
from embedder.metrics import brier, ece, nll, score, song_nll, song_score, summarise
from embedder.statistics import Estimate, mean_of, paired_difference
from ensemble.enrollment_gate import fit_gate
from ensemble.fusion.cross_validation import CrossFit, ValidationData, cross_fit
from ensemble.fusion.experts import FUSED, ExpertScores, gather
from ensemble.fusion.fitted import (
    AS_TRAINED,
    CalibrationRow,
    Fusion,
    FusionReport,
    MethodRow,
    ResultRow,
)
from ensemble.fusion.fusers import FUSERS
from ensemble.fusion.knn import SCORE_NORMS
from ensemble.fusion.probe import Probe
from ensemble.index.members import MemberIndex
from ensemble.open_set import TARGET_FPR, fit_threshold, leave_singers_out

AUTO = "auto"  # the method that the cross-fitted NLL chooses
CHUNK_S = 3.0  # segments that begin within so many seconds are one chunk
MAX_CHUNKS = 24  # of a song, evenly taken: more teach no more, and take longer

Scores = dict[str, NDArray[np.float64]]  # expert → log-probabilities (songs, singers)


def fit_fusion(
    indexes: Mapping[str, MemberIndex],
    stores: Sequence[Store],
    aggregate: str = "probability",
    seed: int = 0,
    *,
    method: str = AUTO,
    score_norm: str = "none",
    target_fpr: float = TARGET_FPR,
    listening: InferenceConfig = AS_TRAINED,
    attenuated: Sequence[Store] = (),
) -> tuple[Fusion, Scores]:
    """Fit everything on all validation songs; all that is reported is cross-fitted by album.

    Args:
        indexes: member → its index of training songs.
        stores: of validation songs, one a member.
        aggregate: a key of `AGGREGATES`.
        seed: draws the album folds and the resamples.
        method: a key of `FUSERS` or "auto"; then the fused row of each fold is of the method that
            the other folds choose.
        score_norm: a name in `SCORE_NORMS`.
        target_fpr: share of unknown singers' songs that may get a name, 0 to 1.
        listening: how the stores' songs were embedded.
        attenuated: stores of the same songs with their vocals turned down; weights are learnt on
            chunks of these where there are some, else on chunks of the songs as they are.

    Returns:
        The fusion, and the cross-fitted log-probabilities of the validation songs, of every expert
        and of "fused".

    Raises:
        UserError: stores do not fit together, a name is no legal one, or validation has fewer than
            two albums.
    """
    check_choices(method, score_norm)
    probes = fit_probes(indexes)
    songs = gather(stores, indexes, aggregate, probes, score_norm)
    if any(store.song_ids != stores[0].song_ids for store in attenuated):
        raise ValueError("the attenuated songs are not the validation songs")
    parts, owners = in_chunks(attenuated or stores)
    chunks = gather(parts, indexes, aggregate, probes, score_norm)
    methods = tuple(FUSERS) if method == AUTO else (method,)
    found = cross_fit(ValidationData(songs, chunks, owners, score_norm), methods, seed)
    scores = {**found.experts, FUSED: found.fused}
    best = best_expert(songs.labels, found.experts)
    fusion = Fusion(
        singers=songs.singers,
        aggregate=aggregate,
        temperatures=found.fitted.temperatures,
        fuser=found.fitted.fusers[found.method],
        votes=found.fitted.votes,
        made_from={store.member: store.made_from.get("checkpoint", "") for store in stores},
        probes=probes,
        score_norm=score_norm,
        listening=listening,
        report=FusionReport(
            results=result_rows(stores[0], scores, cross_fitted=True, seed=seed),
            methods=method_rows(songs, found, best, seed),
            choices=found.choices,
            calibration=calibration_rows(songs.labels, found),
            best_expert=best,
        ),
    )
    left_out = leave_singers_out(fusion, indexes, stores)
    if left_out:
        threshold = fit_threshold(left_out, found.fused, target_fpr, seed)
        known, unknown = left_out.scores(threshold.measure, threshold.scales)
        gate = fit_gate(indexes, stores, known, unknown)
        fusion = replace(fusion, unknown=threshold, gate=gate)
    return fusion, scores


def check_choices(method: str, score_norm: str) -> None:
    """Raise `UserError` for a method or a score normalisation that does not exist."""
    for option, value, legal in (
        ("method", method, (AUTO, *FUSERS)),
        ("score_norm", score_norm, SCORE_NORMS),
    ):
        if value not in legal:
            raise UserError(
                f"--{option} {value}{did_you_mean(value, legal)} is not legal; "
                f"it must be {' | '.join(legal)}"
            )


def fit_probes(indexes: Mapping[str, MemberIndex]) -> dict[str, Probe]:
    """The linear probe of each member, fitted on its trained singers' songs in the index."""
    found = {}
    for member, index in indexes.items():
        rows = np.flatnonzero(index.labels < index.known)
        labels, albums = index.labels[rows], [index.albums[row] for row in rows]
        if len(np.unique(labels)) > 1:
            found[member] = Probe.fit(index.embeddings[rows], labels, albums, index.known)
    return found


def best_expert(labels: NDArray[np.int64], scores: Mapping[str, NDArray[np.float64]]) -> str:
    """The expert with the highest score; of equal ones that with the lowest NLL."""
    return min(scores, key=lambda name: (-score(labels, scores[name]), nll(labels, scores[name])))


def result_rows(
    songs: Store, scores: Scores, cross_fitted: bool = False, seed: int = 0
) -> tuple[ResultRow, ...]:
    """One row for each of `scores`, in order: log-probabilities (songs, singers) of a split."""
    return tuple(
        ResultRow(
            name, songs.split, "song", cross_fitted,
            summarise(songs.labels, logs, seed, songs.groups),
        )
        for name, logs in scores.items()
    )  # fmt: skip


def method_rows(
    songs: ExpertScores, found: CrossFit, best: str, seed: int
) -> tuple[MethodRow, ...]:
    """Each method beside the best single expert, which was picked with hindsight."""
    labels, albums = songs.labels, songs.albums
    rows, single = [], found.experts[best]
    for method, logs in found.methods.items():
        gain = paired_difference(
            mean_of(song_score(labels, logs)), mean_of(song_score(labels, single)),
            len(labels), seed, albums, 1.5,
        )  # fmt: skip
        lower = paired_difference(
            mean_of(song_nll(labels, single)), mean_of(song_nll(labels, logs)),
            len(labels), seed, albums,
        )  # fmt: skip
        if np.array_equal(logs, single):  # best_single took this expert each time
            gain = lower = Estimate(0.0, 0.0, 0.0, gain.groups)
        rows.append(MethodRow(method, summarise(labels, logs, seed, albums), gain, lower))
    return tuple(rows)


def calibration_rows(labels: NDArray[np.int64], found: CrossFit) -> tuple[CalibrationRow, ...]:
    """Each expert without a temperature and with one, cross-fitted both."""
    rows = []
    for name, logs in found.experts.items():
        pairs = [
            (float(metric(labels, found.plain[name])), float(metric(labels, logs)))
            for metric in (nll, brier, ece)
        ]
        rows.append(CalibrationRow(name, *pairs))
    return tuple(rows)


# Chunks of songs ---------------------------------------------------------------------------------


def in_chunks(
    stores: Sequence[Store], seconds: float = CHUNK_S
) -> tuple[list[Store], NDArray[np.int64]]:
    """The same stores with chunks for songs, and the song (chunks,) from which each chunk is.

    Experts still make mistakes in chunks of a few seconds. Whole songs of known singers may all be
    right, and then say nothing about which expert to trust when the singer is hard to make out.

    A chunk is what begins between two multiples of `seconds`. Members may embed songs on different
    grids; a chunk counts only where all of them have a segment. Of a long song `MAX_CHUNKS` are
    taken.
    """
    numbers = [_numbers(store, seconds) for store in stores]
    common = sorted(set.intersection(*[set(map(tuple, each.tolist())) for each in numbers]))
    common = _thinned(common)
    songs = np.array([song for song, _ in common], dtype=np.int64)
    cut = [_cut(store, each, common) for store, each in zip(stores, numbers, strict=True)]
    return cut, songs


def _thinned(chunks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found = []
    for _, group in groupby(chunks, key=itemgetter(0)):
        mine = list(group)
        rows = np.linspace(0, len(mine) - 1, min(MAX_CHUNKS, len(mine))).round().astype(np.int64)
        found += [mine[row] for row in rows]
    return found


def _numbers(store: Store, seconds: float) -> NDArray[np.int64]:
    """Each segment's song, and which of the song's chunks it begins in: (segments, 2)."""
    chunk = (store.segment_start_s.astype(np.float64) // seconds).astype(np.int64)
    return np.stack([store.segment_song, chunk], axis=1)


def _cut(store: Store, numbers: NDArray[np.int64], common: list[tuple[int, int]]) -> Store:
    place = {chunk: number for number, chunk in enumerate(common)}
    owner = np.array([place.get((song, chunk), -1) for song, chunk in numbers.tolist()])
    kept = np.flatnonzero(owner >= 0)
    owner = owner[kept]
    embeddings = store.segment_embeddings[kept]
    weights = store.segment_weight[kept]
    bounds = np.searchsorted(owner, np.arange(len(common) + 1))
    parts = [slice(first, end) for first, end in pairwise(bounds)]
    songs = [song for song, _ in common]
    return replace(
        store,
        song_ids=tuple(f"{store.song_ids[song]} {chunk}" for song, chunk in common),
        albums=tuple(store.albums[song] for song in songs),
        labels=store.labels[songs],
        embeddings=np.stack([song_embedding(embeddings[part], weights[part]) for part in parts]),
        segment_song=owner,
        segment_start_s=store.segment_start_s[kept],
        segment_embeddings=embeddings,
        segment_logits=None if store.segment_logits is None else store.segment_logits[kept],
        segment_weight=weights,
    )
