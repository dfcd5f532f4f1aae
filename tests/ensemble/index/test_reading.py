"""The table as it is searched: the songs that were written, with files that follow the table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from embedder.artifacts import vectors_of
from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.index import kinds, reading
from ensemble.index.members import MemberIndex, index_of
from ensemble.index.reading import read_indexes
from ensemble.index.table import NewSong, enroll, undo, unenroll, write_table
from ensemble.index.vectors import recall

Stores = Callable[..., list[Store]]


def same(one: MemberIndex, other: MemberIndex) -> None:
    """Both hold the same, to the last bit."""
    for name in ("member", "checkpoint", "singers", "known", "song_ids", "albums"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("labels", "embeddings", "segment_song", "segment_labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    for level in ("songs", "segments"):
        mine, its = getattr(one, level), getattr(other, level)
        assert (mine.kind, len(mine)) == (its.kind, len(its))
        np.testing.assert_array_equal(
            mine.index.reconstruct_n(0, len(mine)), its.index.reconstruct_n(0, len(its))
        )


@pytest.mark.parametrize("segments", [3, 16, 20])
def test_what_was_written_is_what_an_index_of_the_store_holds(
    segments: int, stores: Stores, tmp_path: Path
) -> None:
    made = stores("train", segments=segments)
    write_table(tmp_path / "t.sqlite", made)
    for _ in range(2):  # built from the table, then read from the files
        found = read_indexes(tmp_path / "t.sqlite")
        assert list(found) == ["one", "two"]
        for store in made:
            same(found[store.member], index_of(store))


def test_only_the_members_named_are_read(table: Path) -> None:
    assert list(read_indexes(table, ["two"])) == ["two"]
    assert not vectors_of(table, "one", "songs").exists()
    assert list(read_indexes(table, ["two", "one", "two"])) == ["two", "one"]
    assert read_indexes(table, []) == {}
    with pytest.raises(UserError, match=r"has no member three; it has one, two; run again: python"):
        read_indexes(table, ["one", "three"])


def test_enrolled_songs_come_after_those_of_training(table: Path, new_songs: list[NewSong]) -> None:
    before = read_indexes(table)["two"]
    enroll(table, "Zoë", [new_songs[7], new_songs[2]])
    enroll(table, "singer 3", [new_songs[12]])
    enroll(table, "Ada", [new_songs[4]])
    index = read_indexes(table)["two"]
    assert (index.singers, index.known) == ((*before.singers, "Zoë", "Ada"), 5)
    came = [new_songs[place] for place in (7, 2, 12, 4)]
    assert index.song_ids == (*before.song_ids, *(song.song_id for song in came))
    assert index.albums == (*before.albums, *(song.album for song in came))
    np.testing.assert_array_equal(index.labels, [*before.labels, 5, 5, 3, 6])
    np.testing.assert_array_equal(
        index.embeddings, [*before.embeddings, *(song.heard["two"].embedding for song in came)]
    )
    _, rows = index.segments.search(came[3].heard["two"].segment_embeddings[:1], 1)
    assert index.segment_song[rows[0, 0]] == len(index.song_ids) - 1
    assert index.segment_labels[rows[0, 0]] == 6
    # Who is enrolled again comes last.
    unenroll(table, "Zoë")
    enroll(table, "Zoë", [new_songs[7]])
    assert read_indexes(table)["one"].singers[5:] == ("Ada", "Zoë")


def files(table: Path) -> dict[str, tuple[int, int]]:
    found = sorted(table.parent.glob("*.faiss"))
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in found}


def test_files_are_made_once_and_again_when_songs_come_or_go(
    table: Path, new_songs: list[NewSong]
) -> None:
    read_indexes(table)
    made = files(table)
    assert list(made) == [f"{m}.{level}.faiss" for m in ("one", "two") for level in LEVELS]
    read_indexes(table)
    assert files(table) == made
    enroll(table, "Zoë", new_songs[:1])
    enrolled = read_indexes(table)
    assert len(enrolled["one"].songs) == 21
    renewed = files(table)
    assert all(renewed[name] != made[name] for name in made)
    undo(table)
    assert len(read_indexes(table)["one"].segments) == 20 * 16


LEVELS = ("segments", "songs")


@pytest.mark.parametrize("taken", [("one", "songs"), ("one", "segments"), ("two", "songs")])
@pytest.mark.parametrize("place", [("one", "songs"), ("one", "segments"), ("two", "segments")])
def test_files_in_each_other_s_place_are_noticed(
    taken: tuple[str, str], place: tuple[str, str], table: Path
) -> None:
    right = {name: index.segments for name, index in read_indexes(table).items()}
    data = vectors_of(table, *taken).read_bytes()
    vectors_of(table, *place).write_bytes(data)
    found = read_indexes(table)
    for name, index in found.items():
        assert len(index.songs) == 20
        np.testing.assert_array_equal(index.songs.index.reconstruct_n(0, 20), index.embeddings)
        assert len(index.segments) == len(right[name])
        assert index.segments.dim == index.embeddings.shape[1]


def test_files_of_another_table_are_noticed(table: Path, stores: Stores, tmp_path: Path) -> None:
    """Of the same members and as many songs: only the songs differ."""
    read_indexes(table)
    other = tmp_path / "other" / "index.sqlite"
    write_table(other, stores("train", segments=19))
    for file in table.parent.glob("*.faiss"):
        (other.parent / file.name).write_bytes(file.read_bytes())
    for store in stores("train", segments=19):
        same(read_indexes(other)[store.member], index_of(store))


def test_other_numbers_of_the_kinds_make_files_stale(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_indexes(table)
    before = files(table)
    monkeypatch.setattr(reading, "BUILT_AS", kinds.BUILT_AS + 1)
    read_indexes(table)
    assert all(files(table)[name] != before[name] for name in before)


def test_the_kind_of_the_segments_index_is_remembered(table: Path) -> None:
    assert read_indexes(table)["one"].segments.kind == "flat"
    asked = read_indexes(table, kind="hnsw")["one"]
    assert (asked.segments.kind, asked.songs.kind) == ("hnsw", "flat")
    assert read_indexes(table)["two"].segments.kind == "hnsw"
    made = files(table)
    assert read_indexes(table, ["one"], "flat")["one"].segments.kind == "flat"
    assert read_indexes(table)["one"].segments.kind == "flat"
    assert files(table)["one.segments.faiss"] != made["one.segments.faiss"]


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_table_is_written_with_its_kind(kind: str, stores: Stores, tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    write_table(path, stores("train"), kind)
    assert read_indexes(path)["one"].segments.kind == kind
    with pytest.raises(ValueError, match="one of flat, ivfpq, hnsw, not 'tree'"):
        write_table(path, stores("train"), "tree")


def test_an_index_that_is_not_possible_is_refused_and_not_remembered(
    table: Path, stores: Stores
) -> None:
    with pytest.raises(UserError, match="--index tree is unknown; choose from flat, ivfpq, hnsw"):
        read_indexes(table, kind="tree")
    message = "--index ivfpq needs at least 9984 segments, the index has 320; choose --index flat"
    with pytest.raises(UserError, match=message):
        read_indexes(table, kind="ivfpq")
    assert read_indexes(table)["one"].segments.kind == "flat"
    before = table.read_bytes()
    with pytest.raises(UserError, match=message):
        write_table(table, stores("train"), "ivfpq")
    assert table.read_bytes() == before


def test_where_too_many_songs_went_the_segments_index_is_flat(
    table: Path, new_songs: list[NewSong], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kinds.LEAST, "hnsw", 330)
    enroll(table, "Zoë", new_songs[:1])
    assert read_indexes(table, kind="hnsw")["one"].segments.kind == "hnsw"
    undo(table)
    assert read_indexes(table)["one"].segments.kind == "flat"
    enroll(table, "Zoë", new_songs[:1])
    assert read_indexes(table)["one"].segments.kind == "hnsw"  # it is still remembered


def test_songs_beyond_a_million_are_indexed_as_the_segments_are(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FLAT_UP_TO", 20)
    assert read_indexes(table, kind="hnsw")["one"].songs.kind == "flat"
    monkeypatch.setattr(reading, "FLAT_UP_TO", 19)
    assert read_indexes(table, kind="hnsw")["one"].songs.kind == "hnsw"


def test_an_approximate_index_says_what_it_finds_when_it_is_built(
    table: Path, stores: Stores
) -> None:
    said: list[str] = []
    held = {store.member: store.segment_embeddings for store in stores("validation")}
    read_indexes(table, kind="flat", held=held, say=said.append)
    assert said == []  # exact
    indexes = read_indexes(table, kind="hnsw", held={"two": held["two"]}, say=said.append)
    exact = index_of(stores("train")[1]).segments.index.reconstruct_n(0, 320)
    share = recall(indexes["two"].segments, exact, held["two"])
    assert said == [
        f"hnsw index of 320 segments of member two: recall@10 {share:.3f} against exact, "
        "400 queries"
    ]
    read_indexes(table, kind="hnsw", held=held, say=said.append)
    assert len(said) == 1  # read, not built


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM heard WHERE song = 4 AND member = 'two'", "lacks what member two heard"),
        ("UPDATE heard SET embedding = x'00' WHERE song = 4", "damaged: embedding of 1 bytes"),
        (
            "UPDATE heard SET segments = 15 WHERE song = 4",
            r"damaged: segment_embeddings of \d+ bytes",
        ),
        (
            "UPDATE heard SET segment_embeddings = zeroblob(length(segment_embeddings))",
            "damaged: segments of one: vectors must be of unit length",
        ),
    ],
)
def test_a_damaged_table_says_what_to_run(table: Path, statement: str, message: str) -> None:
    with closing(sqlite3.connect(table)) as connection:
        connection.execute(statement)
        connection.commit()
    with pytest.raises(UserError, match=rf"index\.sqlite .*{message}.*; run again: python app"):
        read_indexes(table)
