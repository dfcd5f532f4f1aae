"""What an index keeps of songs, and one member's songs ready to be searched.

Of a song it keeps the embedding, and a few of its segments in half precision.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import fingerprint
from embedder.errors import UserError
from embedder.inference.store import AGAIN, Store
from embedder.run import vectors_of
from ensemble.index.vectors import (
    BUILT_AS,
    MIN_VECTORS,
    Floats,
    Vectors,
    build_vectors,
    cached_vectors,
)

# Neighbouring segments overlap and say much the same; sixteen of a song make the index of a
# thousand songs some 10 MB.
SEGMENTS_KEPT = 16
VOICED = 0.25  # share of voice from which a segment may vote for its song's singer
MIN_SEGMENTS = 4  # that a song keeps even so, those with the most voice

# The songs that are known now: those of training first, then the enrolled ones as they came.
KNOWN = "song.removed_by IS NULL"
ORDER = "song.added_by IS NOT NULL, song.added_by, song.number"

OnBuilt = Callable[[str, Vectors, Floats], None]  # member, its segments' index, their vectors


def embedder_of(made_from: Mapping[str, str]) -> str:
    """What embedded a store's songs: the checkpoint, the grid, and what says where is sung.

    Embeddings may only be compared where it is the same.
    """
    parts = (made_from.get(part, "none") for part in ("checkpoint", "grid", "activity"))
    return "checkpoint {}, {}, activity {}".format(*parts)


@dataclass(frozen=True, eq=False)
class SongEmbedding:
    """What the index keeps of one song for one member."""

    embedding: NDArray[np.float32]  # (dim,), unit length
    segment_embeddings: NDArray[np.float32]  # (n, dim), unit length
    embedded_by: str = embedder_of({})  # of the store that it is taken from


@dataclass(frozen=True, eq=False)
class NewSong:
    """A song as all members embedded it."""

    song_id: str
    album: str  # "singer/album"; "" where unknown
    by_member: Mapping[str, SongEmbedding]


def song_embedding_of(store: Store, song: int) -> SongEmbedding:
    """What the index keeps of the song at this place of the store."""
    part = store.segments_of(song)
    kept = kept_segments(store.segment_weight[part])
    return SongEmbedding(
        store.embeddings[song],
        store.segment_embeddings[part][kept],
        embedder_of(store.made_from),
    )


def kept_segments(weight: NDArray[np.float32]) -> NDArray[np.int64]:
    """At most `SEGMENTS_KEPT` segments in which someone sings: the middle ones of as many parts.

    Segments with less voice than `VOICED` show a band, which is no sign of the singer. A song in
    which no voice was found counts whole, as everywhere.

    Args:
        weight: (segments,), 0 to 1: each one's share of voice.

    Returns:
        Places (n,), ascending.
    """
    weight = weight if weight.any() else np.ones_like(weight)
    most = np.sort(np.argsort(-weight, kind="stable")[:MIN_SEGMENTS])
    chosen = np.flatnonzero(weight >= VOICED)
    chosen = chosen if len(chosen) >= len(most) else most
    if len(chosen) > SEGMENTS_KEPT:
        places = (np.arange(SEGMENTS_KEPT) + 0.5) * len(chosen) / SEGMENTS_KEPT
        chosen = chosen[places.astype(np.int64)]
    return chosen


def halves(segment_embeddings: NDArray[np.float32]) -> NDArray[np.float16]:
    """Segment embeddings (n, dim) as they are kept: each value to three decimal digits."""
    return segment_embeddings.astype(np.float16)


def as_unit(kept: NDArray[np.float16]) -> NDArray[np.float32]:
    """What was kept of segment embeddings (n, dim), of unit length again."""
    rows = kept.astype(np.float32)
    with np.errstate(invalid="ignore"):  # a damaged row of zeros: who indexes it refuses NaN
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


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
        NewSong(song_id, album, {s.member: song_embedding_of(s, song) for s in stores})
        for song, (song_id, album) in enumerate(zip(first.song_ids, first.albums, strict=True))
    ]


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
    """Index a store of training songs as the table would: the same segments, rounded alike.

    Raises:
        ValueError: the store holds no training song, or one without a label.
    """
    check_training(store)
    kept = [song_embedding_of(store, song) for song in range(len(store.song_ids))]
    parts = [as_unit(halves(song.segment_embeddings)) for song in kept]
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


# Out of the song table ---------------------------------------------------------------------------


def known_songs(connection: sqlite3.Connection) -> dict[str, Any]:
    """What the indexes of all members share: singers, songs, albums and labels."""
    trained = connection.execute("SELECT name FROM trained_singer ORDER BY label").fetchall()
    rows = connection.execute(
        f"SELECT song_id, singer, album FROM song WHERE {KNOWN} ORDER BY {ORDER}"
    ).fetchall()
    names = [*(name for (name,) in trained), *(singer for _, singer, _ in rows)]
    label = {singer: number for number, singer in enumerate(dict.fromkeys(names))}
    return {
        "singers": tuple(label),
        "known": len(trained),
        "song_ids": tuple(song for song, _, _ in rows),
        "albums": tuple(album for _, _, album in rows),
        "labels": np.array([label[singer] for _, singer, _ in rows], dtype=np.int64),
    }


def read_index(
    path: Path,
    connection: sqlite3.Connection,
    songs: Mapping[str, Any],
    member: str,
    dim: int,
    on_built: OnBuilt | None,
) -> MemberIndex:
    """A member's index out of the song table at `path`, `songs` being its `known_songs`.

    The FAISS files beside the table, `<member>.segments.<stamp>.faiss`, are caches that are named
    after what they are made from; stale ones are swept.
    """

    def stored(columns: str) -> list[tuple[Any, ...]]:
        """Of each known song, in their order."""
        return connection.execute(
            f"SELECT {columns} FROM embedded JOIN song ON song.number = embedded.song "
            f"WHERE embedded.member = ? AND {KNOWN} ORDER BY {ORDER}",
            (member,),
        ).fetchall()

    def stacked(column: str, dtype: str, counts: NDArray[np.int64]) -> NDArray[Any]:
        """A column's blobs, counts (songs,) rows of each, below one another: (rows, dim)."""
        blobs = [blob for (blob,) in stored(column)]
        for blob, count in zip(blobs, counts, strict=True):
            if len(blob) != count * dim * np.dtype(dtype).itemsize:
                raise UserError(f"{path} is damaged: {column} of {len(blob)} bytes; {AGAIN}")
        values = np.frombuffer(b"".join(blobs), dtype).reshape(-1, dim)
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def segment_vectors() -> Floats:
        return as_unit(stacked("segment_embeddings", "<f2", counts))

    known = stored("segments, digest")
    if len(known) != len(songs["song_ids"]):
        raise UserError(f"{path} lacks embeddings of some songs by member {member}; {AGAIN}")
    counts = np.array([count for count, _ in known], dtype=np.int64)
    total = int(counts.sum())
    (kind,) = connection.execute("SELECT value FROM setting WHERE name = 'kind'").fetchone()
    kind = kind if total >= MIN_VECTORS[kind] else "flat"
    (checkpoint,) = connection.execute(
        "SELECT checkpoint FROM member WHERE name = ?", (member,)
    ).fetchone()
    embeddings: Floats = stacked("embedding", "<f4", np.ones_like(counts))
    stamp = fingerprint(str(BUILT_AS), kind, *(digest for _, digest in known))
    file = vectors_of(path, member, stamp)
    try:
        segments, built_from = cached_vectors(file, kind, (total, dim), segment_vectors)
        index = MemberIndex(
            member=member,
            checkpoint=checkpoint,
            embeddings=embeddings,
            songs=build_vectors(embeddings),
            segment_song=np.repeat(np.arange(len(counts)), counts),
            segments=segments,
            **songs,
        )
    except ValueError as error:
        raise UserError(f"{path} is damaged: member {member}: {error}; {AGAIN}") from None
    if built_from is not None:
        for stale in path.parent.glob(vectors_of(path, escape(member), "*").name):
            if stale != file:
                with suppress(OSError):  # open elsewhere: it does no harm
                    stale.unlink()
        if on_built is not None:
            on_built(member, segments, built_from)
    return index
