"""Recordings on their way into the index: names, ids, albums, and those that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from ensemble.enrolled.enrolling import (
    check_name,
    check_new,
    copies_of,
    enrolled_from,
    enrolled_ids,
)


@pytest.mark.parametrize("name", ["Aimee Mann", "AC/DC", "陳　奕迅", 'a, "b"', "Unknown", "0"])
def test_names_that_a_prediction_can_hold(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\nb", "a\tb", "\udce9"])
def test_names_that_no_prediction_could_hold(name: str) -> None:
    with pytest.raises(UserError, match="--singer needs a name of one line"):
        check_name(name)


def test_nobody_can_be_named_as_nobody_is() -> None:
    with pytest.raises(UserError, match="--singer unknown is what predictions call nobody"):
        check_name("unknown")


def test_folders_are_albums_and_the_folder_itself_is_that_of_loose_songs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Live"
    (folder / "x").mkdir(parents=True)
    names = ["1", "first/1", "second/cd 2/1"]
    expected = ["AC/DC/Live/1", "AC/DC/first/1", "AC/DC/second/cd 2/1"]
    assert enrolled_ids("AC/DC", names, folder) == expected
    assert enrolled_ids("AC/DC", names, folder / "x" / "..") == expected
    monkeypatch.chdir(folder)
    assert enrolled_ids("AC/DC", names, Path()) == expected
    assert enrolled_ids("a", ["1"], tmp_path / "caf\udce9") == ["a/caf?/1"]


def test_songs_that_are_there_are_refused_and_whose_they_are(world: Any) -> None:
    index = world.indexes["one"]
    check_new(["singer 1/live/1", "new/train0/1"], index)
    with pytest.raises(
        UserError,
        match=r"1 of 2 songs are in the index already, such as singer 1/train0/1.wav of singer 1$",
    ):
        check_new(["new/train0/1", "singer 1/train0/1.wav"], index)


def test_new_songs_are_what_the_members_heard_batch_by_batch(world: Any) -> None:
    batches = [[store.take(np.array(rows)) for store in world.strangers] for rows in ([4, 2], [7])]
    songs = enrolled_from(iter(batches))
    assert [song.song_id for song in songs] == [
        world.strangers[0].song_ids[row] for row in (4, 2, 7)
    ]
    for song, row in zip(songs, (4, 2, 7), strict=True):
        assert song.album == song.song_id.rpartition("/")[0]
        for store in world.strangers:
            heard = song.heard[store.member]
            assert np.array_equal(heard.embedding, store.embeddings[row])
            part = store.segments_of(row)
            assert np.array_equal(heard.segment_embeddings, store.segment_embeddings[part])
            assert np.array_equal(heard.segment_start_s, store.segment_start_s[part])
            assert np.array_equal(heard.segment_weight, store.segment_weight[part])


def test_copies_are_found_by_all_members_together() -> None:
    rng = np.random.default_rng(0)
    songs = {name: rng.normal(size=(6, 8)).astype(np.float32) for name in ("one", "two")}
    songs = {name: s / np.linalg.norm(s, axis=1, keepdims=True) for name, s in songs.items()}
    others = {name: rows[[5, 0, 3]] for name, rows in songs.items()}
    assert copies_of(songs, others).tolist() == [1, -1, -1, 2, -1, 0]
    others["two"] = songs["two"][[5, 1, 3]]  # only one member hears the first song again
    assert copies_of(songs, others).tolist() == [-1, -1, -1, 2, -1, 0]
    none = {name: rows[:0] for name, rows in songs.items()}
    assert copies_of(songs, none).tolist() == [-1] * 6
    assert copies_of(none, songs).tolist() == []
