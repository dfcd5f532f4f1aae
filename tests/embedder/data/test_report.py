"""The numbers and the words of a preparation's report."""

from __future__ import annotations

import pytest

from embedder.catalogue import Song
from embedder.data.prepare import KINDS, Problem, summarise

SONGS = [
    Song("a/A/1", "", "a", "A", "1", "train", 90.0, "k1", "v", "b"),
    Song("a/A/2", "", "a", "A", "2", "train", 60.0, "k2", "v", ""),
    Song("b/A/1", "", "b", "A", "1", "train", 30.0, "k3"),
    Song("a/B/1", "", "a", "B", "1", "validation", 45.0, "k4", "v", "b"),
]


def test_numbers_are_counted_by_split() -> None:
    report = summarise(SONGS, [], (), stems_wanted=True)
    assert report.songs == {"train": 3, "validation": 1, "test": 0}
    assert report.minutes == {"train": 3.0, "validation": 0.75, "test": 0.0}
    assert (report.singers, report.vocals, report.backing) == (2, 3, 2)
    assert [" ".join(line.split()) for line in report.lines()] == [
        "train 3 songs 3.0 minutes",
        "validation 1 songs 0.8 minutes",
        "all 4 songs 3.8 minutes 2 singers",
        "stems: vocals of 3, backing of 2 songs",
    ]


def test_without_a_stems_folder_stems_are_not_mentioned() -> None:
    assert not any("stems" in line for line in summarise(SONGS, [], (), False).lines())


def test_every_problem_is_named_under_its_kind_with_what_is_done_about_it() -> None:
    problems = [Problem(f"file of {kind}", kind, f"reason {n}") for n, kind in enumerate(KINDS)]
    report = summarise(SONGS, problems, ("a/A", "b/B"), False)
    lines = report.lines()
    for number, (kind, fate) in enumerate(KINDS.items()):
        at = lines.index(f"{kind} (1, {fate}):")
        assert lines[at + 1] == f"  file of {kind}: reason {number}"
        assert report.of(kind) == (problems[number],)
    assert any(line.startswith("2 albums have songs in more than one") for line in lines)
    expected = {"unreadable", "empty", "short", "silent", "in two splits", "duet"}
    assert {p.kind for p in report.left_out} == expected


def test_a_problem_of_no_kind_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of .*not 'puzzling'"):
        Problem("x", "puzzling", "y")
