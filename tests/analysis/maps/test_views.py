"""The maps of a run: which there are, whose points they show, and where new files lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.maps import views
from analysis.maps.fit import Tell
from analysis.maps.views import EVERYBODY, View, all_views, asked, fit_all, placed_cloud
from analysis.material import Material, read_material
from embedder.artifacts import Run
from embedder.inference.store import Store, read_store, write_store
from ensemble.placed import Placed

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
        path: Path, vectors: Points, perplexities: tuple[float, ...], seed: int, tell: Tell
    ) -> Fitted:
        assert seed == 0
        tell(0.5)
        fitted.append(vectors)
        path.parent.mkdir(parents=True, exist_ok=True)
        return Fitted(vectors, perplexities)

    monkeypatch.setattr(views, "finished_map", finished)
    return fitted


@pytest.fixture
def material(analyzed: Run) -> Material:
    return read_material(analyzed)


def named(found: list[View]) -> list[tuple[str, str]]:
    return [(view.member, view.level) for view in found]


@pytest.mark.usefixtures("drawn")
def test_all_together_come_first_where_there_are_several(material: Material, analyzed: Run) -> None:
    assert named(list(all_views(material))) == [
        (EVERYBODY, "song"), (EVERYBODY, "segment"),
        ("aam", "song"), ("aam", "segment"), ("triplet", "song"), ("triplet", "segment"),
    ]  # fmt: skip
    one = read_material(analyzed, ["triplet"])
    assert named(list(all_views(one))) == [("triplet", "song"), ("triplet", "segment")]


@pytest.mark.usefixtures("drawn")
def test_fitting_tells_how_far_it_is(material: Material, analyzed: Run) -> None:
    """A song map is 1 of 21 parts of a member's work, its segments' map the other 20."""
    calls: list[tuple[int, int]] = []
    fit_all(read_material(analyzed, ["aam"]), lambda *call: calls.append(call))
    assert calls == [(2, 100), (4, 100), (52, 100), (100, 100)]
    calls.clear()
    fit_all(material, lambda *call: calls.append(call))
    assert {(33, 100), (66, 100)} < set(calls)  # all together, and each of the two
    assert calls == sorted(set(calls))  # nothing is told twice
    assert calls[-1] == (100, 100)


def test_points_are_those_of_their_songs(
    material: Material, drawn: list[Points], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAPPED", 100)
    monkeypatch.setitem(views.DRAWN, "segment", 60)
    for view, mapped in zip(all_views(material), drawn, strict=False):
        assert (view.mapped, view.total) == ((48, 48) if view.level == "song" else (100, 288))
        assert len(mapped) == view.mapped
        assert len(view.songs) == (48 if view.level == "song" else 60)
        assert set(view.songs.tolist()) == set(range(48))  # every song has its share
        if view.member == EVERYBODY:
            assert mapped.shape[1] == 32
            continue
        stores = material.stores(view.member)
        for point, song in enumerate(view.songs):
            store = next(s for s in stores if material.songs.ids[song] in s.song_ids)
            row = store.song_ids.index(material.songs.ids[song])
            vector = store.embeddings[row]
            if view.starts_s is not None:
                part = store.segments_of(row)
                at = store.segment_start_s[part].tolist().index(view.starts_s[point])
                vector = store.segment_embeddings[part][at]
            for points in view.points:
                np.testing.assert_allclose(points[point], vector[:2], atol=1e-6)


@pytest.mark.usefixtures("drawn")
def test_fewer_points_of_each_map_are_drawn_where_there_are_many(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "ROOM", 150)  # for six maps
    assert [len(view.songs) for view in all_views(material)] == [25] * 6


@pytest.mark.usefixtures("drawn")
def test_segments_at_other_places_have_no_map_together(build_run: Callable[..., Run]) -> None:
    run = build_run()
    path = run.store("triplet", "train")
    store = read_store(path)
    write_store(path, replace(store, segment_start_s=store.segment_start_s + np.float32(1)))
    found = named(list(all_views(read_material(run))))
    assert (EVERYBODY, "song") in found
    assert (EVERYBODY, "segment") not in found
    assert len(found) == 5


def test_validation_points_are_asked_of_training_points(material: Material) -> None:
    stores = material.stores("aam")
    songs = material.songs
    unknown = replace(songs, labels=np.where(np.arange(48) == 24, -1, songs.labels))
    mapped = views.cloud(stores, "segment", lambda owners: np.arange(len(owners)))
    found = asked(unknown, mapped)
    assert {songs.splits[song] for song in mapped.songs[found.among]} == {0}
    assert {songs.splits[song] for song in mapped.songs[found.queries]} == {1}
    assert len(found.among) == 24 * 6
    assert len(found.queries) == 11 * 6  # song 24 is of nobody known
    np.testing.assert_array_equal(found.labels, songs.labels[mapped.songs[found.among]])
    np.testing.assert_array_equal(found.truth, songs.labels[mapped.songs[found.queries]])
    np.testing.assert_array_equal(found.songs, mapped.songs[found.queries])


@pytest.fixture
def placed(build_store: Callable[..., Store]) -> Placed:
    """Four files in two batches; triplet says nothing of the second, and heard no second batch."""
    aam, triplet = (build_store(member, "test", ["a"], ["x", "y"]) for member in ("aam", "triplet"))
    batches = (
        (aam.take(np.arange(3)), triplet.take(np.arange(3))),
        (aam.take(np.array([4])),),
    )
    return Placed(
        paths=tuple(Path(f"{number}.wav") for number in range(4)),
        names=("one", "two", "three", "four"),
        singers=("a",),
        probabilities=np.ones((4, 1)),
        batches=batches,
        silent=((), ("triplet",), (), ("triplet",)),
    )


def test_files_are_placed_where_their_members_heard_them(placed: Placed) -> None:
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
    assert placed_cloud(replace(placed, silent=(("aam",),) * 4), ["aam"], "song") is None


def test_new_points_come_with_the_view(
    material: Material, placed: Placed, drawn: list[Points]
) -> None:
    found = list(all_views(replace(material, placed=placed)))
    assert len(drawn) == 6
    files = [view.new.files.tolist() if view.new else None for view in found]
    assert files[0] == [0, 2]
    assert files[2] == [0, 1, 2, 3]
    assert files[5] == [0] * 6 + [2] * 6
    aam = found[2].new
    assert aam is not None
    np.testing.assert_allclose(aam.points[0][3], placed.batches[1][0].embeddings[0, :2], atol=1e-6)
    assert [view.new for view in all_views(material)] == [None] * 6
