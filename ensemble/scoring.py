"""New songs scored by a fusion: what every expert says of them, and all experts together.

A singer's score is a log-probability. It is over the trained singers and those that were enrolled
since; `ensemble/enrollment_gate.py` says how much of it belongs to the enrolled ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import Command, UserError
from embedder.inference.config import segment_s_of
from embedder.inference.store import AGAIN, Store
from ensemble.enrollment_gate import enlarged
from ensemble.fusion.calibration import TemperatureScaling
from ensemble.fusion.experts import FUSED, member_of
from ensemble.fusion.fitted import Fusion, check_fusion
from ensemble.index.members import MemberIndex
from ensemble.open_set import (
    PARTS,
    UNKNOWN,
    OpenSetThreshold,
    confidence,
    familiarity,
    is_unknown,
    known_score,
)

Scores = dict[str, NDArray[np.float64]]  # expert → (songs, singers)


@dataclass(frozen=True, eq=False)
class SongScores:
    """What a fusion says of some songs."""

    singers: tuple[str, ...]  # the trained ones in label order, then the enrolled ones
    scores: Scores  # expert, and last "fused" → log-probabilities (songs, singers); NaN: no answer
    confidence: NDArray[np.float64]  # (songs,), 0 to 1: the measure that finds unknown singers
    preference: NDArray[np.float64]  # (songs,), for enrolled singers; −inf where none is enrolled
    voice: NDArray[np.float64]  # (songs,), lowest share of voice, 0 to 1, that a member found
    unavailable: tuple[tuple[str, ...], ...]  # per song: fused members without a part in it

    def take(self, songs: NDArray[np.integer[Any]]) -> SongScores:
        """Those of some songs, in the order given."""
        return SongScores(
            self.singers,
            {name: logs[songs] for name, logs in self.scores.items()},
            self.confidence[songs],
            self.preference[songs],
            self.voice[songs],
            tuple(self.unavailable[song] for song in songs),
        )


def all_log_probabilities(
    fusion: Fusion, expert_scores: Mapping[str, NDArray[np.floating[Any]]]
) -> Scores:
    """Calibrated log-probabilities (songs, singers) of each expert, and last of "fused".

    Where an expert is missing the others' weights grow in proportion until they sum to the same
    (to equal shares, if they were all 0).

    Args:
        fusion: What was fitted on validation songs.
        expert_scores: Expert → uncalibrated logits (songs, singers).

    Raises:
        ValueError: An expert is unknown, or there is none.
    """
    unknown = sorted(set(expert_scores) - set(fusion.experts))
    if unknown or not expert_scores:
        raise ValueError(f"unknown experts {unknown}; this fusion has {', '.join(fusion.experts)}")
    logs = {
        name: TemperatureScaling(temperature).log_probabilities(expert_scores[name])
        for name, temperature in fusion.temperatures.items()
        if name in expert_scores
    }
    return {**logs, FUSED: fusion.fuser.log_probabilities(logs)}


def without_vocals(stores: Sequence[Store]) -> list[frozenset[str]]:
    """For each song the members that take vocals and found none in it."""
    absent = [
        (store.voice() == 0) & (store.made_from.get("activity") == "energy") for store in stores
    ]
    return [
        frozenset(store.member for store, none in zip(stores, row, strict=True) if none)
        for row in np.array(absent).T
    ]


def score_songs(
    fusion: Fusion,
    stores: Sequence[Store],
    indexes: Mapping[str, MemberIndex],
    unavailable: Sequence[frozenset[str]] | None = None,
) -> SongScores:
    """What every expert and "fused" say of the songs of the stores, one store a member.

    Args:
        fusion: What was fitted on validation songs.
        stores: Of the same songs. Members of the fusion may be missing; the others' weights grow.
        indexes: The members' indexes of known singers' songs.
        unavailable: For each song the members that have no part in it, as `without_vocals` finds
            them; where these are all members, all answer.

    Raises:
        UserError: A store or index was made by another checkpoint than the fusion.
    """
    check_fusion(fusion, {s.member: s.made_from.get("checkpoint", "") for s in stores})
    first = indexes[stores[0].member]
    new = len(first.singers) - first.known
    if new and fusion.gate is None:
        raise UserError(f"the fusion knows too few singers for others to be enrolled; {AGAIN}")
    raw = fusion.expert_logits(stores, indexes)
    members, songs = {store.member for store in stores}, len(stores[0].song_ids)
    absent = [frozenset(found & members) for found in unavailable or [frozenset()] * songs]
    absent = [frozenset() if found == members else found for found in absent]
    result = {name: np.full((songs, len(first.singers)), np.nan) for name in (*raw, FUSED)}
    sure, preference = np.zeros(songs), np.full(songs, -np.inf)
    for pattern in dict.fromkeys(absent):
        rows = np.flatnonzero([found == pattern for found in absent])
        mine = {n: s[rows] for n, s in raw.items() if member_of(n) not in pattern}
        parts = [store.take(rows) for store in stores if store.member not in pattern]
        sure[rows] = _confidence(fusion, mine, parts, indexes)
        logs = all_log_probabilities(fusion, mine)
        if new and fusion.gate is not None:
            total, preference[rows] = enlarged(fusion.gate, logs[FUSED], sure[rows], parts, indexes)
            logs = {
                name: np.pad(found, ((0, 0), (0, new)), constant_values=-np.inf)
                for name, found in logs.items()
            } | {FUSED: total}  # experts cannot name those who came later
        for name, found in logs.items():
            result[name][rows] = found
    taken = [[store.member not in found for found in absent] for store in stores]
    voice = np.where(taken, [store.voice() for store in stores], np.inf).min(axis=0)
    missing = [name for name in indexes if name not in members]
    gone = tuple(tuple(n for n in indexes if n in found or n in missing) for found in absent)
    return SongScores(first.singers, result, sure, preference, voice, gone)


def join_scores(parts: Sequence[SongScores]) -> SongScores:
    """Scores of several batches as one; an expert that one of them lacks has NaN there."""
    names = [n for n in dict.fromkeys(n for part in parts for n in part.scores) if n != FUSED]
    scores = {
        name: np.concatenate(
            [p.scores.get(name, np.full_like(p.scores[FUSED], np.nan)) for p in parts]
        )
        for name in (*names, FUSED)
    }
    return SongScores(
        parts[0].singers,
        scores,
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.preference for part in parts]),
        np.concatenate([part.voice for part in parts]),
        tuple(gone for part in parts for gone in part.unavailable),
    )


def threshold_of(
    fusion: Fusion, singers: Sequence[str], members: Sequence[str]
) -> OpenSetThreshold:
    """What says when a song is of none of the singers, trained and enrolled.

    Raises:
        UserError: There is none, for the fusion was fitted on too few singers; or a singer bears
            the name that stands for nobody; or the threshold is of the energy of heads, and none
            of these `members` has one.
    """
    if UNKNOWN in singers:
        raise UserError(
            f"a singer is named {UNKNOWN}: --unknown would say two things in one word; predict "
            "without it, or rename the singer's folder and prepare, train and fuse again (an "
            "enrolled one: unenroll, and enroll under another name)"
        )
    if fusion.unknown is None:
        raise UserError(
            "--unknown needs a threshold, which is fitted by leaving singers out: there must be "
            f"three or more, and two with validation songs; run again: {Command('fuse')}"
        )
    with_head = fusion.unknown.scales.get("energy", {})
    if "energy" in PARTS[fusion.unknown.measure] and not {*members} & {*with_head}:
        raise UserError(
            f"--unknown goes by the energy of heads, which {' and '.join(members)} lack; predict "
            f"without --unknown, or with a member that has a head: --members {','.join(with_head)}"
        )
    return fusion.unknown


def unknown_songs(unknown: OpenSetThreshold, found: SongScores, trained: int) -> NDArray[np.bool_]:
    """Which songs (songs,) are of none of the singers, of whom the first `trained` were trained."""
    enrolled = found.scores[FUSED].argmax(axis=1) >= trained
    return is_unknown(unknown, found.confidence, enrolled, found.preference)


def segments_as_songs(stores: Sequence[Store]) -> list[Store]:
    """Stores of one song, in which each segment of the first member's stands as a song.

    Members whose segments lie at other places than the first one's are left out.
    """
    first = stores[0].segment_start_s
    alike = [
        store
        for store in stores
        if len(store.segment_start_s) == len(first)
        and np.allclose(store.segment_start_s, first, atol=1e-3)
    ]
    return [
        replace(
            store,
            song_ids=tuple(map(str, range(len(first)))),
            albums=("",) * len(first),
            labels=np.full(len(first), -1, dtype=np.int64),
            embeddings=store.segment_embeddings,
            segment_song=np.arange(len(first), dtype=np.int64),
        )
        for store in alike
    ]


def segment_ends(store: Store, seconds: float) -> list[float]:
    """Where each segment of a song of this length ends, s.

    Where the length of a segment is not known, it ends where the next one begins.
    """
    length = segment_s_of(store.made_from)
    starts = [float(start) for start in store.segment_start_s]
    if length is not None:
        return [min(start + length, seconds) for start in starts]
    return [*starts[1:], seconds]


def _confidence(
    fusion: Fusion,
    scores: Scores,
    stores: Sequence[Store],
    indexes: Mapping[str, MemberIndex],
) -> NDArray[np.float64]:
    """What the fusion's threshold is for (songs,), 0 to 1, by the measure that it chose."""
    unknown, raw = fusion.unknown, {"confidence": {"": confidence(scores)}}
    if unknown is None or unknown.measure == "confidence":
        return raw["confidence"][""]
    return known_score(unknown.measure, {**raw, **familiarity(stores, indexes)}, unknown.scales)
