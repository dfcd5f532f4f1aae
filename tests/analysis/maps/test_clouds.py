"""What is mapped: the right rows of the right songs, members together, equal shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.maps.clouds import cloud, stratified, together
from embedder.inference.store import Store


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=80),
    st.integers(1, 60),
    st.integers(0, 3),
)
def test_stratified_takes_equal_shares(groups: list[int], cap: int, seed: int) -> None:
    rows = stratified(np.array(groups), cap, seed)
    assert len(rows) == min(cap, len(groups))
    assert np.all(np.diff(rows) > 0)
    sizes = np.bincount(groups, minlength=9)
    taken = np.bincount(np.array(groups)[rows], minlength=9)
    assert np.all(taken <= sizes)
    # a group that had rows left got at most one row less than any other
    left = taken < sizes
    if left.any():
        assert taken[left].min() >= taken.max() - 1
    assert np.array_equal(rows, stratified(np.array(groups), cap, seed))


def test_stratified_spreads_over_each_group() -> None:
    rows = stratified(np.repeat([0, 1], 100), 10, 0)
    assert rows.tolist() == [10, 30, 50, 70, 90, 110, 130, 150, 170, 190]


def test_stratified_refuses_no_points() -> None:
    with pytest.raises(ValueError, match="cap must be at least 1, not 0"):
        stratified(np.zeros(3, dtype=np.int64), 0, 0)


@pytest.fixture
def stores(build_store: Callable[..., Store]) -> dict[str, list[Store]]:
    return {
        member: [build_store(member, split, ["a", "b"], [split]) for split in ("train", "test")]
        for member in ("aam", "triplet")
    }


def test_rows_are_those_of_the_stores(stores: dict[str, list[Store]]) -> None:
    train, test = stores["aam"]
    songs = cloud(stores["aam"], "song", lambda songs: songs[::5])
    everything = [*train.embeddings, *test.embeddings]
    assert songs.songs.tolist() == [0, 5, 10]
    assert songs.total == 12
    assert songs.starts_s is None
    for row, vector in zip(songs.songs, songs.vectors, strict=True):
        np.testing.assert_array_equal(vector, everything[row])

    segments = cloud(stores["aam"], "segment", lambda songs: np.flatnonzero(songs % 5 == 0)[::2])
    assert segments.total == 12 * 6
    assert segments.songs.tolist() == [0, 0, 0, 5, 5, 5, 10, 10, 10]
    assert segments.starts_s is not None
    assert segments.starts_s.tolist() == [0.0, 5.0, 10.0] * 3
    for place, row in enumerate(segments.songs):
        store, song = (train, row) if row < 6 else (test, row - 6)
        part = store.segments_of(song)
        at = store.segment_start_s[part].tolist().index(segments.starts_s[place])
        np.testing.assert_array_equal(segments.vectors[place], store.segment_embeddings[part][at])


@pytest.mark.parametrize("level", ["song", "segment"])
def test_the_cosine_of_all_together_is_the_mean(level: str, stores: dict[str, list[Store]]) -> None:
    parts = [cloud(one, level, lambda songs: np.arange(len(songs))) for one in stores.values()]
    joined = together(parts)
    assert joined is not None
    np.testing.assert_allclose(np.linalg.norm(joined.vectors, axis=1), 1, atol=1e-5)
    mean = sum(part.vectors[3] @ part.vectors[8] for part in parts) / 2
    assert joined.vectors[3] @ joined.vectors[8] == pytest.approx(mean, abs=1e-6)


def test_segments_at_other_places_have_no_map_together(stores: dict[str, list[Store]]) -> None:
    def parts(level: str, moved: list[Store]) -> list:
        return [
            cloud(one, level, lambda songs: np.arange(len(songs))) for one in (stores["aam"], moved)
        ]

    moved = [
        replace(store, segment_start_s=store.segment_start_s + np.float32(0.5))
        for store in stores["triplet"]
    ]
    assert together(parts("segment", moved)) is None
    assert together(parts("song", moved)) is not None
    fewer = [store.take(np.arange(5)) for store in stores["triplet"]]
    assert together(parts("song", fewer)) is None
    with pytest.raises(ValueError, match="need the points of a member"):
        together([])
