"""What searching the songs of one member needs, in memory.

Enters: a store of training songs, or what the table holds. Leaves: `MemberIndex`, the songs'
singers and albums beside the vectors of songs and segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.inference.store import AGAIN, Store
from ensemble.index.songs import as_unit, halves, heard_of, thinned
from ensemble.index.vectors import Vectors, build_vectors


@dataclass(frozen=True, eq=False)
class MemberIndex:
    """One member's known songs, ready to be searched."""

    member: str
    checkpoint: str  # hash of the checkpoint that embedded the songs
    singers: tuple[str, ...]  # label order: the trained ones, then those enrolled as they came
    known: int  # how many of the singers the member was trained on
    song_ids: tuple[str, ...]
    albums: tuple[str, ...]  # "singer/album" of each song, "" where unknown
    labels: NDArray[np.int64]  # (songs,)
    embeddings: NDArray[np.float32]  # (songs, dim), unit length
    songs: Vectors  # over `embeddings`
    segment_song: NDArray[np.int64]  # (segments,), row of the song of each segment, ascending
    segments: Vectors  # over the segments' embeddings

    @property
    def segment_labels(self) -> NDArray[np.int64]:
        """The singer of each segment, (segments,)."""
        return self.labels[self.segment_song]

    def check_apart(self, song_ids: Iterable[str]) -> None:
        """Raise `ValueError` if one of the songs is in the index: it would be its own neighbour."""
        shared = set(self.song_ids).intersection(song_ids)
        if shared:
            raise ValueError(f"{len(shared)} songs are also in the index, such as {min(shared)}")


def index_of(store: Store, kind: str = "flat") -> MemberIndex:
    """Index a store of training songs as the table would: thinned and rounded in the same way.

    Raises `ValueError` if the store holds no training song or one is unlabelled.
    """
    check_training(store)
    kept = [thinned(heard_of(store, song)) for song in range(len(store.song_ids))]
    parts = [as_unit(halves(heard.segment_embeddings)) for heard in kept]
    return MemberIndex(
        member=store.member,
        checkpoint=store.made_from.get("checkpoint", ""),
        singers=store.singers,
        known=len(store.singers),
        song_ids=store.song_ids,
        albums=store.albums,
        labels=store.labels,
        embeddings=store.embeddings,
        songs=build_vectors(store.embeddings),
        segment_song=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        segments=build_vectors(np.concatenate(parts), kind),
    )


def check_training(store: Store) -> None:
    """Raise `ValueError` unless the store holds training songs, all of them labelled."""
    if store.split != "train" or not store.song_ids:
        raise ValueError(f"need training songs, not {len(store.song_ids)} of {store.split!r}")
    if store.labels.min() < 0:
        raise ValueError("a training song has no label")


def check_index(index: MemberIndex, checkpoint_hash: str, singers: tuple[str, ...]) -> None:
    """Raise `UserError` if the index was made by another checkpoint or with other labels.

    `singers` are the member's own labels; those enrolled since come after them.
    """
    if index.checkpoint != checkpoint_hash:
        raise UserError(
            f"the index of member {index.member} was made from checkpoint {index.checkpoint}, but "
            f"the checkpoint is now {checkpoint_hash}; {AGAIN}"
        )
    if index.singers[: index.known] != singers:
        raise UserError(
            f"the index of member {index.member} knows {index.known} singers in another "
            f"order or spelling than the {len(singers)} of the member; {AGAIN}"
        )
