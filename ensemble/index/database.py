"""The SQLite file of the song table: its schema, transactions, and errors in one line.

Enters: a path. Leaves: a connection in a transaction that is kept whole or not at all. Readers see
the state before or after a change, never one in between, and a change that a killed process left
unfinished is rolled back by whoever opens the table next.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from embedder.artifacts import InUse, replacing
from embedder.errors import UserError
from embedder.inference.store import AGAIN

APPLICATION = 0x53494458  # "SIDX": marks the file as ours, in SQLite's own header
FORMAT = 1  # of the schema below
LOCK_S = 10.0  # how long a command waits for another that is changing the table

EMBEDDED_BY = "embedded by "  # setting, with a member's name behind it

# Songs keep the numbers of the changes that added and removed them: a change that is deleted takes
# its songs along, and gives those back that it removed. No number: there since the table was made.
SCHEMA = """
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE member (
    name TEXT PRIMARY KEY,
    place INTEGER NOT NULL UNIQUE,
    checkpoint TEXT NOT NULL,
    dim INTEGER NOT NULL CHECK (dim > 0)
);
CREATE TABLE trained_singer (
    label INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE change (
    number INTEGER PRIMARY KEY,
    action TEXT NOT NULL CHECK (action IN ('enroll', 'unenroll')),
    singer TEXT NOT NULL,
    songs INTEGER NOT NULL CHECK (songs > 0),
    at TEXT NOT NULL
);
CREATE TABLE song (
    number INTEGER PRIMARY KEY,
    song_id TEXT NOT NULL,
    singer TEXT NOT NULL,
    album TEXT NOT NULL,
    added_by INTEGER REFERENCES change (number) ON DELETE CASCADE,
    removed_by INTEGER REFERENCES change (number) ON DELETE SET NULL
);
CREATE UNIQUE INDEX song_once ON song (song_id) WHERE removed_by IS NULL;
CREATE INDEX song_added ON song (added_by);
CREATE INDEX song_removed ON song (removed_by);
CREATE TABLE heard (
    song INTEGER NOT NULL REFERENCES song (number) ON DELETE CASCADE,
    member TEXT NOT NULL REFERENCES member (name),
    segments INTEGER NOT NULL CHECK (segments > 0),
    digest TEXT NOT NULL,
    embedding BLOB NOT NULL,
    segment_start_s BLOB NOT NULL,
    segment_weight BLOB NOT NULL,
    segment_embeddings BLOB NOT NULL,
    PRIMARY KEY (song, member)
);
"""
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"


class TableInUse(InUse):
    """Another command is changing the table; it may be whole."""


class OtherFusion(UserError):
    """The table was written together with another fusion."""


@contextmanager
def transaction(path: Path, write: bool = False) -> Iterator[sqlite3.Connection]:
    """Yield a connection inside one transaction: committed at the end, rolled back on any error.

    Raises `UserError` naming the file if it is missing, of another version or no table, and
    `TableInUse` if it is locked.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; {AGAIN}")
    with _one_line(path), closing(_connect(path)) as connection, _whole(connection, write):
        _check(connection, path)
        yield connection


@contextmanager
def new_table(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to an empty table, which takes the old one's place when the block ends.

    An old table is emptied and filled within one transaction, not replaced by a new file: another
    command may hold it open, and SQLite would roll that command's journal back into the new file.
    What no command of ours can have open is replaced.
    """
    if _is_ours(path):
        with _one_line(path), closing(_connect(path)) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")  # tables are dropped in any order
            with _whole(connection, write=True):
                for (name,) in connection.execute(TABLES).fetchall():
                    connection.execute(f'DROP TABLE "{name}"')
                _create(connection)
                yield connection
        return
    path.with_name(path.name + "-journal").unlink(missing_ok=True)
    with (
        replacing(path) as temporary,
        _one_line(path),
        closing(_connect(temporary)) as connection,
        _whole(connection, write=True),
    ):
        _create(connection)
        yield connection


@contextmanager
def _whole(connection: sqlite3.Connection, write: bool) -> Iterator[None]:
    """All of the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Errors of SQLite's as a `UserError` that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        refusal = TableInUse if _is_busy(error) else UserError
        raise refusal(_problem(path, error)) from None


def _problem(path: Path, error: sqlite3.Error) -> str:
    """What the user is told of an error of SQLite's."""
    if _is_busy(error):
        return f"{path} is in use by another command; run this one again when that has ended"
    if _kind(error) == sqlite3.SQLITE_FULL:
        return f"cannot write {path}: {os.strerror(errno.ENOSPC)}"
    if _kind(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return f"cannot write or read {path}: {error}"
    return f"{path} is not a readable table of songs ({error}); {AGAIN}"


def _kind(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bytes only tell more of it


def _is_busy(error: sqlite3.Error) -> bool:
    return _kind(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that opens no transaction of its own and makes no new file."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=LOCK_S, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _create(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise UserError(f"{path} is a database of another program; {AGAIN}")
    if version != FORMAT:
        raise UserError(
            f"{path} is a table of songs of format {version}, this program reads format {FORMAT}; "
            f"{AGAIN}"
        )


def embedded_by(connection: sqlite3.Connection) -> dict[str, str]:
    """Member → what embedded the songs of the table, as `songs.embedder_of` says it."""
    rows = connection.execute(
        "SELECT member.name, value FROM member JOIN setting ON setting.name = ? || member.name "
        "ORDER BY place",
        (EMBEDDED_BY,),
    )
    return dict(rows)


def check_fusion_id(connection: sqlite3.Connection, path: Path, fusion: str) -> None:
    """Raise `OtherFusion` unless the table was written together with the fusion of this id."""
    found = connection.execute("SELECT value FROM setting WHERE name = 'fusion'").fetchone()
    if found != (fusion,):
        raise OtherFusion(f"{path} belongs to another fusion than is used here; {AGAIN}")


def _is_ours(path: Path) -> bool:
    """Whether the file is a table of songs, of any version; `UserError` if it is locked."""
    if not path.is_file():
        return False
    try:
        with closing(_connect(path)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            connection.execute(TABLES).fetchall()  # reads its schema
            return bool(application == APPLICATION)
    except sqlite3.Error as error:
        if _is_busy(error):
            raise UserError(_problem(path, error)) from None
        return False
