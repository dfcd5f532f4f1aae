"""The map page: its sentence, its table, and what it says is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.maps.preservation import Preservation
from analysis.maps.tsne import kept_table, map_finding, missing, tsne_page
from analysis.maps.views import EVERYBODY, NewPoints, View
from analysis.material import read_material
from embedder.artifacts import Run
from embedder.inference.store import Store, read_store, write_store
from embedder.metrics import Estimate
from ensemble.placed import Placed


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
    text = tsne_page(read_material(run))
    assert "no map of all together at segment level" in text
    assert "python app.py fuse --segment_s 5 --hop_s 1.5" in text


def test_files_that_a_member_did_not_hear_are_named(analyzed: Run) -> None:
    files = Placed((Path("a"), Path("b")), ("a <new> one", "b"), ("x",), np.ones((2, 1)), (), ())
    material = replace(read_material(analyzed, ["aam"]), placed=files)
    view = made(Estimate(0, 0, 0))
    heard = replace(view, new=NewPoints(np.zeros((2, 1, 2)), np.array([1]), None))
    assert missing(material, [heard]) == ["Not heard by aam, so not on that map: a <new> one."]
    both = NewPoints(np.zeros((2, 2, 2)), np.array([0, 1]), None)
    assert missing(material, [replace(view, new=both)]) == []
    assert missing(replace(material, placed=None), [view]) == []


def test_measured_ranges_colour_the_map(
    analyzed: Run, monkeypatch: pytest.MonkeyPatch, page_data: Callable[[str], Any]
) -> None:
    """Of a singer of another run nothing is known."""
    ranges = {"Cem": (100.0, 400.0), "Nobody": (100.0, 900.0)}
    monkeypatch.setattr("analysis.maps.tsne.ranges_of", lambda _: ranges)
    data = page_data(tsne_page(read_material(analyzed, ["aam"])))
    known = {"sex": "", "low": 100.0, "high": 400.0, "measured": True}
    assert data["facts"] == [None, None, known, None]
    assert set(data["modes"]["range"]["values"]) == {None, 0.5}
