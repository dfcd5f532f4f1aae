"""The index's song table in SQLite: the only truth about which songs are known, and its changes.

Enters: train stores, and later the songs of singers who are enrolled. Leaves: one `.sqlite` file,
and from it a `MemberIndex` for each member. Every change is one transaction and can be taken back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np

from embedder.artifacts import fingerprint
from embedder.errors import UserError, did_you_mean
from embedder.inference.store import AGAIN, UNIT_TOLERANCE, Store
from embedder.text import composed
from ensemble.index.database import (
    EMBEDDED_BY,
    check_fusion_id,
    embedded_by,
    new_table,
    transaction,
)
from ensemble.index.derived import forget_others
from ensemble.index.kinds import KINDS
from ensemble.index.members import check_training
from ensemble.index.reading import check_enough
from ensemble.index.reading import read_indexes as read_indexes
from ensemble.index.songs import SEGMENTS_KEPT as SEGMENTS_KEPT
from ensemble.index.songs import Heard as Heard
from ensemble.index.songs import NewSong as NewSong
from ensemble.index.songs import embedder_of, halves, thinned
from ensemble.index.songs import songs_of as songs_of


@dataclass(frozen=True)
class Change:
    """One change of the table since it was made."""

    number: int  # from 1
    action: str  # "enroll" or "unenroll"
    singer: str
    songs: int  # how many came or went
    when: str  # UTC, ISO 8601


def write_table(
    path: Path,
    train_stores: Sequence[Store],
    kind: str = "flat",
    enrolled: Mapping[str, Sequence[NewSong]] = MappingProxyType({}),
    fusion: str = "",
) -> None:
    """A new table of the members' training songs; what was enrolled before is gone.

    `enrolled`: singer → songs that are enrolled at once, a change for each singer. `fusion`: id of
    the one that the table belongs to.
    Raises `UserError` if they have too few segments for the kind or `enroll` would refuse a song,
    `ValueError` if a store holds no labelled training songs or the stores disagree.
    """
    if kind not in KINDS:
        raise ValueError(f"an index is one of {', '.join(KINDS)}, not {kind!r}")
    songs = songs_of(train_stores)
    first = train_stores[0]
    for store in train_stores:
        check_training(store)
        if store.singers != first.singers or not np.array_equal(store.labels, first.labels):
            raise ValueError(f"{first.member!r} and {store.member!r} label the songs otherwise")
        counts = np.bincount(store.segment_song)
        check_enough(kind, int(np.minimum(counts, SEGMENTS_KEPT).sum()))
    members = [store.member for store in train_stores]
    with new_table(path) as connection:
        connection.executemany(
            "INSERT INTO setting VALUES (?, ?)",
            [
                ("kind", kind),
                ("fusion", fusion),
                *((EMBEDDED_BY + s.member, embedder_of(s.made_from)) for s in train_stores),
            ],
        )
        connection.executemany(
            "INSERT INTO member VALUES (?, ?, ?, ?)",
            [
                (s.member, place, s.made_from.get("checkpoint", ""), s.embeddings.shape[1])
                for place, s in enumerate(train_stores)
            ],
        )
        connection.executemany(
            "INSERT INTO trained_singer VALUES (?, ?)", list(enumerate(first.singers))
        )
        for song, label in zip(songs, first.labels, strict=True):
            _insert(connection, members, song, first.singers[label], None)
        for singer, new in enrolled.items():
            _enroll(connection, singer, new)
    forget_others(path, members)


def enroll(path: Path, singer: str, songs: Sequence[NewSong], fusion: str | None = None) -> Change:
    """Add songs of a singer, known or new; a change that `undo` takes back.

    `fusion`: id of the one that the table must belong to; None takes any. Raises `UserError` if it
    belongs to another, if there is no song, if one is in the index already or stands twice, or if a
    member of the index did not embed it, or by another checkpoint or on another grid than the
    index's songs; `ValueError` for embeddings that do not fit their member.
    """
    if not singer.strip():
        raise UserError("--singer needs a name")
    if not songs:
        raise UserError(f"there is no song to enroll {singer} with")
    with transaction(path, write=True) as connection:
        if fusion is not None:
            check_fusion_id(connection, path, fusion)
        return _enroll(connection, singer, songs)


def unenroll(path: Path, singer: str) -> Change:
    """Take the enrolled songs of a singer out; a change that `undo` takes back.

    The name may be in any Unicode form. Raises `UserError` if the singer has no enrolled song: what
    a member was trained on stays.
    """
    with transaction(path, write=True) as connection:
        enrolled = "added_by IS NOT NULL AND removed_by IS NULL"
        found = connection.execute(f"SELECT DISTINCT singer FROM song WHERE {enrolled}").fetchall()
        wanted = composed(singer.strip())
        singer = next((name for (name,) in found if composed(name) == wanted), wanted)
        mine = f"singer = ? AND {enrolled}"
        (songs,) = connection.execute(
            f"SELECT count(*) FROM song WHERE {mine}", (singer,)
        ).fetchone()
        if not songs:
            raise UserError(_nothing_enrolled(connection, singer))
        change = _record(connection, "unenroll", singer, songs)
        connection.execute(f"UPDATE song SET removed_by = ? WHERE {mine}", (change.number, singer))
    return change


def undo(path: Path) -> Change:
    """Take the last change back and forget it; raise `UserError` if there is none."""
    with transaction(path, write=True) as connection:
        changes = _changes(connection)
        if not changes:
            raise UserError(
                "there is nothing to undo: no singer was enrolled since the run was fused"
            )
        connection.execute("DELETE FROM change WHERE number = ?", (changes[-1].number,))
    return changes[-1]


def history(path: Path) -> list[Change]:
    """The changes since the table was made, oldest first."""
    with transaction(path) as connection:
        return _changes(connection)


def _enroll(connection: sqlite3.Connection, singer: str, songs: Sequence[NewSong]) -> Change:
    dims = dict(connection.execute("SELECT name, dim FROM member ORDER BY place"))
    embedders = embedded_by(connection)
    change = _record(connection, "enroll", singer, len(songs))
    for song in songs:
        there = "SELECT singer FROM song WHERE song_id = ? AND removed_by IS NULL"
        for (owner,) in connection.execute(there, (song.song_id,)):
            raise UserError(f"{song.song_id} is in the index already, as a song of {owner}")
        _check_song(song, dims, embedders)
        _insert(connection, list(dims), song, singer, change.number)
    return change


def _changes(connection: sqlite3.Connection) -> list[Change]:
    rows = connection.execute(
        "SELECT number, action, singer, songs, at FROM change ORDER BY number"
    )
    return [Change(*row) for row in rows]


def _record(connection: sqlite3.Connection, action: str, singer: str, songs: int) -> Change:
    (number,) = connection.execute("SELECT ifnull(max(number), 0) + 1 FROM change").fetchone()
    change = Change(number, action, singer, songs, datetime.now(UTC).isoformat(timespec="seconds"))
    row = (change.number, change.action, change.singer, change.songs, change.when)
    connection.execute("INSERT INTO change VALUES (?, ?, ?, ?, ?)", row)
    return change


def _nothing_enrolled(connection: sqlite3.Connection, singer: str) -> str:
    """Why a singer cannot be taken out."""
    trained = connection.execute("SELECT 1 FROM trained_singer WHERE name = ?", (singer,))
    if trained.fetchone():
        return f"{singer} has no enrolled song; the songs that members were trained on stay"
    query = "SELECT DISTINCT singer FROM song WHERE added_by IS NOT NULL AND removed_by IS NULL"
    enrolled = sorted(name for (name,) in connection.execute(query))
    return (
        f"{singer} is not enrolled{did_you_mean(singer, enrolled)}; "
        f"enrolled are: {', '.join(enrolled) or 'none'}"
    )


def _check_song(song: NewSong, dims: Mapping[str, int], embedders: Mapping[str, str]) -> None:
    for member, dim in dims.items():
        if member not in song.heard:
            raise UserError(f"member {member} did not hear {song.song_id}, but it is in the index")
        heard = song.heard[member]
        if heard.embedded_by != embedders.get(member):
            raise UserError(
                f"{song.song_id} was embedded by member {member} with {heard.embedded_by}, the "
                f"songs of the index with {embedders.get(member, 'something unknown')}; {AGAIN}"
            )
        count = len(heard.segment_embeddings)
        shapes = (
            heard.embedding.shape,
            heard.segment_embeddings.shape,
            heard.segment_start_s.shape,
            heard.segment_weight.shape,
        )
        if count == 0 or shapes != ((dim,), (count, dim), (count,), (count,)):
            raise ValueError(f"{song.song_id}: member {member} needs {dim} dim, not {shapes}")
        rows = np.concatenate([heard.embedding[None], heard.segment_embeddings]).astype(np.float64)
        if not np.abs(np.linalg.norm(rows, axis=1) - 1).max() <= UNIT_TOLERANCE:
            raise ValueError(f"{song.song_id}: embeddings of {member} must be of unit length")


def _insert(
    connection: sqlite3.Connection,
    members: Sequence[str],
    song: NewSong,
    singer: str,
    added_by: int | None,
) -> None:
    number = connection.execute(
        "INSERT INTO song (song_id, singer, album, added_by) VALUES (?, ?, ?, ?)",
        (song.song_id, singer, song.album, added_by),
    ).lastrowid
    for member in members:
        heard = thinned(song.heard[member])
        blobs = (
            heard.embedding.astype("<f4").tobytes(),
            heard.segment_start_s.astype("<f4").tobytes(),
            heard.segment_weight.astype("<f4").tobytes(),
            halves(heard.segment_embeddings).astype("<f2").tobytes(),
        )
        connection.execute(
            "INSERT INTO heard VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (number, member, len(heard.segment_start_s), fingerprint(*blobs), *blobs),
        )
