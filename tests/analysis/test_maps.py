"""What is mapped: the right rows of the right songs, members together, equal shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import maps
from analysis.maps import (
    EVERYBODY,
    View,
    all_views,
    cloud,
    fit_all,
    held_out,
    placed_cloud,
    stratified,
    together,
)
from analysis.projections import OnProgress
from analysis.run_data import RunData, read_run_data
from embedder.inference.store import Store, read_store, write_store
from embedder.run import Run
from ensemble.results import PlacedFiles


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


Points = np.ndarray


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Points]:
    """What maps are fitted to; a point's place is its first two coordinates, so it can be found."""
    fitted: list[Points] = []

    class Fitted:
        def __init__(self, vectors: Points, perplexities: tuple[float, ...]) -> None:
            self.perplexities = perplexities
            self.points = np.stack([vectors[:, :2].astype(float)] * len(perplexities))

        def place(self, vectors: Points) -> Points:
            return np.stack([vectors[:, :2].astype(float)] * len(self.perplexities))

    def finished(
        path: Path,
        vectors: Points,
        perplexities: tuple[float, ...],
        seed: int,
        on_progress: OnProgress,
    ) -> Fitted:
        assert seed == 0
        on_progress(0.5)
        fitted.append(vectors)
        path.parent.mkdir(parents=True, exist_ok=True)
        return Fitted(vectors, perplexities)

    monkeypatch.setattr(maps, "finished_map", finished)
    return fitted


@pytest.fixture
def run_data(analyzed: Run) -> RunData:
    return read_run_data(analyzed)


def named(found: list[View]) -> list[tuple[str, str]]:
    return [(view.member, view.level) for view in found]


@pytest.mark.usefixtures("drawn")
def test_all_together_come_first_where_there_are_several(run_data: RunData, analyzed: Run) -> None:
    assert named(list(all_views(run_data))) == [
        (EVERYBODY, "song"), (EVERYBODY, "segment"),
        ("aam", "song"), ("aam", "segment"), ("triplet", "song"), ("triplet", "segment"),
    ]  # fmt: skip
    one = read_run_data(analyzed, ["triplet"])
    assert named(list(all_views(one))) == [("triplet", "song"), ("triplet", "segment")]


@pytest.mark.usefixtures("drawn")
def test_fitting_tells_how_far_it_is(run_data: RunData, analyzed: Run) -> None:
    """A song map is 1 of 21 parts of a member's work, its segments' map the other 20."""
    calls: list[tuple[int, int]] = []
    fit_all(read_run_data(analyzed, ["aam"]), lambda *call: calls.append(call))
    assert calls == [(2, 100), (4, 100), (52, 100), (100, 100)]
    calls.clear()
    fit_all(run_data, lambda *call: calls.append(call))
    assert {(33, 100), (66, 100)} < set(calls)  # all together, and each of the two
    assert calls == sorted(set(calls))  # nothing is told twice
    assert calls[-1] == (100, 100)


def test_points_are_those_of_their_songs(
    run_data: RunData, drawn: list[Points], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "MAPPED", 100)
    monkeypatch.setitem(maps.DRAWN, "segment", 60)
    for view, mapped in zip(all_views(run_data), drawn, strict=False):
        assert (view.mapped, view.total) == ((48, 48) if view.level == "song" else (100, 288))
        assert len(mapped) == view.mapped
        assert len(view.songs) == (48 if view.level == "song" else 60)
        assert set(view.songs.tolist()) == set(range(48))  # every song has its share
        if view.member == EVERYBODY:
            assert mapped.shape[1] == 32
            continue
        stores = run_data.stores(view.member)
        for point, song in enumerate(view.songs):
            store = next(s for s in stores if run_data.songs.ids[song] in s.song_ids)
            row = store.song_ids.index(run_data.songs.ids[song])
            vector = store.embeddings[row]
            if view.starts_s is not None:
                part = store.segments_of(row)
                at = store.segment_start_s[part].tolist().index(view.starts_s[point])
                vector = store.segment_embeddings[part][at]
            for points in view.points:
                np.testing.assert_allclose(points[point], vector[:2], atol=1e-6)


@pytest.mark.usefixtures("drawn")
def test_fewer_points_of_each_map_are_drawn_where_there_are_many(
    run_data: RunData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "ROOM", 150)  # for six maps
    assert [len(view.songs) for view in all_views(run_data)] == [25] * 6


@pytest.mark.usefixtures("drawn")
def test_segments_at_other_places_have_no_view_together(build_run: Callable[..., Run]) -> None:
    run = build_run()
    path = run.store("triplet", "train")
    store = read_store(path)
    write_store(path, replace(store, segment_start_s=store.segment_start_s + np.float32(1)))
    found = named(list(all_views(read_run_data(run))))
    assert (EVERYBODY, "song") in found
    assert (EVERYBODY, "segment") not in found
    assert len(found) == 5


def test_validation_points_are_asked_of_training_points(run_data: RunData) -> None:
    stores = run_data.stores("aam")
    songs = run_data.songs
    unknown = replace(songs, labels=np.where(np.arange(48) == 24, -1, songs.labels))
    mapped = maps.cloud(stores, "segment", lambda owners: np.arange(len(owners)))
    found = held_out(unknown, mapped)
    assert {songs.splits[song] for song in mapped.songs[found.among]} == {0}
    assert {songs.splits[song] for song in mapped.songs[found.queries]} == {1}
    assert len(found.among) == 24 * 6
    assert len(found.queries) == 11 * 6  # song 24 is of nobody known
    np.testing.assert_array_equal(found.labels, songs.labels[mapped.songs[found.among]])
    np.testing.assert_array_equal(found.truth, songs.labels[mapped.songs[found.queries]])
    np.testing.assert_array_equal(found.songs, mapped.songs[found.queries])


@pytest.fixture
def placed(build_store: Callable[..., Store]) -> PlacedFiles:
    """Four files in two batches; triplet says nothing of the second, and heard no second batch."""
    aam, triplet = (build_store(member, "test", ["a"], ["x", "y"]) for member in ("aam", "triplet"))
    batches = (
        (aam.take(np.arange(3)), triplet.take(np.arange(3))),
        (aam.take(np.array([4])),),
    )
    return PlacedFiles(
        paths=tuple(Path(f"{number}.wav") for number in range(4)),
        names=("one", "two", "three", "four"),
        singers=("a",),
        probabilities=np.ones((4, 1)),
        batches=batches,
        unavailable=((), ("triplet",), (), ("triplet",)),
    )


def test_files_are_placed_where_their_members_heard_them(placed: PlacedFiles) -> None:
    aam = placed_cloud(placed, ["aam"], "song")
    assert aam is not None
    assert aam.songs.tolist() == [0, 1, 2, 3]
    first, second = placed.batches
    np.testing.assert_array_equal(aam.vectors[1], first[0].embeddings[1])
    np.testing.assert_array_equal(aam.vectors[3], second[0].embeddings[0])

    triplet = placed_cloud(placed, ["triplet"], "segment")
    assert triplet is not None
    assert triplet.songs.tolist() == [0] * 6 + [2] * 6
    np.testing.assert_array_equal(triplet.vectors[6:], first[1].segment_embeddings[12:])

    both = placed_cloud(placed, ["aam", "triplet"], "song")
    assert both is not None
    assert both.songs.tolist() == [0, 2]
    parts = np.stack([first[0].embeddings[2], first[1].embeddings[2]])
    np.testing.assert_allclose(both.vectors[1], parts.ravel() / 2**0.5, atol=1e-6)
    assert placed_cloud(replace(placed, unavailable=(("aam",),) * 4), ["aam"], "song") is None


def test_new_points_come_with_the_view(
    run_data: RunData, placed: PlacedFiles, drawn: list[Points]
) -> None:
    found = list(all_views(replace(run_data, placed=placed)))
    assert len(drawn) == 6
    files = [view.new.files.tolist() if view.new else None for view in found]
    assert files[0] == [0, 2]
    assert files[2] == [0, 1, 2, 3]
    assert files[5] == [0] * 6 + [2] * 6
    aam = found[2].new
    assert aam is not None
    np.testing.assert_allclose(aam.points[0][3], placed.batches[1][0].embeddings[0, :2], atol=1e-6)
    assert [view.new for view in all_views(run_data)] == [None] * 6
