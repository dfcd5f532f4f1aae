"""What the map page hands to its script: every song with what is its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.analyze import analyze
from analysis.inputs import Songs
from analysis.maps.data import best_places, default_map, page_data, tops, view_data
from analysis.maps.preservation import Preservation
from analysis.maps.views import EVERYBODY, View
from analysis.material import Material, read_material
from embedder.artifacts import Run

KEPT = Preservation(0.9, 10, 3, "validation", 0, 0)


def view(songs: list[int], **changes: Any) -> View:
    count = len(songs)
    points = np.arange(4 * count).reshape(2, count, 2) / 3
    made = View(
        "aam", "song", (10.0, 30.0), points, np.array(songs), None, count, count, (KEPT, KEPT)
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def material(analyzed: Run) -> Material:
    return read_material(analyzed)


def test_best_places_are_those_of_a_sort() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(6), size=5)
    for row, found in zip(probabilities, best_places(probabilities), strict=True):
        order = sorted(range(6), key=lambda singer: -row[singer])[:3]
        assert found[::2] == order
        assert found[1::2] == [round(10_000 * row[singer]) for singer in order]
    assert best_places(np.array([[0.25, 0.75]])) == [[1, 7500, 0, 2500]]


def test_songs_have_their_own_answer_and_training_songs_none(material: Material) -> None:
    found = tops(material)
    answers = {
        song: row
        for one in material.predicted
        for song, row in zip(one.ids, one.probabilities, strict=True)
    }
    for song, split, top in zip(material.songs.ids, material.songs.splits, found, strict=True):
        if split == 0:
            assert top is None
        else:
            assert top is not None
            assert top[0] == answers[song].argmax()
            assert len(top) == 6


def test_of_an_unknown_singers_song_the_first_is_kept(material: Material) -> None:
    songs: Songs = replace(material.songs, labels=np.full(48, -1))
    known = tuple(one.take(np.arange(0)) for one in material.predicted)
    found = tops(replace(material, songs=songs, predicted=known))
    named = material.songs.predictions.tolist()
    assert found[:24] == [None] * 24
    assert found[24:] == [[singer, 7000] for singer in named[24:]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "Member aam: 3 songs (2 train, 1 validation)."),
        ({"member": EVERYBODY}, "All members together: 3 songs (2 train, 1 validation)."),
        (
            {"mapped": 50, "total": 50, "level": "segment"},
            "Member aam: 50 segments; 3 are drawn, evenly over the songs (2 train, 1 validation).",
        ),
        (
            {"mapped": 40, "total": 50},
            "Member aam: 50 songs, of which 40 are mapped, evenly over the songs; 3 are drawn, "
            "evenly over the singers (2 train, 1 validation).",
        ),
    ],
)
def test_a_view_says_how_much_it_shows(
    changes: dict[str, Any], says: str, material: Material
) -> None:
    assert view_data(view([0, 5, 30], **changes), material, 0)["says"] == says


def test_a_view_holds_its_points(material: Material) -> None:
    data = view_data(view([0, 5, 30], starts_s=np.array([0.0, 2.5, 1.234])), material, 1)
    assert data["song"] == [0, 5, 30]
    assert data["start"] == [0.0, 2.5, 1.23]
    assert data["x"] == [[0.0, 0.67, 1.33], [2.0, 2.67, 3.33]]
    assert data["y"] == [[0.33, 1.0, 1.67], [2.33, 3.0, 3.67]]
    assert data["first"] == 1
    assert data["new"] is None
    assert default_map(view([0], perplexities=(10.0,))) == 0


def test_songs_of_the_page_are_those_of_the_run(
    analyzed: Run, page_data: Callable[[str], Any]
) -> None:
    data = page_data((analyzed.pages / "tsne.html").read_text(encoding="utf-8"))
    songs = data["songs"]
    assert data["singers"] == ["Ada", "Ben & Co", "Cem", "Dörte"]
    assert (songs["title"][0], songs["album"][0]) == ("0 tune", "First")
    assert [one is None for one in songs["top"]] == [split == 0 for split in songs["split"]]
    wrong = [
        song
        for song, top in enumerate(songs["top"])
        if top and songs["split"][song] == 1 and top[0] != songs["singer"][song]
    ]
    assert len(wrong) == 3
    assert all(songs["top"][song][1] == 7000 for song in wrong)
    assert songs["audio"] == []
    assert data["files"] is None
    modes = data["modes"]
    assert list(modes) == ["singer", "album", "correct", "confidence"]
    assert [modes["correct"]["keys"][song] for song in wrong] == [1, 1, 1]
    assert [(one["member"], one["level"]) for one in data["views"]] == [
        (member, level) for member in range(3) for level in ("song", "segment")
    ]
    assert data["views"][1]["perplexities"] == [10, 30]
    assert sorted(set(data["views"][1]["start"])) == [0.0, 2.5, 5.0, 7.5, 10.0, 12.5]


def test_what_is_known_of_singers_is_handed_over(build_run: Callable[..., Run]) -> None:
    run = build_run(members=("aam",))
    run.singer_facts.write_text("singer,sex,low_hz,high_hz\nCem,m,98,392\n", encoding="utf-8")
    material = read_material(run)
    data = page_data(material, [view([0])], [])
    assert data["facts"] == [
        None,
        None,
        {"sex": "m", "low": 98.0, "high": 392.0, "measured": False},
        None,
    ]
    other = run.root / "other.csv"
    other.write_text("singer,sex\nAda,f\n", encoding="utf-8")
    assert list(read_material(run, singers_csv=other).facts) == ["Ada"]


@pytest.mark.slow  # the run is large
def test_two_thousand_songs_of_three_members_fit(build_run: Callable[..., Run]) -> None:
    """Only the maps are made up: 8 MB are for the whole page, with plotly's five."""
    import analysis.maps.tsne as module

    run = build_run(
        singers=[f"a singer with a name {number}" for number in range(20)],
        members=("aam",),
        train_albums=[f"an album with a name {number}" for number in range(32)],
    )
    rng = np.random.default_rng(0)
    songs = 20 * 33 * 3
    counts = {"song": songs, "segment": 3000}
    views = [
        View(
            member,
            level,
            (10.0, 30.0, 100.0),
            rng.normal(scale=60, size=(3, points, 2)),
            rng.integers(songs, size=points),
            rng.uniform(0, 300, points) if level == "segment" else None,
            60_000,
            60_000,
            (KEPT,) * 3,
        )
        for member in ("", "one", "two", "three")
        for level, points in counts.items()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "all_views", lambda _: views)
        (path,) = analyze(run, pages=["tsne"])
    assert path.stat().st_size < 7e6
