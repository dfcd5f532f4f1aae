"""A fusion at work: what experts say of new songs becomes one answer for each.

Enters: a fusion, members' indexes, and the members' stores of the songs. Leaves: `Answers`, the
log-probabilities of every expert and of the fused answer, over the trained singers and those that
were enrolled since.

Where singers were enrolled, `ensemble/enrolled/enrolment.py` says how much of it is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.inference.store import AGAIN, Store
from ensemble.enrolled.enrolment import enlarged
from ensemble.fusion.calibration import TemperatureScaling
from ensemble.fusion.experts import FUSED, member_of
from ensemble.fusion.fitted import Fusion, check_fusion
from ensemble.index.members import MemberIndex
from ensemble.open_set import confidence, familiarity, known_score

Scores = dict[str, NDArray[np.float64]]  # expert → (songs, singers)


@dataclass(frozen=True, eq=False)
class Answers:
    """What is said of some songs."""

    singers: tuple[str, ...]  # the trained ones in label order, then the enrolled ones
    scores: Scores  # expert, and last "fused" → log-probabilities (songs, singers); NaN: no answer
    confidence: NDArray[np.float64]  # (songs,), 0 to 1: the measure that tells unknown singers
    preference: NDArray[np.float64]  # (songs,), for enrolled singers; −inf where none is enrolled
    deaf: tuple[frozenset[str], ...]  # per song: members that could not hear it


def apply_fusion(
    fusion: Fusion, expert_scores: Mapping[str, NDArray[np.floating[Any]]]
) -> NDArray[np.float64]:
    """Fused log-probabilities (songs, singers) of uncalibrated logits of each expert.

    Where an expert is missing the others' weights grow in proportion until they sum to the same
    (to equal shares, if they were all 0). Raises `ValueError` for an unknown expert or none.
    """
    return all_log_probabilities(fusion, expert_scores)[FUSED]


def all_log_probabilities(
    fusion: Fusion, expert_scores: Mapping[str, NDArray[np.floating[Any]]]
) -> Scores:
    """As `apply_fusion`, with each expert's calibrated log-probabilities before the fused ones."""
    unknown = sorted(set(expert_scores) - set(fusion.experts))
    if unknown or not expert_scores:
        raise ValueError(f"unknown experts {unknown}; this fusion has {', '.join(fusion.experts)}")
    logs = {
        name: TemperatureScaling(temperature).log_probabilities(expert_scores[name])
        for name, temperature in fusion.temperatures.items()
        if name in expert_scores
    }
    return {**logs, FUSED: fusion.fuser.log_probabilities(logs)}


def predict_songs(
    fusion: Fusion,
    stores: Sequence[Store],
    indexes: Mapping[str, MemberIndex],
    deaf: Sequence[frozenset[str]] | None = None,
) -> Answers:
    """What every expert and "fused" say of the songs of the stores, one store a member.

    `deaf`: for each song the members that could not hear it; if these are all members, all answer.
    Raises `UserError` if a store or index was made by another checkpoint than the fusion.
    """
    check_fusion(fusion, {s.member: s.made_from.get("checkpoint", "") for s in stores})
    first = indexes[stores[0].member]
    new = len(first.singers) - first.known
    if new and fusion.gate is None:
        raise UserError(f"the fusion knows too few singers for others to be enrolled; {AGAIN}")
    scores = fusion.expert_logits(stores, indexes)
    members, songs = {store.member for store in stores}, len(stores[0].song_ids)
    silent = [frozenset(found & members) for found in deaf or [frozenset()] * songs]
    silent = [frozenset() if found == members else found for found in silent]
    result = {name: np.full((songs, len(first.singers)), np.nan) for name in (*scores, FUSED)}
    sure, preference = np.zeros(songs), np.full(songs, -np.inf)
    for pattern in dict.fromkeys(silent):
        rows = np.flatnonzero([found == pattern for found in silent])
        heard = {n: s[rows] for n, s in scores.items() if member_of(n) not in pattern}
        parts = [store.take(rows) for store in stores if store.member not in pattern]
        sure[rows] = _confidence(fusion, heard, parts, indexes)
        logs = all_log_probabilities(fusion, heard)
        if new and fusion.gate is not None:
            total, preference[rows] = enlarged(fusion.gate, logs[FUSED], sure[rows], parts, indexes)
            logs = {
                name: np.pad(found, ((0, 0), (0, new)), constant_values=-np.inf)
                for name, found in logs.items()
            } | {FUSED: total}  # experts cannot name those who came later
        for name, found in logs.items():
            result[name][rows] = found
    return Answers(first.singers, result, sure, preference, tuple(silent))


def _confidence(
    fusion: Fusion,
    heard: Scores,
    stores: Sequence[Store],
    indexes: Mapping[str, MemberIndex],
) -> NDArray[np.float64]:
    """What the fusion's threshold is for (songs,), 0 to 1, by the measure that it chose."""
    unknown, raw = fusion.unknown, {"confidence": {"": confidence(heard)}}
    if unknown is None or unknown.measure == "confidence":
        return raw["confidence"][""]
    return known_score(unknown.measure, {**raw, **familiarity(stores, indexes)}, unknown.scales)
