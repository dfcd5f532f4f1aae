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

from embedder.artifacts import vectors_of
from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.index import database
from ensemble.index import table as module
from ensemble.index.songs import embedder_of
from ensemble.index.table import (
    NewSong,
    enroll,
    history,
    read_indexes,
    undo,
    unenroll,
    write_table,
)

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
    assert not vectors_of(table, "two", "songs").exists()
    assert vectors_of(table, "one", "songs").exists()


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


def test_every_member_must_have_heard_an_enrolled_song(
    table: Path, new_songs: list[NewSong]
) -> None:
    before = table.read_bytes()
    song = new_songs[1]

    def heard(**changes: Any) -> NewSong:
        return replace(song, heard={**song.heard, "two": replace(song.heard["two"], **changes)})

    deaf = replace(song, heard={"one": song.heard["one"]})
    with pytest.raises(UserError, match=f"member two did not hear {song.song_id}"):
        enroll(table, "Zoë", [new_songs[0], deaf])
    two = song.heard["two"]
    nothing = replace(two, **{name: getattr(two, name)[:0] for name in SEGMENTS})
    other = replace(song.heard["one"], embedded_by=two.embedded_by)
    for wrong in (
        replace(song, heard={**song.heard, "two": other}),
        replace(song, heard={**song.heard, "two": nothing}),
        heard(segment_weight=two.segment_weight[1:]),
        heard(segment_start_s=two.segment_start_s[1:]),
    ):
        with pytest.raises(ValueError, match=f"{song.song_id}: member two needs 8 dim"):
            enroll(table, "Zoë", [new_songs[0], wrong])
    for wrong in (
        heard(embedding=two.embedding * 2),
        heard(segment_embeddings=two.segment_embeddings * np.float32(np.nan)),
    ):
        with pytest.raises(ValueError, match="embeddings of two must be of unit length"):
            enroll(table, "Zoë", [new_songs[0], wrong])
    for made_from in ({"checkpoint": "two-2"}, {"checkpoint": "two-1", "grid": "1 s every 1 s"}):
        with pytest.raises(UserError, match="was embedded by member two with"):
            enroll(table, "Zoë", [heard(embedded_by=embedder_of(made_from))])
    with pytest.raises(UserError, match="another fusion"):
        enroll(table, "Zoë", [song], "of another fuse")
    assert table.read_bytes() == before
    # What members outside the index heard is left out.
    enroll(table, "Zoë", [replace(song, heard={**song.heard, "three": nothing})])


SEGMENTS = ("segment_start_s", "segment_weight", "segment_embeddings")


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
weights = np.ones(16, np.float32)
how = [table.embedder_of({"checkpoint": f"{name}-1", "grid": "3 s"}) for name in ("one", "two")]
heard = {
    "one": table.Heard(rows[0], weights, weights, rows, how[0]),
    "two": table.Heard(half[0], weights, weights, half, how[1]),
}
songs = [table.NewSong(f"{number}.wav", "", heard) for number in range(100)]
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
    table: Path, new_songs: list[NewSong], stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_S", 0.0)
    enroll(table, "Zoë", new_songs[:1])
    with closing(sqlite3.connect(table, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for change in (
            lambda: enroll(table, "Ada", new_songs[1:]),
            lambda: unenroll(table, "Zoë"),
            lambda: undo(table),
            lambda: write_table(table, stores("train")),
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
