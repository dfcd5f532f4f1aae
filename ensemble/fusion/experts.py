"""What each expert of each member says about a set of songs, before anything is fitted.

A new expert is an entry in `EXPERTS`. Stores that do not describe the same songs are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embedder.errors import Command, UserError
from embedder.inference.store import AGAIN, Store
from ensemble.fusion.knn import (
    Cohort,
    Neighbours,
    SegmentNeighbours,
    Votes,
    cohort_of,
    segment_neighbours,
    song_neighbours,
)
from ensemble.fusion.probe import Probe
from ensemble.index.members import MemberIndex

FUSED = "fused"  # name of the answer of all experts, which stands last among theirs
NO_VOTES = Votes()  # for experts of which nothing is chosen

Raw = NDArray[np.float64] | Neighbours | SegmentNeighbours


@dataclass(frozen=True)
class ExpertInput:
    """What an expert scores: one member's embeddings of the query songs, by its index."""

    store: Store
    index: MemberIndex
    aggregate: str  # how segment logits become song logits: a key of `AGGREGATES`
    probe: Probe | None
    cohort: Cohort | None  # unknown singers' songs, where similarities are normalised
    without: int | None = None  # no neighbour may be a song of this singer


@dataclass(frozen=True)
class Expert:
    """One way to turn a member's embeddings into logits."""

    about: str
    score: Callable[[ExpertInput], Raw | None]  # None: this member has no such expert
    votes: tuple[Votes, ...] = (NO_VOTES,)  # among which cross-validation chooses
    normalised_votes: tuple[Votes, ...] = (NO_VOTES,)  # the same, in standard deviations


def expert_name(member: str, kind: str) -> str:
    """`<member>/<kind>`, a kind being a key of `EXPERTS`."""
    return f"{member}/{kind}"


def kind_of(expert: str) -> str:
    """The key of `EXPERTS` in an expert's name."""
    return expert.rsplit("/", 1)[1]


def member_of(expert: str) -> str:
    """The member in an expert's name."""
    return expert.rsplit("/", 1)[0]


@dataclass(frozen=True, eq=False)
class ExpertScores:
    """What all experts say of the same songs in the same order."""

    singers: tuple[str, ...]  # label order; those that the experts choose among
    labels: NDArray[np.int64]  # (songs,), -1 where unknown
    albums: tuple[str, ...]  # per song: what cross-fitting keeps together
    raw: dict[str, Raw]  # expert → logits (songs, singers), or neighbours

    @property
    def experts(self) -> tuple[str, ...]:
        """Expert names, by member in the order given, then in the order of `EXPERTS`."""
        return tuple(self.raw)

    def logits(self, expert: str, votes: Votes) -> NDArray[np.float64]:
        """Uncalibrated logits (songs, singers) of an expert whose neighbours vote by `votes`."""
        return raw_logits(self.raw[expert], len(self.singers), votes)

    def scores(self, votes: Mapping[str, Votes]) -> dict[str, NDArray[np.float64]]:
        """Uncalibrated logits (songs, singers) of every expert."""
        return {name: self.logits(name, votes.get(name, NO_VOTES)) for name in self.raw}


def raw_logits(raw: Raw, singers: int, votes: Votes) -> NDArray[np.float64]:
    """Logits (songs, singers) of what an expert scored."""
    return raw if isinstance(raw, np.ndarray) else raw.logits(singers, votes)


def _head(given: ExpertInput) -> Raw | None:
    store = given.store
    return None if store.segment_logits is None else store.logits(given.aggregate)


def _probe(given: ExpertInput) -> Raw | None:
    return None if given.probe is None else given.probe.logits(given.store.embeddings)


def _knn_song(given: ExpertInput) -> Raw:
    return song_neighbours(given.store, given.index, given.cohort, given.without)


def _knn_segment(given: ExpertInput) -> Raw:
    return segment_neighbours(given.store, given.index, given.cohort, given.without)


def _grid(taus: Sequence[float]) -> tuple[Votes, ...]:
    return tuple(Votes(k, tau) for k in (10, 1, 3, 5, 20, 50) for tau in taus)


# The first of each grid is what stands unless another is clearly better.
EXPERTS: dict[str, Expert] = {
    "head": Expert("the classification head, margin-free", _head),
    "knn_song": Expert(
        "the song's nearest training songs vote",
        _knn_song,
        _grid((0.03, 0.01, 0.1, 0.3)),
        _grid((0.5, 0.2, 1.0, 3.0)),
    ),
    "knn_segment": Expert(
        "every segment's nearest training segments vote",
        _knn_segment,
        _grid((0.03, 0.01, 0.1, 0.3)),
        _grid((0.5, 0.2, 1.0, 3.0)),
    ),
    "probe": Expert("logistic regression on song embeddings", _probe),
}


def candidates(expert: str, score_norm: str) -> tuple[Votes, ...]:
    """The votes among which an expert's are chosen, the default first."""
    kind = EXPERTS[kind_of(expert)]
    return kind.votes if score_norm == "none" else kind.normalised_votes


def gather(
    stores: Sequence[Store],
    indexes: Mapping[str, MemberIndex],
    aggregate: str,
    probes: Mapping[str, Probe] | None = None,
    score_norm: str = "none",
    wanted: Iterable[str] | None = None,
    without: int | None = None,
) -> ExpertScores:
    """Scores of the songs of the stores, one store a member, of all experts or those `wanted`.

    Neighbours are songs of trained singers. `without`: none of the singer of this label.

    Raises `UserError` if the stores disagree about the songs or an index is of another checkpoint
    than its store, `ValueError` if an index is missing or holds one of the (validation or test)
    songs. Files to predict, whose store names no split, may be training files: there the user asks.
    """
    check_agreement(stores)
    raw: dict[str, Raw] = {}
    for store in stores:
        if store.member not in indexes:
            raise ValueError(f"no index for member {store.member!r}")
        index = indexes[store.member]
        _check_pair(store, index)
        if store.split:
            index.check_apart(store.song_ids)
        cohort = None if score_norm == "none" else _cohort(index, without)
        given = ExpertInput(
            store, index, aggregate, (probes or {}).get(store.member), cohort, without
        )
        for kind, expert in EXPERTS.items():
            name = expert_name(store.member, kind)
            if wanted is None or name in wanted:
                found = expert.score(given)
                if found is not None:
                    raw[name] = found
    first = stores[0]
    return ExpertScores(first.singers, first.labels, first.groups, raw)


@lru_cache(maxsize=8)
def _cohort(index: MemberIndex, without: int | None) -> Cohort | None:
    return cohort_of(index, without)


def check_agreement(stores: Sequence[Store]) -> None:
    """Raise `UserError` naming two members whose stores differ in singers, songs or labels."""
    if not stores:
        raise UserError(f"there is no member to fuse; train one: {Command('train-embedder')}")
    first = stores[0]
    for number, other in enumerate(stores[1:], start=1):
        if other.member in {store.member for store in stores[:number]}:
            raise UserError(f"member {other.member} is named twice")
        pair = f"members {first.member} and {other.member}"
        if other.singers != first.singers:
            raise UserError(
                f"{pair} were trained on other singers ({len(first.singers)} and "
                f"{len(other.singers)}, differing in {_example(first.singers, other.singers)}); "
                "train them on the same catalogue, or choose with --members"
            )
        if other.split != first.split or other.song_ids != first.song_ids:
            raise UserError(
                f"{pair} have stores of other songs ({len(first.song_ids)} of "
                f"{first.split or 'no split'} and {len(other.song_ids)} of "
                f"{other.split or 'no split'}, differing in "
                f"{_example(first.song_ids, other.song_ids)}); {AGAIN}"
            )
        if other.albums != first.albums or not np.array_equal(other.labels, first.labels):
            raise UserError(f"{pair} have stores that label the same songs otherwise; {AGAIN}")


def _check_pair(store: Store, index: MemberIndex) -> None:
    checkpoint = store.made_from.get("checkpoint", "")
    if index.checkpoint != checkpoint or index.singers[: index.known] != store.singers:
        raise UserError(
            f"the {store.split or 'prediction'} store of member {store.member} and its index of "
            f"training songs come from other checkpoints ({checkpoint or 'none'} and "
            f"{index.checkpoint or 'none'}) or singers; {AGAIN}"
        )


def _example(first: Sequence[str], second: Sequence[str]) -> str:
    """One name that only one side has, or the first place where the orders differ."""
    only = sorted(set(first).symmetric_difference(second))
    if only:
        return only[0]
    pairs = zip(first, second, strict=True)
    return next((f"the order of {a} and {b}" for a, b in pairs if a != b), "nothing but the split")
