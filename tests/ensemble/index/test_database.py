"""The SQLite file: changed whole or not at all, seen before or after, refused in one line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from embedder.errors import UserError
from ensemble.index import database as module
from ensemble.index.database import FORMAT, new_table, transaction

ROOT = Path(__file__).parents[3]
INSERT = "INSERT INTO trained_singer VALUES (?, ?)"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_S", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "fusión #1?" / "index.sqlite"
    with new_table(path) as connection:
        connection.execute(INSERT, (0, "Zoë"))
    return path


def names(path: Path) -> list[str]:
    with transaction(path) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM trained_singer")]


def alone(path: Path) -> bool:
    """Whether nothing else lies beside the table."""
    return [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_change_is_kept_whole(path: Path) -> None:
    with transaction(path, write=True) as connection:
        connection.execute(INSERT, (1, "b"))
        connection.execute(INSERT, (2, "c"))
    assert names(path) == ["Zoë", "b", "c"]
    assert alone(path)


class Stop(BaseException):
    """Like a keyboard interrupt, but no other's."""


@pytest.mark.parametrize("error", [Stop, ValueError, UserError])
def test_an_error_leaves_the_file_as_it_was(path: Path, error: type[BaseException]) -> None:
    before = path.read_bytes()

    def change() -> None:
        with transaction(path, write=True) as connection:
            connection.execute(INSERT, (1, "b"))
            raise error("half way")

    with pytest.raises(error, match="half way"):
        change()
    assert path.read_bytes() == before
    assert alone(path)


def test_an_error_of_sqlite_s_is_one_line(path: Path) -> None:
    before = path.read_bytes()
    same = [(1, "b"), (2, "b")]
    with (
        pytest.raises(UserError, match=r"index\.sqlite is not a readable .*UNIQUE.*run again"),
        transaction(path, write=True) as connection,
    ):
        connection.executemany(INSERT, same)
    assert path.read_bytes() == before
    assert alone(path)


@pytest.mark.parametrize("error", [Stop, UserError])
def test_a_new_table_that_fails_leaves_the_old_one(path: Path, error: type[BaseException]) -> None:
    before = path.read_bytes()

    def make(where: Path) -> None:
        with new_table(where) as connection:
            connection.execute(INSERT, (0, "b"))
            raise error("half way")

    for where in (path, path.with_name("new.sqlite")):
        with pytest.raises(error, match="half way"):
            make(where)
    assert path.read_bytes() == before
    assert alone(path)


def test_readers_see_the_state_before_a_change_that_goes_on(path: Path) -> None:
    with transaction(path, write=True) as connection:
        connection.execute(INSERT, (1, "b"))
        assert names(path) == ["Zoë"]
    assert names(path) == ["Zoë", "b"]


def test_two_changes_at_once_are_one_too_many(path: Path) -> None:
    with (
        transaction(path, write=True),
        pytest.raises(UserError, match=r"index\.sqlite is in use by another command; run this"),
        transaction(path, write=True),
    ):
        pass


def test_references_must_hold(path: Path) -> None:
    with pytest.raises(UserError, match="FOREIGN KEY"), transaction(path, True) as connection:
        connection.execute("INSERT INTO song VALUES (1, 's', 'b', '', 7, NULL)")


KILLED = """
import os, signal, sys
from pathlib import Path
from ensemble.index.database import transaction

with transaction(Path(sys.argv[1]), write=True) as connection:
    connection.execute("PRAGMA cache_size = 10")  # pages: what is changed goes to disk at once
    for number in range(1, 2000):
        connection.execute("INSERT INTO trained_singer VALUES (?, ?)", (number, f"{number:0500}"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(path: Path) -> Path:
    """The table after a process was killed that had written half a change into the file."""
    size = path.stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -9
    assert path.stat().st_size > size  # the change had begun to arrive
    assert path.with_name("index.sqlite-journal").is_file()
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_process_leaves_the_old_table(killed: Path) -> None:
    assert names(killed) == ["Zoë"]
    assert alone(killed)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_process_does_no_harm_to_a_new_table(killed: Path) -> None:
    with new_table(killed) as connection:
        connection.execute(INSERT, (0, "new"))
    assert names(killed) == ["new"]
    assert alone(killed)


def spoiled(path: Path, how: str) -> str:
    """Spoil the table; what is said of it."""
    if how == "missing":
        path.unlink()
        return "is missing"
    if how == "text":
        path.write_text("no table\n" * 100)
        return r"is not a readable table of songs \(file is not a database\)"
    if how == "empty":
        path.write_bytes(b"")
        return "is a database of another program"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:5000])
        return r"is not a readable table of songs \(.*malformed\)"
    with closing(sqlite3.connect(path)) as connection:
        pragma = "application_id = 7" if how == "foreign" else f"user_version = {FORMAT + 1}"
        connection.execute(f"PRAGMA {pragma}")
    if how == "foreign":
        return "is a database of another program"
    return f"is a table of songs of format {FORMAT + 1}, this program reads format {FORMAT}"


@pytest.mark.parametrize("how", ["missing", "text", "empty", "cut", "foreign", "version"])
def test_what_is_no_table_is_refused_and_replaced(path: Path, how: str) -> None:
    said = spoiled(path, how)
    for write in (False, True):
        message = rf"index\.sqlite {said}.*; run again: python app\.py fuse$"
        with pytest.raises(UserError, match=message), transaction(path, write) as connection:
            connection.execute("SELECT count(*) FROM embedded").fetchone()
    with new_table(path) as connection:
        connection.execute(INSERT, (0, "new"))
    assert names(path) == ["new"]
    assert alone(path)


def test_a_locked_table_is_not_taken_for_no_table(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(UserError, match=r"index\.sqlite is in use by another command"),
            transaction(path),
        ):
            pass
        other.execute("ROLLBACK")
    assert names(path) == ["Zoë"]


def test_a_table_that_may_not_be_written_can_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)

    monkeypatch.setattr(module, "_connect", read_only)
    assert names(path) == ["Zoë"]
    with (
        pytest.raises(UserError, match=r"cannot write .*index\.sqlite: attempt to write a read"),
        transaction(path, write=True) as connection,
    ):
        connection.execute(INSERT, (1, "b"))


FULL = """
import resource, sys
from pathlib import Path
import app
from ensemble.index.database import new_table, transaction

def fill(connection):
    connection.execute("INSERT INTO trained_singer VALUES (9, ?)", ("x" * 200_000,))

path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for opened in (transaction(path, write=True), new_table(path)):
    try:
        with opened as connection:
            fill(connection)
    except OSError as error:
        print(app.disk_problem(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of a file")
def test_a_full_disk_is_said_as_for_any_other_file(path: Path) -> None:
    """SQLite itself says "disk I/O error" where a file may not grow."""
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"cannot write or read {path}: File too large"] * 2
    assert names(path) == ["Zoë"]
    assert alone(path)
