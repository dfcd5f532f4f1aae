"""The map: sampling, determinism, neighbourhoods, and what the page says about each point."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import tsne
from analysis.inputs import member_stores, song_list
from analysis.material import read_material
from analysis.tsne import (
    map_points,
    neighbour_agreement,
    segment_view,
    song_view,
    stratified,
    tsne_page,
)
from embedder.artifacts import Run
from embedder.store import Store


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


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


def test_map_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    embeddings = unit(np.random.default_rng(0).normal(size=(60, 8)))
    first = map_points(embeddings, 3)
    assert np.array_equal(first, map_points(embeddings, 3))
    assert not np.array_equal(first, map_points(embeddings, 4))


def test_map_keeps_clusters_together() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(5), 20)
    embeddings = unit(np.eye(5, 12)[labels] + rng.normal(scale=0.1, size=(100, 12)))
    points = map_points(embeddings, 0)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert np.mean(labels[gaps.argmin(axis=1)] == labels) == 1.0


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("dim", [1, 2, 8])
def test_map_of_few_songs(count: int, dim: int) -> None:
    embeddings = unit(np.random.default_rng(2).normal(size=(count, dim)))
    points = map_points(embeddings, 0)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == count


def test_map_of_equal_songs_is_finite() -> None:
    assert np.isfinite(map_points(unit(np.ones((12, 4))), 0)).all()


def test_neighbour_agreement_counts_as_a_loop_does(build_store: Callable[..., Store]) -> None:
    train = build_store("aam", "train", ["a", "b", "c"], ["1", "2"], noise=3.0)
    queries = build_store("aam", "validation", ["a", "b", "c"], ["3"], noise=3.0)
    hits = 0
    for song, label in zip(queries.embeddings, queries.labels, strict=True):
        cosines = [float(song @ other) for other in train.embeddings]
        hits += int(train.labels[int(np.argmax(cosines))] == label)
    assert 0 < hits < 9
    assert neighbour_agreement(train, queries) == (hits, 9)


def test_views_point_at_the_right_songs(analyzed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = member_stores(analyzed, "aam")
    songs = song_list(stores, [])
    view = song_view(stores, 0)
    assert view.songs.tolist() == list(range(len(songs.ids)))
    monkeypatch.setattr(tsne, "SEGMENT_CAP", 100)
    drawn: list[np.ndarray] = []

    def kept(embeddings: np.ndarray, seed: int) -> np.ndarray:
        drawn.append(embeddings)
        return np.full((len(embeddings), 2), seed)

    monkeypatch.setattr(tsne, "map_points", kept)
    segments = segment_view(stores, 0)
    assert len(segments.songs) == 100
    assert segments.total == sum(len(store.segment_song) for store in stores)
    assert set(segments.songs) == set(range(len(songs.ids)))
    assert segments.starts_s is not None
    for song, start, embedding in zip(segments.songs, segments.starts_s, drawn[0], strict=True):
        store = next(s for s in stores if songs.ids[song] in s.song_ids)
        rows = store.segments_of(store.song_ids.index(songs.ids[song]))
        row = store.segment_start_s[rows].tolist().index(start)
        assert np.array_equal(store.segment_embeddings[rows][row], embedding)


def test_page_holds_each_song_with_its_prediction(
    analyzed: Run, page_data: Callable[[str], Any]
) -> None:
    data = page_data((analyzed.pages / "tsne.html").read_text(encoding="utf-8"))
    assert data["singers"] == ["Ada", "Ben & Co", "Cem", "Dörte"]
    assert len(set(data["colours"])) == 4
    songs = data["songs"]
    split = np.array(songs["split"])
    prediction = np.array(songs["prediction"])
    assert (prediction[split == 0] == -1).all()  # training songs carry none
    assert (prediction[split > 0] >= 0).all()
    wrong = (prediction != np.array(songs["singer"])) & (split == 1)
    assert wrong.sum() == 3
    assert set(np.array(songs["confidence"])[split == 1]) == {0.7}
    assert songs["title"][0] == "0 tune"
    assert songs["album"][0] == "First"
    views = [(view["member"], view["level"]) for view in data["views"]]
    assert views == [(0, "song"), (0, "segment"), (1, "song"), (1, "segment")]
    assert data["views"][0]["says"] == ("Member aam: 48 songs (24 train, 12 validation, 12 test).")
    assert sorted(set(data["views"][1]["start"])) == [0.0, 2.5, 5.0, 7.5, 10.0, 12.5]


def test_page_states_the_cap(
    build_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    page_data: Callable[[str], Any],
) -> None:
    run = build_run(members=("aam",))
    monkeypatch.setattr(tsne, "SEGMENT_CAP", 40)
    text = tsne_page(read_material(run))
    assert page_data(text)["views"][1]["says"].startswith(
        "Member aam: 40 segments drawn evenly from 216 ("
    )


def test_song_of_unknown_singer_is_shown_apart(
    build_store: Callable[..., Store], page_data: Callable[[str], Any]
) -> None:
    train = build_store("aam", "train", ["a", "b"], ["1"])
    other = build_store("aam", "test", ["a", "b"], ["2"])
    unknown = Store(**{**vars(other), "labels": np.full(6, -1)})
    songs = song_list([train, unknown], [])
    material: Any = SimpleNamespace(
        songs=songs, members=("aam",), seed=0, stores=lambda _: [train, unknown]
    )
    text = tsne_page(material)
    data = page_data(text)
    assert data["singers"] == ["a", "b", "unknown singer"]
    assert data["known"] == 2
    assert data["songs"]["singer"][-6:] == [2] * 6
