"""Answers of degraded songs on disk: who is drawn, what is resumed, what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from embedder.artifact import file_fingerprint, read_json, write_json, write_text
from embedder.catalogue import Song
from embedder.measures.robustness import severity_levels
from embedder.run import Run, create_run
from ensemble.robustness import (
    Conditions,
    Measured,
    Row,
    begin,
    fitting,
    generator,
    read_measured,
    sample,
    write_rows,
)

SOURCES = ("fused", "m/head")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = create_run(tmp_path / "run")
    write_text(run.fusion, "a fusion")
    return run


def conditions(run: Run, **changes: object) -> Conditions:
    made = Conditions(
        file_fingerprint(run.fusion), "songs", "", "validation", 10.0, ("A", "B, C"), SOURCES
    )
    return replace(made, **changes)


def rows_of(song: str, rank: int = 1) -> list[Row]:
    return [Row(song, "B, C", step, "A", (rank, 0)) for step in severity_levels()]


def songs(counts: dict[str, int]) -> list[Song]:
    return [
        Song(f"{singer}/x/{number}.mp3", "", singer, "x", "", "validation")
        for singer, count in counts.items()
        for number in range(count)
    ]


def test_a_sample_has_as_many_of_each_singer_and_grows_at_its_end() -> None:
    all_songs = songs({"a": 9, "b": 9, "c": 2})
    drawn = sample(all_songs, 7)
    counts = Counter(song.singer for song in drawn)
    assert sorted(counts.values()) == [2, 2, 3]
    assert sample(all_songs, 5) == drawn[:5]
    assert sample(list(reversed(all_songs)), 7) == drawn
    assert sample(all_songs, 100, seed=1) != sample(all_songs, 100)
    assert len(set(sample(all_songs, 100))) == 20
    assert {song.singer for song in sample(all_songs, 3)} == {"a", "b", "c"}


def test_draws_depend_on_song_and_level() -> None:
    first = generator(0, "a", ("noise", 10.0)).random()
    assert generator(0, "a", ("noise", 10.0)).random() == first
    others = [("b", ("noise", 10.0)), ("a", ("noise", 20.0)), ("a", ("reverb", 10.0))]
    assert all(generator(0, song, step).random() != first for song, step in others)


def test_what_is_written_is_read_and_goes_on(run: Run) -> None:
    made = conditions(run)
    assert begin(run, made, 3, 9) == []
    rows = rows_of('one, "quoted".mp3') + rows_of("two.mp3", 2)
    write_rows(run, SOURCES, rows)
    assert fitting(run) == Measured(made, 3, 9, tuple(rows))
    assert begin(run, made, 5, 9) == rows  # a larger sample keeps them
    found = read_measured(run)
    assert isinstance(found, Measured)
    assert (found.wanted, found.rows) == (5, tuple(rows))


def test_a_song_without_all_its_levels_is_measured_again(run: Run) -> None:
    begin(run, conditions(run), 2, 9)
    write_rows(run, SOURCES, rows_of("one.mp3") + rows_of("two.mp3")[:-1])
    assert begin(run, conditions(run), 2, 9) == rows_of("one.mp3")


def test_rows_of_other_conditions_are_taken_away(run: Run) -> None:
    begin(run, conditions(run), 1, 9)
    write_rows(run, SOURCES, rows_of("one.mp3"))
    assert begin(run, conditions(run, seconds=30.0), 1, 9) == []
    assert not run.measure("robustness.csv").exists()
    assert "was not measured" in str(read_measured(run))


def test_a_stale_or_broken_measure_is_refused_in_a_sentence(run: Run) -> None:
    again = "; run: python app.py measure --what robustness"
    assert fitting(run) == "Robustness was not measured" + again
    begin(run, conditions(run), 1, 9)
    write_rows(run, SOURCES, [])
    assert fitting(run) == "No song's robustness is measured yet" + again
    write_rows(run, SOURCES, rows_of("one.mp3"))
    assert isinstance(fitting(run), Measured)
    run.separator.mkdir()
    run.separator_weights.write_bytes(b"new")
    assert "with another separator than the run has now" in str(fitting(run))
    run.separator_weights.unlink()
    write_text(run.fusion, "fused again")
    assert (
        fitting(run) == "Robustness was measured with another fusion than the run has now" + again
    )
    table, head = run.measure("robustness.csv"), run.measure("robustness.json")
    found = read_json(head)
    write_json(head, {**found, "ladders": {"noise": [1.0]}})
    assert "by another version" in str(fitting(run))
    write_json(head, found)
    text = table.read_text("utf-8")
    for broken in ("", "other,columns\n", text.replace(",30,", ",loud,"), text + "a,b\n"):
        write_text(table, broken)
        assert fitting(run) == "The measure of robustness cannot be read" + again
    for wrong in ({**found, "format": 0}, {**found, "more": 1}, [], {"format": 1}):
        write_json(head, wrong)
        assert "cannot be read" in str(fitting(run))
