"""The SQLite file of the song table: its schema, transactions, and errors in one line.

A transaction is kept whole or not at all. Readers see the state before or after a change, never one
in between, and a change that a killed process left unfinished is rolled back by whoever opens the
table next.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from embedder.artifact import DISK_FULL, replacing
from embedder.errors import UserError
from embedder.inference.store import AGAIN
from embedder.run import InUse

APPLICATION = 0x53494458  # "SIDX": marks the file as ours, in SQLite's own header
FORMAT = 2  # of the schema below
PROBE = 1 << 20  # bytes for which there is room on a disk that is not full
LOCK_S = 10.0  # how long a command waits for another that is changing the table

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
    dim INTEGER NOT NULL CHECK (dim > 0),
    embedded_by TEXT NOT NULL
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
CREATE TABLE embedded (
    song INTEGER NOT NULL REFERENCES song (number) ON DELETE CASCADE,
    member TEXT NOT NULL REFERENCES member (name),
    segments INTEGER NOT NULL CHECK (segments > 0),
    digest TEXT NOT NULL,
    embedding BLOB NOT NULL,
    segment_embeddings BLOB NOT NULL,
    PRIMARY KEY (song, member)
);
"""


class TableInUse(InUse):
    """Another command is changing the table; it may be whole."""


@contextmanager
def transaction(
    path: Path, write: bool = False, formats: Sequence[int] = (FORMAT,)
) -> Iterator[sqlite3.Connection]:
    """Yield a connection inside one transaction: committed at the end, rolled back on any error.

    Raises:
        UserError: the file is missing, is no table, or is of another version than `formats`.
        TableInUse: it is locked.
        OSError: the disk is full.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; {AGAIN}")
    with _one_line(path), closing(_connect(path)) as connection, _whole(connection, write):
        _check(connection, path, formats)
        yield connection


@contextmanager
def new_table(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to an empty table, which stands at `path` when the block ends.

    No other command may have a table there open: `fuse` makes it in a new folder.
    """
    # What a killed command left of another table must not be rolled back into this one.
    path.with_name(path.name + "-journal").unlink(missing_ok=True)
    with (
        replacing(path) as temporary,
        _one_line(path),
        closing(_connect(temporary)) as connection,
        _whole(connection, write=True),
    ):
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
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
    """Errors of SQLite's as a `UserError` that names the file, or `OSError` for a full disk."""
    try:
        yield
    except sqlite3.Error as error:
        if code := _disk_full(error, path):
            raise OSError(code, os.strerror(code), str(path)) from None
        refusal = TableInUse if _is_busy(error) else UserError
        raise refusal(_problem(path, error)) from None


def _disk_full(error: sqlite3.Error, path: Path) -> int:
    """The number of the system's error if it is that the disk takes no more; else 0.

    SQLite keeps that number to itself and says "disk I/O error", but for ENOSPC. So it is tried
    whether there is room at the end of a file as large as this one.
    """
    if _kind(error) == sqlite3.SQLITE_FULL:
        return errno.ENOSPC
    if _kind(error) not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return 0
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.seek(path.stat().st_size if path.exists() else 0)
            probe.write(bytes(PROBE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as found:
        return found.errno if found.errno in DISK_FULL else 0
    return 0


def _problem(path: Path, error: sqlite3.Error) -> str:
    """The message for an error of SQLite's."""
    if _is_busy(error):
        return f"{path} is in use by another command; run this one again when that has ended"
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


def _check(connection: sqlite3.Connection, path: Path, formats: Sequence[int]) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION:
        raise UserError(f"{path} is a database of another program; {AGAIN}")
    if (version := format_of(connection)) not in formats:
        raise UserError(
            f"{path} is a table of songs of format {version}, this program reads format {FORMAT}; "
            f"{AGAIN}"
        )


def format_of(connection: sqlite3.Connection) -> int:
    """The version of the table's schema."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
