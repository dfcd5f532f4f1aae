"""What enrolled songs cost the trained singers: recomputed, and not on songs that were enrolled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.metrics import top_k_hits
from ensemble.enrollment_cost import costs
from ensemble.fusion.experts import FUSED
from ensemble.index.table import enroll, read_indexes, songs_of, write_table
from ensemble.scoring import score_songs


@pytest.fixture
def table(world: Any, tmp_path: Path) -> Path:
    path = tmp_path / "index.sqlite"
    write_table(path, world.train)
    return path


def test_costs_are_those_of_the_songs_without_and_with_them(world: Any, table: Path) -> None:
    enroll(table, "new", songs_of([store.take(np.arange(6)) for store in world.strangers]))
    indexes, labels = read_indexes(table), world.validation[0].labels
    found = costs(world.fusion, world.train, world.validation, indexes, seed=1)
    assert (found.songs, found.enrolled, found.left_out) == (36, 6, 0)
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["top-1", "top-3", "score", "NLL"]
    before, after = (
        score_songs(world.fusion, world.validation, each).scores[FUSED]
        for each in (world.indexes, indexes)
    )
    songs = np.arange(36)
    for name, old, new in (
        ("top-1", *((logs.argmax(axis=1) == labels).mean() for logs in (before, after))),
        ("top-3", *(top_k_hits(labels, logs, 3).mean() for logs in (before, after))),
        ("NLL", *(-logs[songs, labels].mean() for logs in (before, after))),
    ):
        row = rows[name]
        assert row.before.value == pytest.approx(old)
        assert row.after.value == pytest.approx(new)
        assert row.change.value == pytest.approx(new - old)
        assert row.change.low <= row.change.value <= row.change.high
    score = rows["top-1"].change.value + 0.5 * rows["top-3"].change.value
    assert rows["score"].change.value == pytest.approx(score)
    assert rows["NLL"].change.value > 0  # some of each song's probability goes to the new singer
    again = costs(world.fusion, world.train, world.validation, indexes, seed=1)
    assert again == found


def test_songs_added_to_a_trained_singer_cost_too(world: Any, table: Path) -> None:
    """Another's songs under a trained singer's name: what that does is in the table."""
    wrong = [store.take(np.flatnonzero(store.labels == 4)) for store in world.train]
    renamed = [
        replace(store, song_ids=tuple(f"x/{song}" for song in store.song_ids)) for store in wrong
    ]
    enroll(table, "singer 0", songs_of(renamed))
    found = costs(world.fusion, world.train, world.validation, read_indexes(table))
    assert found.enrolled == 6
    assert {row.name: row.change.value > 0 for row in found.rows}["NLL"]


def test_nothing_is_measured_on_songs_that_were_enrolled(world: Any, table: Path) -> None:
    rows = np.array([1, 2, 20])
    copies = [store.take(rows) for store in world.validation]
    renamed = [replace(store, song_ids=("x/1", "x/2", "x/3")) for store in copies]
    enroll(table, "new", songs_of(renamed))
    found = costs(world.fusion, world.train, world.validation, read_indexes(table))
    assert (found.songs, found.enrolled, found.left_out) == (33, 3, 3)
    rest = [store.take(np.setdiff1d(np.arange(36), rows)) for store in world.validation]
    assert costs(world.fusion, world.train, rest, read_indexes(table)).rows == found.rows
    found = costs(world.fusion, world.train, copies, read_indexes(table))
    assert (found.songs, found.left_out, found.rows) == (0, 3, ())


def test_nothing_enrolled_costs_nothing(world: Any, table: Path) -> None:
    found = costs(world.fusion, world.train, world.validation, read_indexes(table))
    assert (found.songs, found.enrolled, found.rows) == (36, 0, ())
