"""The map page: its sentence, its table, and what it says is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.analyze import analyze
from analysis.maps import EVERYBODY, NewPoints, View
from analysis.neighbourhoods import Preservation
from analysis.pages.map import (
    best_places,
    default_map,
    kept_table,
    map_finding,
    missing,
    page_data,
    tops,
    tsne_page,
    view_data,
)
from analysis.run_data import RunData, Songs, read_run_data
from embedder.inference.store import Store, read_store, write_store
from embedder.run import Run
from embedder.statistics import Estimate
from ensemble.results import PlacedFiles


def made(change: Estimate, member: str = "aam", level: str = "song") -> View:
    kept = Preservation(
        0.9512, 500, 10, "validation", 20, 10,
        Estimate(0.9, 0.8, 0.97), Estimate(0.9 + change.value, 0.7, 0.95), change,
    )  # fmt: skip
    other = replace(kept, map=Estimate(0.1, 0.0, 0.2))
    points = np.zeros((2, 3, 2))
    return View(member, level, (10.0, 30.0), points, np.arange(3), None, 1413, 1413, (other, kept))


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (Estimate(0.0, 0.0, 0.0), "they do for as many."),
        (
            Estimate(-0.05, -0.1, -0.01),
            "they do for 85.0%: the map parts the singers worse than the embedding does (−5.0 "
            "points, 95% interval −10.0 to −1.0).",
        ),
        (
            Estimate(0.05, 0.01, 0.1),
            "they do for 95.0%: the map parts the singers better than the embedding does (+5.0 "
            "points, 95% interval +1.0 to +10.0).",
        ),
        (
            Estimate(-0.05, -0.1, 0.0),
            "they do for 85.0%: no difference between map and embedding can be told (−5.0 points, "
            "95% interval −10.0 to +0.0).",
        ),
    ],
)
def test_the_finding_is_true_of_the_numbers(change: Estimate, end: str) -> None:
    """Of the map of perplexity 30, which is shown first."""
    start = (
        "The 10 nearest training songs in the embedding of aam name the right singer for 90.0% of "
        "20 validation songs (95% interval 80.0% to 97.0%); on its map of perplexity 30 "
    )
    assert map_finding(made(change)) == start + end
    assert "in the embedding of all members together" in map_finding(made(change, EVERYBODY))


def test_a_map_of_nobody_held_out_has_a_finding_too() -> None:
    nobody = Preservation(0.9, 500, 10, "validation", 0, 0)
    view = replace(made(Estimate(0, 0, 0)), kept=(nobody, nobody))
    assert map_finding(view) == (
        "The map of aam shows 1,413 songs, none of them held out, so nothing says how well it "
        "parts the singers of new ones."
    )
    assert "0.900" in kept_table([view])


def test_the_table_has_a_row_a_map() -> None:
    text = kept_table([made(Estimate(-0.05, -0.1, 0.0)), made(Estimate(0, 0, 0), EVERYBODY)])
    assert text.count("<tr>") == 1 + 4
    assert "<td>aam<small>1,413 songs</small></td><td class=number>30</td>" in text
    assert "<td class=number>0.951</td><td class=number>85.0%<small>70.0% to 95.0%</small>" in text
    assert "all members together" in text


def test_the_page_says_what_is_missing_and_how_to_get_it(build_run: Callable[..., Run]) -> None:
    run = build_run()
    path = run.store("triplet", "train")
    store: Store = read_store(path)
    write_store(path, replace(store, segment_start_s=store.segment_start_s + np.float32(1)))
    text = tsne_page(read_run_data(run))
    assert "no map of all together at segment level" in text
    assert "python app.py fuse --segment_s 5 --hop_s 1.5" in text


def test_files_that_a_member_did_not_hear_are_named(analyzed: Run) -> None:
    files = PlacedFiles(
        (Path("a"), Path("b")), ("a <new> one", "b"), ("x",), np.ones((2, 1)), (), ()
    )
    run_data = replace(read_run_data(analyzed, ["aam"]), placed=files)
    view = made(Estimate(0, 0, 0))
    heard = replace(view, new=NewPoints(np.zeros((2, 1, 2)), np.array([1]), None))
    assert missing(run_data, [heard]) == ["Not embedded by aam, so not on that map: a <new> one."]
    both = NewPoints(np.zeros((2, 2, 2)), np.array([0, 1]), None)
    assert missing(run_data, [replace(view, new=both)]) == []
    assert missing(replace(run_data, placed=None), [view]) == []


def test_measured_ranges_colour_the_map(
    analyzed: Run, monkeypatch: pytest.MonkeyPatch, page_data: Callable[[str], Any]
) -> None:
    """Of a singer of another run nothing is known."""
    ranges = {"Cem": (100.0, 400.0), "Nobody": (100.0, 900.0)}
    monkeypatch.setattr("analysis.pages.map.ranges_of", lambda _: ranges)
    data = page_data(tsne_page(read_run_data(analyzed, ["aam"])))
    known = {"sex": "", "low": 100.0, "high": 400.0, "measured": True}
    assert data["facts"] == [None, None, known, None]
    assert set(data["modes"]["range"]["values"]) == {None, 0.5}


KEPT = Preservation(0.9, 10, 3, "validation", 0, 0)


def view(songs: list[int], **changes: Any) -> View:
    count = len(songs)
    points = np.arange(4 * count).reshape(2, count, 2) / 3
    made = View(
        "aam", "song", (10.0, 30.0), points, np.array(songs), None, count, count, (KEPT, KEPT)
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def run_data(analyzed: Run) -> RunData:
    return read_run_data(analyzed)


def test_best_places_are_those_of_a_sort() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(6), size=5)
    for row, found in zip(probabilities, best_places(probabilities), strict=True):
        order = sorted(range(6), key=lambda singer: -row[singer])[:3]
        assert found[::2] == order
        assert found[1::2] == [round(10_000 * row[singer]) for singer in order]
    assert best_places(np.array([[0.25, 0.75]])) == [[1, 7500, 0, 2500]]


def test_songs_have_their_own_answer_and_training_songs_none(run_data: RunData) -> None:
    found = tops(run_data)
    answers = {
        song: row
        for one in run_data.predicted
        for song, row in zip(one.ids, one.probabilities, strict=True)
    }
    for song, split, top in zip(run_data.songs.ids, run_data.songs.splits, found, strict=True):
        if split == 0:
            assert top is None
        else:
            assert top is not None
            assert top[0] == answers[song].argmax()
            assert len(top) == 6


def test_of_an_unknown_singers_song_the_first_is_kept(run_data: RunData) -> None:
    songs: Songs = replace(run_data.songs, labels=np.full(48, -1))
    known = tuple(one.take(np.arange(0)) for one in run_data.predicted)
    found = tops(replace(run_data, songs=songs, predicted=known))
    named = run_data.songs.predictions.tolist()
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
    changes: dict[str, Any], says: str, run_data: RunData
) -> None:
    assert view_data(view([0, 5, 30], **changes), run_data, 0)["says"] == says


def test_a_view_holds_its_points(run_data: RunData) -> None:
    data = view_data(view([0, 5, 30], starts_s=np.array([0.0, 2.5, 1.234])), run_data, 1)
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
    run_data = read_run_data(run)
    data = page_data(run_data, [view([0])], [])
    assert data["facts"] == [
        None,
        None,
        {"sex": "m", "low": 98.0, "high": 392.0, "measured": False},
        None,
    ]
    other = run.root / "other.csv"
    other.write_text("singer,sex\nAda,f\n", encoding="utf-8")
    assert list(read_run_data(run, singers_csv=other).facts) == ["Ada"]


@pytest.mark.slow  # the run is large
def test_two_thousand_songs_of_three_members_fit(build_run: Callable[..., Run]) -> None:
    """Only the maps are made up: 8 MB are for the whole page, with plotly's five."""
    import analysis.pages.map as module

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
