"""The song table: which songs are known, and every change of that, which can be taken back.

The SQLite file is the only truth. Each change is one transaction. `read_indexes` makes of it what
members search.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np

from embedder.artifact import fingerprint
from embedder.errors import UserError, did_you_mean
from embedder.inference.store import AGAIN, UNIT_TOLERANCE, Store
from embedder.text import composed
from ensemble.index.database import new_table, transaction
from ensemble.index.members import (
    SEGMENTS_KEPT,
    MemberIndex,
    NewSong,
    OnBuilt,
    check_training,
    embedder_of,
    halves,
    known_songs,
    read_index,
    songs_of,
)
from ensemble.index.vectors import (
    KINDS,
    MIN_VECTORS,
)

ENROLLED = "added_by IS NOT NULL AND removed_by IS NULL"


class OtherFusion(UserError):
    """The table was written together with another fusion."""


@dataclass(frozen=True)
class Change:
    """One change of the table since it was made."""

    number: int  # from 1
    action: str  # "enroll" or "unenroll"
    singer: str
    songs: int  # how many came or went
    when: str  # UTC, ISO 8601


# Changing ----------------------------------------------------------------------------------------


def write_table(
    path: Path,
    train_stores: Sequence[Store],
    kind: str = "flat",
    enrolled: Mapping[str, Sequence[NewSong]] = MappingProxyType({}),
    fusion: str = "",
) -> None:
    """A new table of the members' training songs; what was enrolled before is gone.

    Args:
        path: the file.
        train_stores: one a member.
        kind: of the segments' index, a key of `KINDS`.
        enrolled: singer → songs that are enrolled at once, a change for each singer.
        fusion: id of the one that the table belongs to.

    Raises:
        UserError: too few segments for the kind, or `enroll` would refuse a song.
        ValueError: a store holds no labelled training songs, or the stores disagree.
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
        _check_enough(kind, int(np.minimum(counts, SEGMENTS_KEPT).sum()))
    members = [
        (s.member, place, s.made_from.get("checkpoint", ""), s.embeddings.shape[1],
         embedder_of(s.made_from))
        for place, s in enumerate(train_stores)
    ]  # fmt: skip
    with new_table(path) as connection:
        settings = [("kind", kind), ("fusion", fusion)]
        connection.executemany("INSERT INTO setting VALUES (?, ?)", settings)
        connection.executemany("INSERT INTO member VALUES (?, ?, ?, ?, ?)", members)
        connection.executemany(
            "INSERT INTO trained_singer VALUES (?, ?)", list(enumerate(first.singers))
        )
        names = [store.member for store in train_stores]
        for song, label in zip(songs, first.labels, strict=True):
            _insert(connection, names, song, first.singers[label], None)
        for singer, new in enrolled.items():
            _enroll(connection, singer, new)


def enroll(path: Path, singer: str, songs: Sequence[NewSong], fusion: str | None = None) -> Change:
    """Add songs of a singer, known or new; a change that `undo` takes back.

    `fusion`: id of the one that the table must belong to; None takes any.

    Raises:
        OtherFusion: it belongs to another.
        UserError: there is no song, one is in the index already or stands twice, or a member of the
            index did not embed it, or not as it embedded the index's songs.
        ValueError: embeddings do not fit their member.
    """
    if not singer.strip():
        raise UserError("--singer needs a name")
    if not songs:
        raise UserError(f"there is no song to enroll {singer} with")
    with transaction(path, write=True) as connection:
        if fusion is not None:
            _check_fusion(connection, path, fusion)
        return _enroll(connection, singer, songs)


def unenroll(path: Path, singer: str) -> Change:
    """Take the enrolled songs of a singer out; a change that `undo` takes back.

    The name may be in any Unicode form. Raises `UserError` if the singer has no enrolled song: what
    a member was trained on stays.
    """
    with transaction(path, write=True) as connection:
        rows = connection.execute(f"SELECT DISTINCT singer FROM song WHERE {ENROLLED}").fetchall()
        enrolled = sorted(name for (name,) in rows)
        wanted = composed(singer.strip())
        singer = next((name for name in enrolled if composed(name) == wanted), wanted)
        if singer not in enrolled:
            raise UserError(_nothing_enrolled(connection, singer, enrolled))
        mine = f"singer = ? AND {ENROLLED}"
        songs = connection.execute(f"SELECT count(*) FROM song WHERE {mine}", (singer,))
        change = _record(connection, "unenroll", singer, songs.fetchone()[0])
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
    rows = connection.execute("SELECT name, dim, embedded_by FROM member ORDER BY place")
    members = {name: (dim, embedded_by) for name, dim, embedded_by in rows}
    change = _record(connection, "enroll", singer, len(songs))
    for song in songs:
        known = "SELECT singer FROM song WHERE song_id = ? AND removed_by IS NULL"
        for (owner,) in connection.execute(known, (song.song_id,)):
            raise UserError(f"{song.song_id} is in the index already, as a song of {owner}")
        _check_song(song, members)
        _insert(connection, list(members), song, singer, change.number)
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


def _nothing_enrolled(connection: sqlite3.Connection, singer: str, enrolled: Sequence[str]) -> str:
    """Why a singer cannot be taken out."""
    trained = connection.execute("SELECT 1 FROM trained_singer WHERE name = ?", (singer,))
    if trained.fetchone():
        return f"{singer} has no enrolled song; the songs that members were trained on stay"
    return (
        f"{singer} is not enrolled{did_you_mean(singer, enrolled)}; "
        f"enrolled are: {', '.join(enrolled) or 'none'}"
    )


def _check_song(song: NewSong, members: Mapping[str, tuple[int, str]]) -> None:
    for member, (dim, embedded_by) in members.items():
        if member not in song.by_member:
            raise UserError(f"member {member} did not embed {song.song_id}, but is in the index")
        new = song.by_member[member]
        if new.embedded_by != embedded_by:
            raise UserError(
                f"{song.song_id} was embedded by member {member} with {new.embedded_by}, the "
                f"songs of the index with {embedded_by}; {AGAIN}"
            )
        count = len(new.segment_embeddings)
        shapes = (new.embedding.shape, new.segment_embeddings.shape)
        if count == 0 or shapes != ((dim,), (count, dim)):
            raise ValueError(f"{song.song_id}: member {member} needs {dim} dim, not {shapes}")
        rows = np.concatenate([new.embedding[None], new.segment_embeddings]).astype(np.float64)
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
        new = song.by_member[member]
        blobs = (
            new.embedding.astype("<f4").tobytes(),
            halves(new.segment_embeddings).astype("<f2").tobytes(),
        )
        connection.execute(
            "INSERT INTO embedded VALUES (?, ?, ?, ?, ?, ?)",
            (number, member, len(new.segment_embeddings), fingerprint(*blobs), *blobs),
        )


def copy_table(path: Path, target: Path, members: Sequence[str]) -> None:
    """Write what `read_indexes` reads of some members into a file that is not there yet.

    Songs that were taken out are left out, and so is every change but those that brought songs. The
    copy is of one consistent state, and the same table gives the same bytes.

    Raises:
        UserError: the table cannot be read.
        ValueError: it lacks a member.
    """
    with transaction(path) as connection, closing(sqlite3.connect(target)) as copy:
        known = {name for (name,) in connection.execute("SELECT name FROM member")}
        if missing := [name for name in members if name not in known]:
            raise ValueError(f"no member {missing[0]} in {path}")
        connection.backup(copy)
        copy.execute("PRAGMA foreign_keys = ON")
        copy.execute("DELETE FROM song WHERE removed_by IS NOT NULL")
        copy.execute(
            "DELETE FROM change WHERE number NOT IN "
            "(SELECT added_by FROM song WHERE added_by IS NOT NULL)"
        )
        marks = ", ".join("?" * len(members))
        copy.execute(f"DELETE FROM embedded WHERE member NOT IN ({marks})", members)
        copy.execute(f"DELETE FROM member WHERE name NOT IN ({marks})", members)
        copy.commit()
        copy.execute("VACUUM")  # what was deleted stands in no page of the file any more


# Reading -----------------------------------------------------------------------------------------


def read_indexes(
    path: Path,
    members: Sequence[str] | None = None,
    fusion: str | None = None,
    on_built: OnBuilt | None = None,
) -> dict[str, MemberIndex]:
    """The index of each member, or of those named, in their order.

    The segments' index is of the kind that the table was written with, or flat where songs went and
    too few segments are left for it.

    Args:
        path: the table.
        members: None for all.
        fusion: id of the one that the table must belong to; None takes any.
        on_built: called with each segments' index that no file held, and its vectors.

    Raises:
        OtherFusion: the table belongs to another fusion.
        UserError: it cannot be used, or has no such member.
    """
    with transaction(path) as connection:
        if fusion is not None:
            _check_fusion(connection, path, fusion)
        dims = dict(connection.execute("SELECT name, dim FROM member ORDER BY place"))
        if missing := [name for name in members or () if name not in dims]:
            raise UserError(
                f"{path} has no member {missing[0]}{did_you_mean(missing[0], dims)}; "
                f"it has {', '.join(dims)}; {AGAIN}"
            )
        songs = known_songs(connection)
        return {
            name: read_index(path, connection, songs, name, dims[name], on_built)
            for name in (dict.fromkeys(members) if members is not None else dims)
        }


def _check_fusion(connection: sqlite3.Connection, path: Path, fusion: str) -> None:
    found = connection.execute("SELECT value FROM setting WHERE name = 'fusion'").fetchone()
    if found != (fusion,):
        raise OtherFusion(f"{path} belongs to another fusion than is used here; {AGAIN}")


def _check_enough(kind: str, segments: int) -> None:
    if segments < MIN_VECTORS[kind]:
        raise UserError(
            f"--index {kind} needs at least {MIN_VECTORS[kind]} segments, the index has "
            f"{segments}; choose --index flat"
        )
