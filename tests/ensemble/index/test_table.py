"""Changes of the table: as a list of songs would change, and back; refused whole."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.index import database, members, vectors
from ensemble.index import table as module
from ensemble.index.members import MemberIndex, embedder_of, index_of, songs_of
from ensemble.index.table import (
    NewSong,
    copy_table,
    enroll,
    history,
    read_indexes,
    undo,
    unenroll,
    write_table,
)

Maker = Callable[..., Store]
Stores = Callable[..., list[Store]]
ROOT = Path(__file__).parents[3]


def content(path: Path) -> list[str]:
    """All that the table holds, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_a_table_follows_a_list_of_songs_through_all_changes(
    table: Path, new_songs: list[NewSong]
) -> None:
    """Random changes, each compared with the same change of plain lists."""
    rng = np.random.default_rng(0)
    trained = read_indexes(table, ["one"])["one"]
    known = [(s, trained.singers[n]) for s, n in zip(trained.song_ids, trained.labels, strict=True)]
    states: list[list[tuple[str, str]]] = [[]]  # enrolled (song, singer), after each change
    dumps = [content(table)]
    done: list[tuple[str, str, int]] = []
    for _ in range(60):
        now = states[-1]
        singer = str(rng.choice(["Ada", "Zoë", "singer 1", "singer 4"]))
        action = rng.choice(["enroll", "enroll", "unenroll", "undo"])
        if action == "undo" and done:
            change = undo(table)
            assert (change.action, change.singer, change.songs) == done.pop()
            states.pop()
            dumps.pop()
            assert content(table) == dumps[-1]  # nothing is left of the change
        elif action == "unenroll" and singer in {owner for _, owner in now}:
            gone = sum(owner == singer for _, owner in now)
            assert unenroll(table, singer).songs == gone
            states.append([pair for pair in now if pair[1] != singer])
            done.append(("unenroll", singer, gone))
            dumps.append(content(table))
        elif action == "enroll":
            there = {song for song, _ in now}
            free = [song for song in new_songs if song.song_id not in there]
            chosen = [free[n] for n in rng.permutation(len(free))[: rng.integers(1, 4)]]
            if not chosen:
                continue
            assert enroll(table, singer, chosen).number == len(done) + 1
            states.append([*now, *((song.song_id, singer) for song in chosen)])
            done.append(("enroll", singer, len(chosen)))
            dumps.append(content(table))
        index = read_indexes(table, ["one"])["one"]
        songs = [*known, *states[-1]]
        assert list(zip(index.song_ids, (index.singers[n] for n in index.labels), strict=True)) == (
            songs
        )
        enrolled = dict.fromkeys(s for _, s in states[-1] if s not in trained.singers)
        assert index.singers == (*trained.singers, *enrolled)
        assert index.known == 5
        assert [(c.action, c.singer, c.songs) for c in history(table)] == done
    assert len(done) > 5


def test_changes_say_when_they_were_made(table: Path, new_songs: list[NewSong]) -> None:
    assert history(table) == []
    before = datetime.now(UTC).replace(microsecond=0)
    first = enroll(table, "Zoë", new_songs[:2])
    second = unenroll(table, "Zoë")
    assert history(table) == [first, second]
    assert [change.number for change in (first, second)] == [1, 2]
    times = [datetime.fromisoformat(change.when) for change in (first, second)]
    assert before <= times[0] <= times[1] <= datetime.now(UTC)
    assert undo(table) == second
    assert undo(table) == first
    with pytest.raises(UserError, match="there is nothing to undo"):
        undo(table)


def test_a_new_table_forgets_changes_and_members(
    table: Path, new_songs: list[NewSong], stores: Stores
) -> None:
    fresh = content(table)
    enroll(table, "Zoë", new_songs)
    read_indexes(table)
    write_table(table, stores("train"))
    assert content(table) == fresh
    write_table(table, stores("train")[:1])
    assert history(table) == []
    assert list(read_indexes(table)) == ["one"]


@pytest.mark.parametrize("part", ["members", "singers", "labels", "split", "songs"])
def test_stores_that_do_not_fit_make_no_table(part: str, table: Path, stores: Stores) -> None:
    one, two = stores("train")
    others = {
        "members": ([one, replace(two, member="one")], "two stores of one member"),
        "singers": ([one, replace(two, singers=two.singers[::-1])], "'two' label the songs other"),
        "labels": ([one, replace(two, labels=two.labels[::-1].copy())], "label the songs otherw"),
        "split": ([replace(one, split="test"), two], "need training songs, not 20 of 'test'"),
        "songs": ([one, two.take(np.arange(3))], "have stores of other songs"),
    }
    before = table.read_bytes()
    wrong, message = others[part]
    with pytest.raises(ValueError, match=message):
        write_table(table, wrong)
    assert table.read_bytes() == before


def test_a_song_is_in_the_index_once(table: Path, new_songs: list[NewSong]) -> None:
    trained = read_indexes(table, ["one"])["one"].song_ids[3]
    enroll(table, "Zoë", new_songs[:1])
    before = table.read_bytes()
    for there, owner in ((new_songs[0].song_id, "Zoë"), (trained, "singer 0")):
        again = [new_songs[1], replace(new_songs[2], song_id=there)]
        with pytest.raises(
            UserError, match=f"{there} is in the index already, as a song of {owner}"
        ):
            enroll(table, "Ada", again)
    twice = [new_songs[1], new_songs[1]]
    with pytest.raises(UserError, match="is in the index already, as a song of Ada"):
        enroll(table, "Ada", twice)
    assert table.read_bytes() == before


def test_every_member_must_have_embedded_an_enrolled_song(
    table: Path, new_songs: list[NewSong]
) -> None:
    before = table.read_bytes()
    song = new_songs[1]

    def changed(**changes: Any) -> NewSong:
        return replace(
            song, by_member={**song.by_member, "two": replace(song.by_member["two"], **changes)}
        )

    incomplete = replace(song, by_member={"one": song.by_member["one"]})
    with pytest.raises(UserError, match=f"member two did not embed {song.song_id}"):
        enroll(table, "Zoë", [new_songs[0], incomplete])
    two = song.by_member["two"]
    nothing = replace(two, segment_embeddings=two.segment_embeddings[:0])
    other = replace(song.by_member["one"], embedded_by=two.embedded_by)
    for wrong in (
        replace(song, by_member={**song.by_member, "two": other}),
        replace(song, by_member={**song.by_member, "two": nothing}),
    ):
        with pytest.raises(ValueError, match=f"{song.song_id}: member two needs 8 dim"):
            enroll(table, "Zoë", [new_songs[0], wrong])
    for wrong in (
        changed(embedding=two.embedding * 2),
        changed(segment_embeddings=two.segment_embeddings * np.float32(np.nan)),
    ):
        with pytest.raises(ValueError, match="embeddings of two must be of unit length"):
            enroll(table, "Zoë", [new_songs[0], wrong])
    for made_from in ({"checkpoint": "two-2"}, {"checkpoint": "two-1", "grid": "1 s every 1 s"}):
        with pytest.raises(UserError, match="was embedded by member two with"):
            enroll(table, "Zoë", [changed(embedded_by=embedder_of(made_from))])
    with pytest.raises(UserError, match="another fusion"):
        enroll(table, "Zoë", [song], "of another fuse")
    assert table.read_bytes() == before
    # What members outside the index embedded is left out.
    enroll(table, "Zoë", [replace(song, by_member={**song.by_member, "three": nothing})])


def test_what_cannot_be_enrolled_or_taken_out_is_said_in_words(
    table: Path, new_songs: list[NewSong]
) -> None:
    with pytest.raises(UserError, match="there is no song to enroll Zoë with"):
        enroll(table, "Zoë", [])
    with pytest.raises(UserError, match="--singer needs a name"):
        enroll(table, " ", new_songs)
    with pytest.raises(UserError, match="Zoë is not enrolled; enrolled are: none"):
        unenroll(table, "Zoë")
    enroll(table, "Zoë", new_songs[:2])
    enroll(table, "Ada", new_songs[2:3])
    enroll(table, "singer 2", new_songs[3:4])
    with pytest.raises(UserError, match=r"Zoe is not enrolled.*: Ada, Zoë, singer 2"):
        unenroll(table, "Zoe")
    assert unenroll(table, "singer 2").songs == 1
    with pytest.raises(UserError, match="singer 2 has no enrolled song; the songs that members"):
        unenroll(table, "singer 2")


def test_an_error_in_the_middle_leaves_the_table_as_it_was(
    table: Path, new_songs: list[NewSong], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table.read_bytes()
    insert, calls = module._insert, iter(range(100))

    def broken(*arguments: object) -> None:
        insert(*arguments)  # type: ignore[arg-type]
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_insert", broken)
    with pytest.raises(KeyboardInterrupt):
        enroll(table, "Zoë", new_songs)
    assert next(calls) == 3
    assert table.read_bytes() == before
    assert [file.name for file in table.parent.iterdir()] == [table.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from dataclasses import replace
from ensemble.index import database, table
from ensemble.index.members import SongEmbedding

connect = database._connect

def small(path):
    connection = connect(path)
    connection.execute("PRAGMA cache_size = 10")  # pages: songs go to disk as they come
    return connection

database._connect = small
insert, calls = table._insert, iter(range(1000))

def killing(*arguments):
    if next(calls) == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    insert(*arguments)

table._insert = killing
import numpy as np
rows = np.eye(16, dtype=np.float32)
half = np.eye(8, dtype=np.float32).repeat(2, axis=0)
how = [table.embedder_of({"checkpoint": f"{name}-1", "grid": "3 s"}) for name in ("one", "two")]
by_member = {
    "one": SongEmbedding(rows[0], rows, how[0]),
    "two": SongEmbedding(half[0], half, how[1]),
}
songs = [table.NewSong(f"{number}.wav", "", by_member) for number in range(100)]
table.enroll(Path(sys.argv[1]), "Zoë", songs)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_process_killed_in_the_middle_enrolls_nothing(table: Path) -> None:
    before, size = content(table), table.stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(table)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert table.stat().st_size > size  # some songs were there already
    assert history(table) == []
    assert len(read_indexes(table, ["one"])["one"].song_ids) == 20
    assert content(table) == before


def test_a_table_in_use_is_not_changed(
    table: Path, new_songs: list[NewSong], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_S", 0.0)
    enroll(table, "Zoë", new_songs[:1])
    with closing(sqlite3.connect(table, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for change in (
            lambda: enroll(table, "Ada", new_songs[1:]),
            lambda: unenroll(table, "Zoë"),
            lambda: undo(table),
        ):
            with pytest.raises(UserError, match=r"index\.sqlite is in use by another command"):
                change()
        assert read_indexes(table)["one"].singers[-1] == "Zoë"  # it can be read meanwhile
        other.execute("ROLLBACK")
    assert len(history(table)) == 1


def test_a_singer_is_taken_out_by_a_name_in_another_unicode_form(
    table: Path, new_songs: list[NewSong]
) -> None:
    composed, taken_apart = "Zo\u00eb", "Zoe\u0308"
    for enrolled, asked in ((composed, taken_apart), (taken_apart, composed)):
        enroll(table, enrolled, new_songs[:1])
        assert unenroll(table, f" {asked} ").singer == enrolled


# Reading -----------------------------------------------------------------------------------------


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
    assert [name.split(".")[0] for name in files(table)] == ["two"]
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
        index.embeddings, [*before.embeddings, *(song.by_member["two"].embedding for song in came)]
    )
    _, rows = index.segments.search(came[3].by_member["two"].segment_embeddings[:1], 1)
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
    assert [name.split(".")[:2] for name in made] == [["one", "segments"], ["two", "segments"]]
    read_indexes(table)
    assert files(table) == made
    enroll(table, "Zoë", new_songs[:1])
    enrolled = read_indexes(table)
    assert len(enrolled["one"].songs) == 21
    assert len(files(table)) == 2  # those of before are swept
    assert not files(table).keys() & made.keys()
    undo(table)
    assert len(read_indexes(table)["one"].segments) == 20 * 16
    assert files(table).keys() == made.keys()


def test_another_member_of_a_like_name_keeps_its_files(
    make_store: Callable[..., Store], tmp_path: Path
) -> None:
    """A pattern that sweeps "a" must not sweep "a.segments" or "[a]"."""
    path = tmp_path / "index.sqlite"
    names = ["a", "[a]", "a.segments", "*"]
    write_table(path, [make_store(name, "train", singers=3, albums=2) for name in names])
    read_indexes(path)
    made = files(path)
    assert len(made) == 4
    read_indexes(path)
    assert files(path) == made


def test_files_of_another_table_are_not_taken(table: Path, stores: Stores, tmp_path: Path) -> None:
    """Of the same members and as many songs: only the songs differ."""
    read_indexes(table)
    other = tmp_path / "other" / "index.sqlite"
    write_table(other, stores("train", segments=19))
    for file in table.parent.glob("*.faiss"):
        (other.parent / file.name).write_bytes(file.read_bytes())
    for store in stores("train", segments=19):
        same(read_indexes(other)[store.member], index_of(store))


def test_other_numbers_of_the_kinds_make_other_files(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_indexes(table)
    before = files(table)
    monkeypatch.setattr(members, "BUILT_AS", vectors.BUILT_AS + 1)
    read_indexes(table)
    assert not files(table).keys() & before.keys()


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_table_is_written_with_its_kind(kind: str, stores: Stores, tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    write_table(path, stores("train"), kind)
    assert read_indexes(path)["one"].segments.kind == kind
    with pytest.raises(ValueError, match="one of flat, ivfpq, hnsw, not 'tree'"):
        write_table(path, stores("train"), "tree")


def test_an_index_that_is_not_possible_is_refused(table: Path, stores: Stores) -> None:
    message = "--index ivfpq needs at least 9984 segments, the index has 320; choose --index flat"
    before = table.read_bytes()
    with pytest.raises(UserError, match=message):
        write_table(table, stores("train"), "ivfpq")
    assert table.read_bytes() == before


def test_where_too_many_songs_went_the_segments_index_is_flat(
    table: Path, stores: Stores, new_songs: list[NewSong], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(table, stores("train"), "hnsw")
    monkeypatch.setitem(vectors.MIN_VECTORS, "hnsw", 330)
    enroll(table, "Zoë", new_songs[:1])
    assert read_indexes(table)["one"].segments.kind == "hnsw"
    undo(table)
    assert read_indexes(table)["one"].segments.kind == "flat"
    enroll(table, "Zoë", new_songs[:1])
    assert read_indexes(table)["one"].segments.kind == "hnsw"


def test_an_index_that_is_built_is_handed_out_once(stores: Stores, tmp_path: Path) -> None:
    path, built = tmp_path / "t.sqlite", []

    def on_built(member: str, made: vectors.Vectors, rows: vectors.Floats) -> None:
        built.append((member, made.kind))
        exact = index_of(stores("train")[["one", "two"].index(member)])
        np.testing.assert_array_equal(rows, exact.segments.index.reconstruct_n(0, 320))

    write_table(path, stores("train"), "hnsw")
    for _ in range(2):  # built, then read
        read_indexes(path, on_built=on_built)
        assert built == [("one", "hnsw"), ("two", "hnsw")]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "DELETE FROM embedded WHERE song = 4 AND member = 'two'",
            "lacks embeddings of some songs by member two",
        ),
        ("UPDATE embedded SET embedding = x'00' WHERE song = 4", "damaged: embedding of 1 bytes"),
        (
            "UPDATE embedded SET segments = 15 WHERE song = 4",
            r"damaged: segment_embeddings of \d+ bytes",
        ),
        (
            "UPDATE embedded SET segment_embeddings = zeroblob(length(segment_embeddings))",
            "damaged: member one: vectors must be of unit length",
        ),
    ],
)
def test_a_damaged_table_says_what_to_run(table: Path, statement: str, message: str) -> None:
    with closing(sqlite3.connect(table)) as connection:
        connection.execute(statement)
        connection.commit()
    with pytest.raises(UserError, match=rf"index\.sqlite .*{message}.*; run again: python app"):
        read_indexes(table)


# Copying -----------------------------------------------------------------------------------------


@pytest.fixture
def changed_table(make_store: Maker, tmp_path: Path) -> Path:
    """Two members, eight trained singers; "new" enrolled, and "gone" enrolled and taken out."""
    path = tmp_path / "index.sqlite"
    write_table(path, [make_store(member, "train", songs=1) for member in ("a", "b")])
    enroll(path, "gone", songs_named(make_store, "secret", 3))
    enroll(path, "new", songs_named(make_store, "song", 2))
    enroll(path, "singer 1", songs_named(make_store, "late", 1))
    unenroll(path, "gone")
    return path


def songs_named(make_store: Maker, name: str, count: int) -> list[NewSong]:
    found = songs_of([make_store(member, "", songs=1) for member in ("a", "b")])[:count]
    return [NewSong(f"{name} {n}.wav", name, song.by_member) for n, song in enumerate(found)]


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
def test_a_copy_is_searched_as_the_table(
    changed_table: Path, members: list[str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy" / "index.sqlite"
    copy.parent.mkdir()
    before = changed_table.read_bytes()
    copy_table(changed_table, copy, members)
    assert changed_table.read_bytes() == before
    assert [path.name for path in copy.parent.iterdir()] == ["index.sqlite"]
    check_same(copy, changed_table, members)


def test_the_same_table_gives_the_same_bytes(changed_table: Path, tmp_path: Path) -> None:
    for name in ("1", "2"):
        copy_table(changed_table, tmp_path / name, ["a", "b"])
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_what_was_taken_out_stands_nowhere_in_the_copy(changed_table: Path, tmp_path: Path) -> None:
    assert b"secret" in changed_table.read_bytes()
    copy_table(changed_table, tmp_path / "copy", ["b"])
    data = (tmp_path / "copy").read_bytes()
    assert b"secret" not in data
    assert b"gone" not in data
    assert b"song 1.wav" in data
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("SELECT DISTINCT member FROM embedded").fetchall() == [("b",)]
        assert copy.execute("PRAGMA freelist_count").fetchone() == (0,)  # no page of what was there
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("PRAGMA foreign_key_check").fetchall() == []


def test_what_was_enrolled_stays_so(changed_table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy_table(changed_table, copy, ["a", "b"])
    assert [change.singer for change in history(copy)] == ["new", "singer 1"]
    undo(copy)
    undo(copy)
    assert "new" not in read_indexes(copy)["a"].singers
    assert "new" in read_indexes(changed_table)["a"].singers


def test_a_member_that_is_not_there_cannot_be_copied(changed_table: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no member c in"):
        copy_table(changed_table, tmp_path / "copy", ["a", "c"])
