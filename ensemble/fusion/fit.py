"""Experts become one: all that is fitted on validation songs, how it is compared, and applied.

Enters: the members' indexes of training songs and their stores of validation songs. Leaves:
`Fusion`, and tables in which everything fitted on validation songs is reported cross-fitted by
album. `ensemble/apply.py` puts a fusion to work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError, did_you_mean
from embedder.inference.config import InferenceConfig
from embedder.inference.store import Store
from embedder.metrics import (
    Estimate,
    brier,
    ece,
    mean_of,
    nll,
    paired_difference,
    score,
    song_nll,
    song_score,
    summarise,
)
from ensemble.apply import Scores
from ensemble.enrolled.enrolment import fit_gate
from ensemble.fusion.chunks import in_chunks
from ensemble.fusion.cross_validation import CrossFit, Validation, cross_fit
from ensemble.fusion.experts import FUSED, Evidence, gather
from ensemble.fusion.fitted import (
    AS_TRAINED,
    CalibrationRow,
    Fusion,
    MethodRow,
    ResultRow,
)
from ensemble.fusion.fusers import FUSIONS
from ensemble.fusion.probe import Probe, fit_probe
from ensemble.fusion.score_norm import SCORE_NORMS
from ensemble.index.members import MemberIndex
from ensemble.open_set import TARGET_FPR, fit_unknown, leave_singers_out

AUTO = "auto"  # the method that the cross-fitted NLL chooses


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
    remade: Sequence[Store] = (),
) -> tuple[Fusion, Scores]:
    """Fit everything on all validation songs; all that is reported is cross-fitted by album.

    Enters: each member's index, and its store of validation songs. Leaves the fusion, and the
    cross-fitted log-probabilities of the validation songs, of every expert and of "fused". `method`
    is a key of `FUSIONS` or "auto"; then the fused row of each fold is of the method that the other
    folds choose. `seed` draws the album folds and the resamples; `target_fpr` is the share of known
    singers' songs that may be called unknown; `listening` is how the stores' songs were heard.
    `remade`: the same songs with their vocals turned down, each member's store; weights are learnt
    on pieces of these where there are some, else on pieces of the songs as they are.

    Raises:
        UserError: stores do not fit together, a name is no legal one, or validation has fewer than
            two albums.
    """
    check_choices(method, score_norm)
    probes = fit_probes(indexes)
    songs = gather(stores, indexes, aggregate, probes, score_norm)
    if any(store.song_ids != stores[0].song_ids for store in remade):
        raise ValueError("the remade songs are not the validation songs")
    parts, owners = in_chunks(remade or stores)
    pieces = gather(parts, indexes, aggregate, probes, score_norm)
    validation = Validation(songs, pieces, owners, score_norm)
    methods = tuple(FUSIONS) if method == AUTO else (method,)
    found = cross_fit(validation, methods, seed)
    scores = {**found.experts, FUSED: found.fused}
    made_from = {store.member: store.made_from.get("checkpoint", "") for store in stores}
    best = best_expert(songs.labels, found.experts)
    fusion = Fusion(
        singers=songs.singers,
        aggregate=aggregate,
        temperatures=found.fitted.temperatures,
        pooling=found.fitted.poolings[found.method],
        votes=found.fitted.votes,
        made_from=made_from,
        probes=probes,
        score_norm=score_norm,
        listening=listening,
        results=result_rows(stores[0], scores, cross_fitted=True, seed=seed),
        methods=method_rows(songs, found, best, seed),
        choices=found.choices,
        calibration=calibration_rows(songs.labels, found),
        best_expert=best,
    )
    left_out = leave_singers_out(fusion, indexes, stores)
    if left_out:
        unknown = fit_unknown(left_out, found.fused, target_fpr, seed)
        gate = fit_gate(indexes, stores, *left_out.scores(unknown.measure, unknown.scales))
        fusion = replace(fusion, unknown=unknown, gate=gate)
    return fusion, scores


def check_choices(method: str, score_norm: str) -> None:
    """Raise `UserError` for a method or a score normalisation that does not exist."""
    for option, value, legal in (
        ("method", method, (AUTO, *FUSIONS)),
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
            found[member] = fit_probe(index.embeddings[rows], labels, albums, index.known)
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


def method_rows(evidence: Evidence, found: CrossFit, best: str, seed: int) -> tuple[MethodRow, ...]:
    """Each method beside the best single expert, which was picked with hindsight."""
    labels, albums = evidence.labels, evidence.albums
    rows, songs = [], len(labels)
    single = found.experts[best]
    for method, logs in found.methods.items():
        gain = paired_difference(
            mean_of(song_score(labels, logs)), mean_of(song_score(labels, single)),
            songs, seed, albums, 1.5,
        )  # fmt: skip
        lower = paired_difference(
            mean_of(song_nll(labels, single)), mean_of(song_nll(labels, logs)), songs, seed, albums
        )
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
