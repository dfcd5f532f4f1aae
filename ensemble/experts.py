"""What each expert of each member says about a set of songs, before anything is fitted.

Enters: the members' stores of the same songs, and their indexes of training songs. Leaves:
`Evidence`: song logits of `<member>/head` where the member has a head, and the neighbours from
which `<member>/knn` votes. Stores that do not describe the same songs are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.store import AGAIN, Store
from ensemble.knn import NeighbourIndex, Neighbours, Votes, neighbour_votes

HEAD, KNN = "head", "knn"
FUSED = "fused"  # name under which the pool of all experts stands beside them


def expert_name(member: str, kind: str) -> str:
    """`<member>/head` or `<member>/knn`."""
    return f"{member}/{kind}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """Raw material of all experts for the same songs in the same order."""

    singers: tuple[str, ...]  # label order
    labels: NDArray[np.int64]  # (songs,), -1 where unknown
    albums: tuple[str, ...]  # per song: what cross-fitting keeps together
    heads: dict[str, NDArray[np.float64]]  # member → song logits (songs, singers)
    neighbours: dict[str, Neighbours]  # member → nearest training songs

    @property
    def experts(self) -> tuple[str, ...]:
        """Expert names, by member in the order given, head before knn."""
        return tuple(
            expert_name(member, kind)
            for member in self.neighbours
            for kind in (HEAD, KNN)
            if kind == KNN or member in self.heads
        )

    def take(self, songs: NDArray[np.integer[Any]]) -> Evidence:
        """The evidence of some of the songs."""
        return Evidence(
            self.singers,
            self.labels[songs],
            tuple(self.albums[song] for song in songs),
            {member: logits[songs] for member, logits in self.heads.items()},
            {member: near.take(songs) for member, near in self.neighbours.items()},
        )

    def scores(self, votes: Votes) -> dict[str, NDArray[np.float64]]:
        """Uncalibrated logits (songs, singers) of every expert; neighbours vote by `votes`."""
        result = {}
        for name in self.experts:
            member, kind = name.rsplit("/", 1)
            if kind == HEAD:
                result[name] = self.heads[member]
            else:
                near = self.neighbours[member]
                result[name] = neighbour_votes(
                    near.similarities, near.labels, len(self.singers), votes.k, votes.tau
                )
        return result


def gather(
    stores: Sequence[Store], indexes: Mapping[str, NeighbourIndex], aggregate: str, k: int
) -> Evidence:
    """Evidence on the songs of the stores, one store a member, with up to `k` neighbours.

    Raises `UserError` if the stores disagree about the songs or an index is of another checkpoint
    than its store, `ValueError` if an index is missing or holds one of the (validation or test)
    songs. Files to predict, whose store names no split, may be training files: there the user asks.
    """
    check_agreement(stores)
    neighbours, heads = {}, {}
    for store in stores:
        if store.member not in indexes:
            raise ValueError(f"no index for member {store.member!r}")
        index = indexes[store.member]
        _check_pair(store, index)
        if store.split:
            index.check_apart(store.song_ids)
        neighbours[store.member] = index.search(store.embeddings, k)
        if store.segment_logits is not None:
            heads[store.member] = store.logits(aggregate)
    first = stores[0]
    albums = tuple(album or song for album, song in zip(first.albums, first.song_ids, strict=True))
    return Evidence(first.singers, first.labels, albums, heads, neighbours)


def check_agreement(stores: Sequence[Store]) -> None:
    """Raise `UserError` naming two members whose stores differ in singers, songs or labels."""
    if not stores:
        raise UserError("there is no member to fuse; train one: python app.py train-embedder")
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


def _check_pair(store: Store, index: NeighbourIndex) -> None:
    checkpoint = store.made_from.get("checkpoint", "")
    if index.checkpoint != checkpoint or index.singers != store.singers:
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
