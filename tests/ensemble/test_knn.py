"""Neighbours and their votes: against brute force, in any company, and back from disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.artifacts import read_json, write_json
from embedder.errors import UserError
from embedder.store import Store
from ensemble.knn import (
    INDEX_FORMAT,
    SMOOTHING,
    NeighbourIndex,
    Votes,
    build_index,
    check_index,
    neighbour_votes,
    read_index,
    write_index,
)

SINGERS = ("a", "b", "c")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def train_store(embeddings: np.ndarray, **changes: Any) -> Store:
    songs = len(embeddings)
    values: dict[str, Any] = {
        "member": "m",
        "split": "train",
        "singers": SINGERS,
        "song_ids": tuple(f"s{song}" for song in range(songs)),
        "albums": ("",) * songs,
        "labels": np.arange(songs, dtype=np.int64) % 3,
        "embeddings": embeddings,
        "segment_song": np.arange(songs, dtype=np.int64),
        "segment_start_s": np.zeros(songs, np.float32),
        "segment_embeddings": embeddings,
        "segment_logits": None,
        "segment_weight": np.ones(songs, np.float32),
        "made_from": {"checkpoint": "abc"},
    }
    return Store(**(values | changes))


@pytest.fixture
def index() -> NeighbourIndex:
    return build_index(train_store(unit(np.random.default_rng(0).normal(size=(60, 8)))))


@pytest.mark.parametrize("k", [1, 7, 60, 500])
def test_neighbours_are_those_of_brute_force(index: NeighbourIndex, k: int) -> None:
    queries = unit(np.random.default_rng(1).normal(size=(40, 8)))
    found = index.search(queries, k)
    train = index.index.reconstruct_n(0, 60)
    for row, query in enumerate(queries):
        similarity = [float(query.astype(np.float64) @ song) for song in train]
        nearest = sorted(range(60), key=lambda song: -similarity[song])[:k]
        np.testing.assert_array_equal(found.labels[row], [song % 3 for song in nearest])
        expected = [similarity[song] for song in nearest]
        np.testing.assert_allclose(found.similarities[row], expected, atol=1e-6)


def test_a_song_s_neighbours_do_not_depend_on_its_company(index: NeighbourIndex) -> None:
    queries = unit(np.random.default_rng(2).normal(size=(64, 8)))
    together = index.search(queries, 20)
    for song in range(64):
        alone = index.search(queries[song : song + 1], 20)
        np.testing.assert_array_equal(alone.similarities[0], together.similarities[song])
        np.testing.assert_array_equal(alone.labels[0], together.labels[song])


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_of_equal_songs_the_first_comes_first(k: int) -> None:
    rows = np.array([[0.6, 0.8]] * 4 + [[1.0, 0.0]] + [[0.6, 0.8]], np.float32)
    labels = np.array([2, 0, 1, 0, 2, 1], np.int64)
    found = build_index(train_store(rows, labels=labels)).search(np.eye(2, dtype=np.float32), k)
    np.testing.assert_array_equal(found.labels[0], [2, 2, 0, 1, 0, 1][:k])
    np.testing.assert_array_equal(found.labels[1], [2, 0, 1, 0, 1, 2][:k])


def test_votes_are_a_smoothed_log_sum() -> None:
    similarities = np.array([[0.9, 0.8, 0.5, 0.1], [0.2, 0.2, 0.1, 0.0]])
    labels = np.array([[1, 0, 1, 2], [2, 0, 0, 1]])
    got = neighbour_votes(similarities, labels, 4, k=3, tau=0.2)
    for row in range(2):
        votes = [SMOOTHING / 4] * 4
        for place in range(3):
            gap = similarities[row, place] - similarities[row, 0]
            votes[labels[row, place]] += math.exp(gap / 0.2)
        np.testing.assert_allclose(got[row], [math.log(vote) for vote in votes], rtol=1e-12)


def test_votes_ignore_an_offset_of_all_similarities_and_stay_finite() -> None:
    rng = np.random.default_rng(3)
    similarities = -np.sort(-rng.uniform(-1, 1, size=(10, 30)), axis=1)
    labels = rng.integers(3, size=(10, 30))
    one = neighbour_votes(similarities, labels, 3, k=30, tau=1e-3)
    np.testing.assert_allclose(one, neighbour_votes(similarities + 5, labels, 3, k=30, tau=1e-3))
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one.argmax(axis=1), labels[:, 0])  # a small tau: 1-NN


@pytest.mark.parametrize(("k", "tau"), [(0, 0.1), (5, 0.0), (5, -1.0), (5, math.nan)])
def test_votes_out_of_range_are_refused(k: int, tau: float) -> None:
    with pytest.raises(ValueError, match="k must be 1 or more and tau above 0"):
        neighbour_votes(np.zeros((1, 3)), np.zeros((1, 3), int), 2, k, tau)
    with pytest.raises(ValueError, match="k must be 1 or more"):
        Votes(k, tau)


def test_only_labelled_training_songs_can_be_indexed() -> None:
    rows = unit(np.ones((2, 3)))
    with pytest.raises(ValueError, match="need training songs, not 2 of 'validation'"):
        build_index(train_store(rows, split="validation"))
    with pytest.raises(ValueError, match="no label"):
        build_index(train_store(rows, labels=np.array([0, -1], np.int64)))
    with pytest.raises(ValueError, match="need training songs, not 0"):
        build_index(train_store(np.zeros((0, 3), np.float32)))


def test_a_training_song_is_refused_as_a_query(index: NeighbourIndex) -> None:
    index.check_apart(["x", "y"])
    with pytest.raises(ValueError, match="2 songs are also training songs, such as s1"):
        index.check_apart(["x", "s3", "s1"])
    with pytest.raises(ValueError, match="the index has 8 dim"):
        index.search(np.zeros((2, 7), np.float32), 3)


def test_an_index_comes_back_as_it_was_written(index: NeighbourIndex, tmp_path: Path) -> None:
    path = tmp_path / "fusión" / "m.v2.faiss"
    write_index(path, index)
    back = read_index(path)
    assert (back.member, back.checkpoint, back.singers, back.song_ids) == (
        "m",
        "abc",
        SINGERS,
        index.song_ids,
    )
    queries = unit(np.random.default_rng(4).normal(size=(9, 8)))
    one, other = index.search(queries, 5), back.search(queries, 5)
    np.testing.assert_array_equal(one.similarities, other.similarities)
    np.testing.assert_array_equal(one.labels, other.labels)
    check_index(back, "abc", SINGERS)
    with pytest.raises(UserError, match=r"checkpoint abc, but .* now xyz; run again: python app"):
        check_index(back, "xyz", SINGERS)
    with pytest.raises(UserError, match="singers in another order or spelling"):
        check_index(back, "abc", ("a", "c", "b"))


def test_half_a_renewed_pair_is_refused(index: NeighbourIndex, tmp_path: Path) -> None:
    path = tmp_path / "m.faiss"
    write_index(path, index)
    old = path.read_bytes()
    write_index(path, build_index(train_store(unit(np.ones((4, 8))))))
    path.write_bytes(old)
    with pytest.raises(UserError, match=r"do not belong together; run again: python app\.py fuse"):
        read_index(path)


@pytest.mark.parametrize("gone", ["m.faiss", "m.faiss.json"])
def test_a_missing_half_says_what_to_run(index: NeighbourIndex, tmp_path: Path, gone: str) -> None:
    write_index(tmp_path / "m.faiss", index)
    (tmp_path / gone).unlink()
    with pytest.raises(UserError, match=rf"{gone} is missing; run again: python app\.py fuse"):
        read_index(tmp_path / "m.faiss")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": INDEX_FORMAT + 1}, f"reads format {INDEX_FORMAT}"),
        ({"labels": [0]}, "another number of songs than its JSON"),
        ({"index": None}, "do not belong together"),
    ],
)
def test_a_json_that_does_not_fit_is_refused(
    index: NeighbourIndex, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "m.faiss"
    write_index(path, index)
    head = path.with_name("m.faiss.json")
    write_json(head, read_json(head) | changes)
    with pytest.raises(UserError, match=message):
        read_index(path)
