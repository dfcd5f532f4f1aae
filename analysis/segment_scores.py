"""Probabilities of singers for each segment of a song, by a member's head or its neighbours' votes.

`top_singers` makes them small enough for a page, `first_choices` keeps the singer named first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.measures.expert_scores import evidence_of
from analysis.run_data import FUSE, RunData
from embedder.inference.config import segment_s_of
from embedder.inference.store import Store
from embedder.metrics import ranking
from ensemble.fusion.calibration import log_softmax
from ensemble.fusion.experts import NO_VOTES, expert_name
from ensemble.fusion.knn import SegmentNeighbours

MOST = 5  # singers kept of each segment, where there is room
FEWEST = 3  # before segments are taken together
BYTE = 256  # singers that one byte can number

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class SegmentScores:
    """One member's probabilities over time, the songs one after the other."""

    member: str
    how: str  # "head" or "neighbours"
    counts: NDArray[np.int64]  # (songs,), segments of each song
    starts_s: NDArray[np.float64]  # (segments,), ascending within a song
    weights: NDArray[np.float64]  # (segments,), share of voice, 0 to 1
    probabilities: NDArray[np.float32]  # (segments, singers), rows sum to 1
    segment_s: float | None  # length of a segment, where it is known
    voiced: bool  # somebody listened for voice; else all weights are 1


@dataclass(frozen=True, eq=False)
class TopSingers:
    """The few most probable singers of each segment, or of some segments taken together."""

    counts: NDArray[np.int64]  # (songs,)
    starts_s: NDArray[np.float64]  # (rows,), mean start of what was taken together
    weights: NDArray[np.float64]  # (rows,), mean
    labels: NDArray[np.int64]  # (rows, kept), most probable first, the true singer always there
    probabilities: NDArray[np.float64]  # (rows, kept)


def segment_scores(run_data: RunData, member: str, songs: Sequence[str]) -> SegmentScores | str:
    """A member's answers to the segments of the named songs, or why there are none.

    A head's are the softmax of its logits, not calibrated; a neighbour's vote is what
    `ensemble.fusion.knn` counts, as shares.
    """
    stores = [store for store in run_data.stores(member) if store.split != "train"]
    if any(store.segment_logits is None for store in stores):
        return _neighbours(run_data, member, songs)
    logits = [(store, store.segment_logits) for store in stores if store.segment_logits is not None]
    return _scores_of(logits, "head", songs)


def _neighbours(run_data: RunData, member: str, songs: Sequence[str]) -> SegmentScores | str:
    name = expert_name(member, "knn_segment")
    votes = run_data.fusion.votes.get(name, NO_VOTES) if run_data.fusion else NO_VOTES
    found = []
    for store, evidence in evidence_of(run_data, member, [name]).values():
        raw = evidence.raw[name]
        assert isinstance(raw, SegmentNeighbours)
        found.append((store, raw.near.logits(len(evidence.singers), votes)))
    if not found:
        return (
            f"Member {member} has no classification head, and no fusion says how its neighbours "
            f"vote; {FUSE}"
        )
    return _scores_of(found, "neighbours", songs)


def _scores_of(
    parts: Sequence[tuple[Store, Floats]], how: str, songs: Sequence[str]
) -> SegmentScores:
    """The songs' segments in the order of `songs`, each song's by ascending start."""
    place = {
        song: (number, row)
        for number, (store, _) in enumerate(parts)
        for row, song in enumerate(store.song_ids)
    }
    counts, starts, weights, probabilities = [], [], [], []
    for song in songs:
        number, row = place[song]
        store, logits = parts[number]
        part = store.segments_of(row)
        order = part.start + np.argsort(store.segment_start_s[part], kind="stable")
        counts.append(len(order))
        starts.append(store.segment_start_s[order].astype(np.float64))
        weights.append(store.segment_weight[order].astype(np.float64))
        probabilities.append(np.exp(log_softmax(logits[order])).astype(np.float32))
    made_from = parts[0][0].made_from
    return SegmentScores(
        member=parts[0][0].member,
        how=how,
        counts=np.array(counts, dtype=np.int64),
        starts_s=np.concatenate(starts),
        weights=np.concatenate(weights),
        probabilities=np.concatenate(probabilities),
        segment_s=segment_s_of(made_from),
        voiced=made_from.get("activity", "none") != "none",
    )


def room(counts: Sequence[NDArray[np.int64]], singers: int, budget: int) -> tuple[int, int]:
    """(singers kept of each segment, segments taken together) that fit `budget` characters.

    `counts`: segments of each song, for each member. A row takes two bytes for its start, one for
    its voice, one for each probability and one or two for each singer; base64 makes four
    characters of three bytes.
    """
    label = 1 if singers <= BYTE else 2

    def fits(kept: int, together: int) -> bool:
        rows = sum(int((-(-count // together)).sum()) for count in counts)
        return rows * (3 + kept * (1 + label)) * 4 / 3 <= budget

    most = min(MOST, singers)
    for kept in range(most, min(FEWEST, singers) - 1, -1):
        if fits(kept, 1):
            return kept, 1
    kept, together = min(FEWEST, singers), 2
    longest = max((int(count.max(initial=1)) for count in counts), default=1)
    while not fits(kept, together) and together < longest:
        together += 1
    return kept, together


def top_singers(
    scores: SegmentScores, truth: NDArray[np.int64], kept: int, together: int
) -> TopSingers:
    """The `kept` most probable singers of every `together` segments, in the songs' order.

    `truth` (songs,): the true singer takes the last place where it has none of its own.
    """
    numbers = np.repeat(np.arange(len(scores.counts)), scores.counts)
    firsts = np.cumsum(scores.counts) - scores.counts
    within = np.arange(len(numbers)) - firsts[numbers]
    starts = np.flatnonzero(within % together == 0)
    sizes = np.diff(np.append(starts, len(numbers)))
    owners = numbers[starts]

    def mean(values: Floats) -> NDArray[np.float64]:
        sums = np.add.reduceat(values.astype(np.float64), starts, axis=0)
        return np.asarray(sums / (sizes if values.ndim == 1 else sizes[:, None]))

    probabilities = mean(scores.probabilities)
    labels = np.argsort(-probabilities, axis=1, kind="stable")[:, :kept]
    absent = ~(labels == truth[owners][:, None]).any(axis=1)
    labels[absent, -1] = truth[owners][absent]
    return TopSingers(
        np.bincount(owners, minlength=len(scores.counts)),
        mean(scores.starts_s),
        mean(scores.weights),
        labels,
        np.take_along_axis(probabilities, labels, axis=1),
    )


@dataclass(frozen=True, eq=False)
class FirstChoices:
    """The singer that each segment names first, the songs one after the other."""

    how: str  # who says it, in a sentence
    ends: NDArray[np.int64]  # (songs + 1,), where each song's segments begin, and the last end
    labels: NDArray[np.int64]  # (segments,), in the order of time within a song

    def runs(self, song: int) -> list[int]:
        """`[singer, segments, singer, segments, …]` of a song from its beginning to its end."""
        labels = self.labels[self.ends[song] : self.ends[song + 1]]
        starts = np.flatnonzero(np.diff(labels, prepend=-1))
        lengths = np.diff(starts, append=len(labels))
        return [int(one) for one in np.stack([labels[starts], lengths], axis=1).ravel()]


def first_choices(run_data: RunData, songs: Sequence[str]) -> FirstChoices | str:
    """Of the named predicted songs, or why nothing is used of segments.

    The mean of all members' probabilities, where their segments lie at the same places; else those
    of the first member that says anything.
    """
    found = [segment_scores(run_data, name, songs) for name in run_data.members]
    scores = [one for one in found if isinstance(one, SegmentScores)]
    if not scores:
        return " ".join(one for one in found if isinstance(one, str))
    first = scores[0]
    alike = all(
        np.array_equal(one.counts, first.counts)
        and np.allclose(one.starts_s, first.starts_s, atol=1e-3)
        for one in scores
    )
    used = scores if alike else scores[:1]
    sources = [f"{one.member} ({_source(one)})" for one in used]
    how = (
        f"Segments are those of {sources[0]}."
        if len(used) == 1
        else f"Segments: mean of what {', '.join(sources)} say."
    )
    mean = np.mean([one.probabilities for one in used], axis=0)
    ends = np.concatenate([[0], np.cumsum(first.counts)])
    return FirstChoices(how, ends, ranking(mean)[:, 0])


def _source(scores: SegmentScores) -> str:
    return "its neighbours' votes" if scores.how == "neighbours" else "its head"
