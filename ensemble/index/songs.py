"""What the index keeps of a song: its embedding, and a few of its segments in half precision.

Enters: stores, or what a member heard in a new song. Leaves: `NewSong` for each song, and what is
left of a member's hearing once it is `thinned` and rounded to `halves`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store

# Neighbouring segments overlap and say much the same; sixteen of a song make the index of a
# thousand songs some 10 MB.
SEGMENTS_KEPT = 16
VOICED = 0.25  # share of voice from which a segment may vote for its song's singer
FEWEST = 4  # segments that a song keeps even so, those with the most voice


def embedder_of(made_from: Mapping[str, str]) -> str:
    """What embedded a store's songs: the checkpoint, the grid, and what says where is sung.

    Embeddings may only be compared where it is the same.
    """
    parts = (made_from.get(part, "none") for part in ("checkpoint", "grid", "activity"))
    return "checkpoint {}, {}, activity {}".format(*parts)


@dataclass(frozen=True, eq=False)
class Heard:
    """What one member heard in one song."""

    embedding: NDArray[np.float32]  # (dim,), unit length
    segment_start_s: NDArray[np.float32]  # (n,), seconds from the start of the song
    segment_weight: NDArray[np.float32]  # (n,), 0 to 1: share of voice
    segment_embeddings: NDArray[np.float32]  # (n, dim), unit length
    embedded_by: str = embedder_of({})  # of the store that it is taken from


@dataclass(frozen=True, eq=False)
class NewSong:
    """A song as all members heard it."""

    song_id: str
    album: str  # "singer/album"; "" where unknown
    heard: Mapping[str, Heard]  # member → how it heard the song


def heard_of(store: Store, song: int) -> Heard:
    """What the store's member heard in the song at this place of the store."""
    part = store.segments_of(song)
    return Heard(
        store.embeddings[song],
        store.segment_start_s[part],
        store.segment_weight[part],
        store.segment_embeddings[part],
        embedder_of(store.made_from),
    )


def songs_of(stores: Sequence[Store]) -> list[NewSong]:
    """The songs of the members' stores, one store a member, all of the same songs in one order."""
    if not stores:
        raise ValueError("need the store of a member")
    first = stores[0]
    if len({store.member for store in stores}) < len(stores):
        raise ValueError("there are two stores of one member")
    for store in stores[1:]:
        if store.song_ids != first.song_ids or store.albums != first.albums:
            raise ValueError(f"{first.member!r} and {store.member!r} have stores of other songs")
    return [
        NewSong(song_id, album, {store.member: heard_of(store, song) for store in stores})
        for song, (song_id, album) in enumerate(zip(first.song_ids, first.albums, strict=True))
    ]


def thinned(heard: Heard) -> Heard:
    """At most `SEGMENTS_KEPT` segments in which someone sings: the middle ones of as many parts.

    Segments with less voice than `VOICED` show a band, which is no sign of the singer. A song in
    which no voice was found counts whole, as everywhere.
    """
    weight = heard.segment_weight if heard.segment_weight.any() else heard.segment_weight + 1
    most = np.sort(np.argsort(-weight, kind="stable")[:FEWEST])
    chosen = np.flatnonzero(weight >= VOICED)
    chosen = chosen if len(chosen) >= len(most) else most
    if len(chosen) > SEGMENTS_KEPT:
        places = (np.arange(SEGMENTS_KEPT) + 0.5) * len(chosen) / SEGMENTS_KEPT
        chosen = chosen[places.astype(np.int64)]
    if len(chosen) == len(weight):
        return heard
    return Heard(
        heard.embedding,
        heard.segment_start_s[chosen],
        heard.segment_weight[chosen],
        heard.segment_embeddings[chosen],
        heard.embedded_by,
    )


def halves(segment_embeddings: NDArray[np.float32]) -> NDArray[np.float16]:
    """Segment embeddings (n, dim) as they are kept: each value to three decimal digits."""
    return segment_embeddings.astype(np.float16)


def as_unit(kept: NDArray[np.float16]) -> NDArray[np.float32]:
    """What was kept of segment embeddings (n, dim), of unit length again."""
    rows = kept.astype(np.float32)
    with np.errstate(invalid="ignore"):  # a damaged row of zeros: who indexes it refuses NaN
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
