"""Who stays enrolled in a new table, and who would be lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from ensemble.index import database
from ensemble.index.carry import Enrolled, enrolled_songs
from ensemble.index.members import embedder_of
from ensemble.index.table import (
    NewSong,
    enroll,
    history,
    read_indexes,
    songs_of,
    unenroll,
    write_table,
)

CHECKPOINTS = {"one": "one-1", "two": "two-1"}


@pytest.fixture
def folder(world: Any, tmp_path: Path) -> Path:
    """An index with two enrolled singers; a third was taken out again."""
    write_table(tmp_path / "index.sqlite", world.train)
    for singer, rows in (
        ("Zoë", [0, 1]),
        ("gone", [9, 10]),
        ("Ada", [6, 7, 8]),
        ("singer 2", [4]),
        ("Zoë", [3, 2]),
    ):
        enroll(tmp_path / "index.sqlite", singer, part(world, rows))
    unenroll(tmp_path / "index.sqlite", "gone")
    return tmp_path


def part(world: Any, rows: list[int]) -> list[NewSong]:
    return songs_of([store.take(np.array(rows)) for store in world.strangers])


def found_in(folder: Path, checkpoints: dict[str, str], **how: str) -> Enrolled:
    embedders = {
        name: embedder_of({"checkpoint": checkpoint, "grid": "3 s", **how})
        for name, checkpoint in checkpoints.items()
    }
    return enrolled_songs(folder / "index.sqlite", embedders)


def test_a_new_table_knows_who_was_enrolled(folder: Path, world: Any) -> None:
    table = folder / "index.sqlite"
    old = read_indexes(table)
    found = found_in(folder, CHECKPOINTS)
    assert found.lost == ()
    assert {name: len(songs) for name, songs in found.songs.items()} == {
        "Zoë": 4, "Ada": 3, "singer 2": 1,
    }  # fmt: skip
    write_table(table, world.train, enrolled=found.songs)
    assert [(change.action, change.singer, change.songs) for change in history(table)] == [
        ("enroll", "Zoë", 4),
        ("enroll", "Ada", 3),
        ("enroll", "singer 2", 1),
    ]
    for member, index in read_indexes(table).items():
        before = old[member]
        assert index.singers == before.singers == (*world.fusion.singers, "Zoë", "Ada")
        order = [index.song_ids.index(song) for song in before.song_ids]
        assert sorted(order) == list(range(len(index.song_ids)))
        assert np.array_equal(index.labels[order], before.labels)
        assert [index.albums[row] for row in order] == list(before.albums)
        assert np.array_equal(index.embeddings[order], before.embeddings)
        vectors, previous = (
            each.segments.index.reconstruct_n(0, len(each.segments)) for each in (index, before)
        )
        for song, row in enumerate(order):
            now, then = index.segment_song == row, before.segment_song == song
            assert np.array_equal(vectors[now], previous[then])


def test_fewer_of_the_same_members_are_no_loss(folder: Path, world: Any) -> None:
    found = found_in(folder, {"two": "two-1"})
    assert found.lost == ()
    write_table(folder / "index.sqlite", world.train[1:], enrolled=found.songs)
    index = read_indexes(folder / "index.sqlite")
    assert list(index) == ["two"]
    assert index["two"].singers[6:] == ("Zoë", "Ada")


@pytest.mark.parametrize(
    ("checkpoints", "how"),
    [
        ({"one": "one-2", "two": "two-1"}, {}),  # trained again
        ({**CHECKPOINTS, "three": "three-1"}, {}),  # a member that did not embed them
        (CHECKPOINTS, {"grid": "5 s every 1 s"}),
        (CHECKPOINTS, {"activity": "d"}),
    ],
)
def test_who_was_heard_otherwise_would_be_lost(
    checkpoints: dict[str, str], how: dict[str, str], folder: Path
) -> None:
    found = found_in(folder, checkpoints, **how)
    assert (found.songs, found.lost) == ({}, ("Zoë", "Ada", "singer 2"))


OLDER = """
ALTER TABLE embedded RENAME TO heard;
ALTER TABLE heard ADD COLUMN segment_weight BLOB;
INSERT INTO setting SELECT 'embedded by ' || name, embedded_by FROM member;
ALTER TABLE member DROP COLUMN embedded_by;
PRAGMA user_version = 1;
"""


def test_who_was_enrolled_in_a_table_of_the_older_format_is_known(folder: Path) -> None:
    found = found_in(folder, CHECKPOINTS)
    with closing(sqlite3.connect(folder / "index.sqlite")) as table:
        table.executescript(OLDER)
    with pytest.raises(UserError, match="of format 1, this program reads format 2; run again"):
        read_indexes(folder / "index.sqlite")
    older = found_in(folder, CHECKPOINTS)
    assert {name: len(songs) for name, songs in older.songs.items()} == {
        name: len(songs) for name, songs in found.songs.items()
    }
    for one, other in zip(found.songs["Ada"], older.songs["Ada"], strict=True):
        assert (one.song_id, one.album) == (other.song_id, other.album)
        for member, embedding in one.by_member.items():
            again = other.by_member[member]
            assert np.array_equal(embedding.embedding, again.embedding)
            assert np.array_equal(embedding.segment_embeddings, again.segment_embeddings)
    with closing(sqlite3.connect(folder / "index.sqlite")) as table:
        table.execute("DELETE FROM setting WHERE name LIKE 'embedded by %'")
        table.commit()
    assert found_in(folder, CHECKPOINTS).lost == ("Zoë", "Ada", "singer 2")


def test_nobody_is_enrolled_where_nothing_can_be_read(folder: Path, world: Any) -> None:
    table = folder / "index.sqlite"
    write_table(table, world.train)
    for change in (lambda: None, lambda: table.write_bytes(b"no table"), table.unlink):
        change()
        found = found_in(folder, {"one": "other"})  # nothing can be lost
        assert (found.songs, found.lost) == ({}, ())
        broken = table.is_file() and table.read_bytes() == b"no table"
        assert ("is not a readable table" in found.problem) == broken


def test_a_table_in_use_is_not_taken_for_an_empty_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_S", 0.01)
    with closing(sqlite3.connect(folder / "index.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="is in use by another command"):
            found_in(folder, CHECKPOINTS)
    assert len(found_in(folder, CHECKPOINTS).songs) == 3


def test_a_song_that_cannot_be_carried_leaves_the_old_table(folder: Path, world: Any) -> None:
    table = folder / "index.sqlite"
    before = table.read_bytes()
    found = found_in(folder, CHECKPOINTS)
    twice = replace(found.songs["Ada"][0], song_id=found.songs["Zoë"][0].song_id)
    with pytest.raises(UserError, match="is in the index already, as a song of Zoë"):
        write_table(table, world.train, enrolled={**found.songs, "Eva": [twice]})
    assert table.read_bytes() == before
