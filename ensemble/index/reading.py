"""The song table as members search it: rows of SQLite become `MemberIndex`.

Enters: the table's path and the members wanted. Leaves: an index for each, whose vectors come from
the FAISS files beside the table where those fit it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts import fingerprint, vectors_of
from embedder.errors import UserError, did_you_mean
from embedder.inference.store import AGAIN
from ensemble.index.database import check_fusion_id, transaction
from ensemble.index.derived import derived_vectors
from ensemble.index.kinds import BUILT_AS, KINDS, LEAST, Floats
from ensemble.index.members import MemberIndex
from ensemble.index.songs import as_unit
from ensemble.index.vectors import Vectors, recall

FLAT_UP_TO = 1_000_000  # songs; beyond, their index is of the same kind as the segments'

# The songs that are known now: those of training first, then the enrolled ones as they came.
KNOWN = "song.removed_by IS NULL"
ORDER = "song.added_by IS NOT NULL, song.added_by, song.number"


Tell = Callable[[str, str, Vectors, Floats], None]  # member, level, the index and its vectors


@dataclass(frozen=True)
class _Songs:
    """What all members share."""

    singers: tuple[str, ...]
    known: int
    song_ids: tuple[str, ...]
    albums: tuple[str, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class _Member:
    name: str
    checkpoint: str
    dim: int


def read_indexes(
    path: Path,
    members: Sequence[str] | None = None,
    kind: str | None = None,
    held: Mapping[str, Floats] | None = None,
    say: Callable[[str], None] | None = None,
    fusion: str | None = None,
) -> dict[str, MemberIndex]:
    """The index of each member, or of those named, in their order.

    `kind` of the segments' index is remembered in the table; None takes what is remembered, or flat
    where songs went and too few segments are left for it. `held`: unit embeddings (q, dim) by
    member that are not in the index; with them, `say` is told how many of their nearest an
    approximate index finds when it is built. `fusion`: id of the one that the table must belong to;
    None takes any.

    Raises `UserError` if the table cannot be used, belongs to another fusion, has no such member,
    or has too few segments for the kind.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(
            f"--index {kind}{did_you_mean(kind, KINDS)} is unknown; choose from {', '.join(KINDS)}"
        )

    def tell(member: str, level: str, made: Vectors, rows: Floats) -> None:
        if made.kind != "flat" and say is not None and held is not None and member in held:
            say(
                f"{made.kind} index of {len(made)} {level} of member {member}: recall@10 "
                f"{recall(made, rows, held[member]):.3f} against exact, {len(held[member])} queries"
            )

    with transaction(path) as connection:
        if fusion is not None:
            check_fusion_id(connection, path, fusion)
        rows = connection.execute("SELECT name, checkpoint, dim FROM member ORDER BY place")
        known = {row[0]: _Member(*row) for row in rows}
        if missing := [name for name in members or () if name not in known]:
            raise UserError(
                f"{path} has no member {missing[0]}{did_you_mean(missing[0], known)}; "
                f"it has {', '.join(known)}; {AGAIN}"
            )
        setting = connection.execute("SELECT value FROM setting WHERE name = 'kind'")
        (remembered,) = setting.fetchone()
        songs = _songs(connection)
        indexes = {
            name: _index(path, connection, songs, known[name], kind, remembered, tell)
            for name in (dict.fromkeys(members) if members is not None else known)
        }
    if kind not in (None, remembered):
        with transaction(path, write=True) as connection:
            connection.execute("UPDATE setting SET value = ? WHERE name = 'kind'", (kind,))
    return indexes


def check_enough(kind: str, segments: int) -> None:
    """Raise `UserError` if an index of this kind cannot be made of so few segments."""
    if segments < LEAST[kind]:
        raise UserError(
            f"--index {kind} needs at least {LEAST[kind]} segments, the index has {segments}; "
            "choose --index flat"
        )


def _songs(connection: sqlite3.Connection) -> _Songs:
    trained = connection.execute("SELECT name FROM trained_singer ORDER BY label").fetchall()
    rows = connection.execute(
        f"SELECT song_id, singer, album FROM song WHERE {KNOWN} ORDER BY {ORDER}"
    ).fetchall()
    names = [*(name for (name,) in trained), *(singer for _, singer, _ in rows)]
    label = {singer: number for number, singer in enumerate(dict.fromkeys(names))}
    return _Songs(
        singers=tuple(label),
        known=len(trained),
        song_ids=tuple(song for song, _, _ in rows),
        albums=tuple(album for _, _, album in rows),
        labels=np.array([label[singer] for _, singer, _ in rows], dtype=np.int64),
    )


def _index(
    path: Path,
    connection: sqlite3.Connection,
    songs: _Songs,
    member: _Member,
    asked: str | None,
    remembered: str,
    tell: Tell,
) -> MemberIndex:
    heard = _heard(connection, member, "segments, digest").fetchall()
    if len(heard) != len(songs.song_ids):
        raise UserError(f"{path} lacks what member {member.name} heard in some songs; {AGAIN}")
    counts = np.array([count for count, _ in heard], dtype=np.int64)
    kind = asked or (remembered if counts.sum() >= LEAST[remembered] else "flat")
    check_enough(kind, int(counts.sum()))

    def stacked(column: str, dtype: str, each: NDArray[np.int64]) -> NDArray[Any]:
        """A column's blobs (each, dim) below one another."""
        ends = each.cumsum()
        values = np.empty((int(ends[-1]), member.dim), dtype)
        for (blob,), end, count in zip(_heard(connection, member, column), ends, each, strict=True):
            if len(blob) != count * member.dim * values.itemsize:
                raise UserError(f"{path} is damaged: {column} of {len(blob)} bytes; {AGAIN}")
            values[end - count : end] = np.frombuffer(blob, dtype).reshape(count, member.dim)
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def derive(level: str, kind: str, vectors: Callable[[], Floats]) -> Vectors:
        stamp = fingerprint(str(BUILT_AS), level, kind, *(digest for _, digest in heard))
        file = vectors_of(path, member.name, level)
        try:
            made, rows = derived_vectors(file, stamp, kind, vectors)
        except ValueError as error:
            raise UserError(
                f"{path} is damaged: {level} of {member.name}: {error}; {AGAIN}"
            ) from None
        if rows is not None:
            tell(member.name, level, made, rows)
        return made

    embeddings: Floats = stacked("embedding", "<f4", np.ones_like(counts))
    return MemberIndex(
        member=member.name,
        checkpoint=member.checkpoint,
        singers=songs.singers,
        known=songs.known,
        song_ids=songs.song_ids,
        albums=songs.albums,
        labels=songs.labels,
        embeddings=embeddings,
        songs=derive("songs", kind if len(heard) > FLAT_UP_TO else "flat", lambda: embeddings),
        segment_song=np.repeat(np.arange(len(heard)), counts),
        segments=derive(
            "segments", kind, lambda: as_unit(stacked("segment_embeddings", "<f2", counts))
        ),
    )


def _heard(connection: sqlite3.Connection, member: _Member, columns: str) -> sqlite3.Cursor:
    """What the member heard in each known song, in the songs' order."""
    return connection.execute(
        f"SELECT {columns} FROM heard JOIN song ON song.number = heard.song "
        f"WHERE heard.member = ? AND {KNOWN} ORDER BY {ORDER}",
        (member.name,),
    )
