"""A copy of the table holds what searching needs now, and nothing that was taken out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from embedder.inference.store import Store
from ensemble.index.copying import copy_table
from ensemble.index.table import (
    NewSong,
    enroll,
    history,
    read_indexes,
    songs_of,
    undo,
    unenroll,
    write_table,
)

Maker = Callable[..., Store]


@pytest.fixture
def table(make_store: Maker, tmp_path: Path) -> Path:
    """Two members, eight trained singers; "new" enrolled, and "gone" enrolled and taken out."""
    path = tmp_path / "index.sqlite"
    write_table(path, [make_store(member, "train", songs=1) for member in ("a", "b")])
    enroll(path, "gone", songs(make_store, "secret", 3))
    enroll(path, "new", songs(make_store, "song", 2))
    enroll(path, "singer 1", songs(make_store, "late", 1))
    unenroll(path, "gone")
    return path


def songs(make_store: Maker, name: str, count: int) -> list[NewSong]:
    found = songs_of([make_store(member, "", songs=1) for member in ("a", "b")])[:count]
    return [NewSong(f"{name} {n}.wav", name, song.heard) for n, song in enumerate(found)]


def check_same(copy: Path, table: Path, members: list[str]) -> None:
    found, wanted = read_indexes(copy), read_indexes(table, members)
    assert list(found) == sorted(members)  # in the table's order
    for name, index in found.items():
        original = wanted[name]
        assert (index.checkpoint, index.singers) == (original.checkpoint, original.singers)
        assert (index.known, index.song_ids) == (original.known, original.song_ids)
        assert index.albums == original.albums
        np.testing.assert_array_equal(index.labels, original.labels)
        np.testing.assert_array_equal(index.embeddings, original.embeddings)
        queries = original.embeddings[:5]
        for ours, theirs in ((index.songs, original.songs), (index.segments, original.segments)):
            for one, other in zip(ours.search(queries, 7), theirs.search(queries, 7), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("members", [["a", "b"], ["b"]])
def test_a_copy_is_searched_as_the_table(table: Path, members: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "index.sqlite"
    copy.parent.mkdir()
    before = table.read_bytes()
    copy_table(table, copy, members)
    assert table.read_bytes() == before
    assert [path.name for path in copy.parent.iterdir()] == ["index.sqlite"]
    check_same(copy, table, members)


def test_the_same_table_gives_the_same_bytes(table: Path, tmp_path: Path) -> None:
    for name in ("1", "2"):
        copy_table(table, tmp_path / name, ["a", "b"])
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_what_was_taken_out_stands_nowhere_in_the_copy(table: Path, tmp_path: Path) -> None:
    assert b"secret" in table.read_bytes()
    copy_table(table, tmp_path / "copy", ["b"])
    data = (tmp_path / "copy").read_bytes()
    assert b"secret" not in data
    assert b"gone" not in data
    assert b"song 1.wav" in data
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("SELECT DISTINCT member FROM heard").fetchall() == [("b",)]
        assert copy.execute("PRAGMA freelist_count").fetchone() == (0,)  # no page of what was there
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("PRAGMA foreign_key_check").fetchall() == []


def test_what_was_enrolled_stays_so(table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy_table(table, copy, ["a", "b"])
    assert [change.singer for change in history(copy)] == ["new", "singer 1"]
    undo(copy)
    undo(copy)
    assert "new" not in read_indexes(copy)["a"].singers
    assert "new" in read_indexes(table)["a"].singers


def test_a_member_that_is_not_there_cannot_be_copied(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no member c in"):
        copy_table(table, tmp_path / "copy", ["a", "c"])
