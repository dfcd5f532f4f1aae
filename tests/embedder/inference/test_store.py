"""Stores: round trips, refusals, and a song's own segments with their weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.inference.aggregate import song_embedding, song_logits
from embedder.inference.store import Store, check_store, read_store, write_store


def make_store(**changes: Any) -> Store:
    """Three songs with 2, 1 and 3 segments, two singers, 4 dimensions."""
    rng = np.random.default_rng(0)
    segments = rng.normal(size=(6, 4))
    segments /= np.linalg.norm(segments, axis=1, keepdims=True)
    owner = np.array([0, 0, 1, 2, 2, 2], dtype=np.int64)
    songs = np.stack([song_embedding(segments[owner == song]) for song in range(3)])
    values: dict[str, Any] = {
        "member": "ecapa-aam",
        "split": "validation",
        "singers": ("alys", "Björk"),
        "song_ids": ("alys/a/1.mp3", "alys/a/2, live.mp3", "Björk/č/3.mp3"),
        "albums": ("alys/a", "alys/a", "Björk/č"),
        "labels": np.array([0, 0, 1], dtype=np.int64),
        "embeddings": songs,
        "segment_song": owner,
        "segment_start_s": np.array([0, 2.5, 0, 0, 2.5, 5], dtype=np.float32),
        "segment_embeddings": segments.astype(np.float32),
        "segment_logits": rng.normal(size=(6, 2)).astype(np.float32),
        "segment_weight": np.ones(6, np.float32),
        "made_from": {"checkpoint": "c0ffee", "catalogue": "beef", "grid": "3 s"},
    }
    return Store(**(values | changes))


def assert_same(left: Store, right: Store) -> None:
    for field in dataclasses.fields(Store):
        first, second = getattr(left, field.name), getattr(right, field.name)
        if isinstance(first, np.ndarray):
            assert first.dtype == second.dtype, field.name
            np.testing.assert_array_equal(first, second, err_msg=field.name)
        else:
            assert first == second, field.name


@pytest.mark.parametrize("head", [True, False])
def test_a_store_comes_back_as_it_was_written(tmp_path: Path, head: bool) -> None:
    store = make_store() if head else make_store(segment_logits=None)
    path = tmp_path / "stores" / "validation.npz"
    write_store(path, store)
    assert_same(read_store(path), store)


def test_a_file_name_that_is_no_utf8_survives(tmp_path: Path) -> None:
    store = make_store(song_ids=("a/b/\udce9.wav", "a/b/2.wav", "c/d/3.wav"))
    write_store(tmp_path / "s.npz", store)
    assert read_store(tmp_path / "s.npz").song_ids == store.song_ids


def test_an_empty_split_is_a_store_too(tmp_path: Path) -> None:
    store = make_store(
        song_ids=(),
        albums=(),
        labels=np.zeros(0, np.int64),
        embeddings=np.zeros((0, 4), np.float32),
        segment_song=np.zeros(0, np.int64),
        segment_start_s=np.zeros(0, np.float32),
        segment_embeddings=np.zeros((0, 4), np.float32),
        segment_logits=np.zeros((0, 2), np.float32),
        segment_weight=np.zeros(0, np.float32),
    )
    write_store(tmp_path / "s.npz", store)
    assert_same(read_store(tmp_path / "s.npz"), store)
    assert store.logits().shape == (0, 2)
    assert store.voice().shape == (0,)


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    write_store(tmp_path / "one.npz", make_store())
    write_store(tmp_path / "two.npz", make_store())
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize("kind", ["text", "empty", "array", "other archive", "cut"])
def test_a_file_that_is_no_store_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s.npz"
    write_store(path, make_store())
    whole = path.read_bytes()
    if kind == "text":
        path.write_text("hello", encoding="utf-8")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "other archive":
        np.savez(path, embeddings=np.zeros(3))
    else:
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"s\.npz is not a readable store .*python app\.py fuse"):
        read_store(path)


def test_a_missing_store_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.npz is missing; run again: python app\.py fuse"):
        read_store(tmp_path / "gone.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 0, 2], np.int64)}, r"labels must lie in -1\.\.1"),
        ({"labels": np.array([0, 0], np.int64)}, r"labels must be int64 \(3,\), not int64 \(2,\)"),
        ({"labels": np.array([0, 0, 1], np.int32)}, "labels must be int64"),
        ({"split": "dev"}, "split must be one of train, validation, test"),
        ({"albums": ("alys/a",)}, "1 album for 3 songs"),
        ({"song_ids": ("x", "x", "y")}, "song_ids holds a name twice"),
        ({"singers": ("x", "x")}, "singers holds a name twice"),
        ({"segment_song": np.array([0, 0, 2, 1, 2, 2], np.int64)}, "segment_song must ascend"),
        ({"segment_song": np.array([0, 0, 0, 2, 2, 2], np.int64)}, "every song at least once"),
        ({"segment_song": np.array([0, 0, 1, 2, 2, 3], np.int64)}, "every song at least once"),
        ({"embeddings": np.ones((3, 4), np.float32)}, "embeddings must be of unit length"),
        ({"segment_logits": np.full((6, 2), np.nan, np.float32)}, "segment_logits holds a value"),
        ({"segment_logits": np.zeros((6, 3), np.float32)}, r"segment_logits must be float32"),
        ({"segment_weight": np.ones(5, np.float32)}, r"segment_weight must be float32 \(6,\)"),
        ({"segment_weight": np.full(6, 1.01, np.float32)}, r"segment_weight must lie in 0\.\.1"),
        ({"segment_weight": np.full(6, -0.01, np.float32)}, r"segment_weight must lie in 0\.\.1"),
        ({"segment_weight": np.full(6, np.nan, np.float32)}, "segment_weight holds a value that"),
    ],
)
def test_an_inconsistent_store_cannot_be_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_store(**changes)


def test_check_store_names_what_changed() -> None:
    store = make_store()
    beef = {"catalogue": "beef"}
    check_store(store, "c0ffee", beef)
    check_store(store, "c0ffee", {})
    with pytest.raises(
        UserError, match=r"member ecapa-aam was made from checkpoint c0ffee.* now 1"
    ):
        check_store(store, "1", beef)
    with pytest.raises(UserError, match=r"catalogue beef, but .* now 2; .*python app\.py fuse"):
        check_store(store, "c0ffee", {"catalogue": "2"})
    with pytest.raises(UserError, match="made from checkpoint none"):
        check_store(make_store(made_from={}), "1", {})
    check_store(store, "c0ffee", {**beef, "grid": "3 s", "stems": "none"})
    with pytest.raises(UserError, match=r"made from grid 3 s, but the grid is now 5 s; .* fuse"):
        check_store(store, "c0ffee", {**beef, "grid": "5 s"})
    with pytest.raises(UserError, match=r"made from activity none, but .* now abc; .* fuse"):
        check_store(store, "c0ffee", {**beef, "grid": "3 s", "activity": "abc"})


def test_a_store_of_the_format_without_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    write_store(path, make_store())
    with np.load(path) as file:
        contents = {name: file[name] for name in file if name != "segment_weight"}
    head = json.loads(contents["head"].tobytes()) | {"format": 1}
    contents["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    np.savez(path, **contents)
    with pytest.raises(
        UserError, match=r"store of format 1.*reads format 2; run again.*app\.py fu"
    ):
        read_store(path)


def test_song_logits_of_the_store_take_only_the_song_s_own_segments() -> None:
    store = make_store()
    assert store.segment_logits is not None
    slow = [store.segment_logits[store.segment_song == song].mean(axis=0) for song in range(3)]
    np.testing.assert_allclose(store.logits("mean"), slow, rtol=1e-6)
    assert [store.segments_of(song) for song in range(3)] == [slice(0, 2), slice(2, 3), slice(3, 6)]
    with pytest.raises(ValueError, match="no classification head"):
        make_store(segment_logits=None).logits()


def test_a_song_s_logits_are_weighted_by_its_own_segments_weights() -> None:
    weight = np.array([0.25, 0.75, 0, 1, 0, 0.5], dtype=np.float32)
    store = make_store(segment_weight=weight)
    logits = store.segment_logits
    assert logits is not None
    slow = [
        0.25 * logits[0] + 0.75 * logits[1],
        logits[2],  # no voice: as if it were sung
        (logits[3] + 0.5 * logits[5]) / 1.5,
    ]
    np.testing.assert_allclose(store.logits("mean"), slow, rtol=1e-6)
    for song in range(3):
        part = store.segments_of(song)
        expected = song_logits(logits[part], "vote", weight[part])
        np.testing.assert_array_equal(store.logits("vote")[song], expected)
    np.testing.assert_allclose(store.voice(), [0.5, 0, 0.5])


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("songs", [[2, 0], [1], [0, 1, 2], []])
def test_some_songs_are_a_store_of_their_own(songs: list[int], head: bool) -> None:
    store = make_store(segment_weight=np.linspace(0.1, 0.6, 6).astype(np.float32))
    store = store if head else dataclasses.replace(store, segment_logits=None)
    part = store.take(np.array(songs, np.int64))
    assert part.song_ids == tuple(store.song_ids[song] for song in songs)
    assert part.albums == tuple(store.albums[song] for song in songs)
    np.testing.assert_array_equal(part.labels, store.labels[songs])
    np.testing.assert_array_equal(part.embeddings, store.embeddings[songs])
    assert (part.member, part.split, part.singers) == (store.member, store.split, store.singers)
    assert part.made_from == store.made_from
    for place, song in enumerate(songs):
        mine, whole = part.segments_of(place), store.segments_of(song)
        for name in ("start_s", "embeddings", "weight", "logits"):
            taken, rows = getattr(part, f"segment_{name}"), getattr(store, f"segment_{name}")
            if rows is None:
                assert taken is None
            else:
                np.testing.assert_array_equal(taken[mine], rows[whole])
    assert len(part.segment_song) == sum((store.segment_song == song).sum() for song in songs)
    assert_same(store.take(np.arange(3)), store)
    with pytest.raises(ValueError, match="song_ids holds a name twice"):
        store.take(np.array([1, 1]))
