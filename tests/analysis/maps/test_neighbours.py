"""Neighbours and their votes, as loops find them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.maps import neighbours
from analysis.maps.neighbours import nearest, nearest_in_map, neighbour_agreement, voted
from embedder.inference.store import Store


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=8))
def test_the_label_named_most_often_wins_and_of_equals_the_nearest(labels: list[list[int]]) -> None:
    for row, found in zip(labels, voted(np.array(labels)), strict=True):
        counts = Counter(row)
        most = max(counts.values())
        assert found == next(label for label in row if counts[label] == most)


def test_nearest_is_a_slow_search(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    among, queries = (rng.normal(size=(count, 4)) for count in (30, 11))
    units = [
        (one / np.linalg.norm(one, axis=1, keepdims=True)).astype(np.float32)
        for one in (among, queries)
    ]
    slow = [np.argsort(-units[0] @ query)[:7].tolist() for query in units[1]]
    assert nearest(*units, 7).tolist() == slow
    monkeypatch.setattr(neighbours, "BLOCK", 3)
    assert nearest(*units, 7).tolist() == slow
    plane = [
        np.argsort(((among[:, :2] - query) ** 2).sum(axis=1))[:7].tolist()
        for query in queries[:, :2]
    ]
    assert nearest_in_map(among[:, :2], queries[:, :2], 7).tolist() == plane


def test_no_more_neighbours_than_there_are_and_none_of_nobody() -> None:
    among = np.eye(3, dtype=np.float32)
    assert sorted(nearest(among, among[:1], 10)[0].tolist()) == [0, 1, 2]
    assert nearest(among, among[:0], 10).shape == (0, 3)
    assert sorted(nearest_in_map(among[:, :2], among[:1, :2], 10)[0].tolist()) == [0, 1, 2]
    assert nearest_in_map(among[:, :2], among[:0, :2], 10).shape == (0, 3)


def test_neighbour_agreement_counts_as_a_loop_does(build_store: Callable[..., Store]) -> None:
    train = build_store("aam", "train", ["a", "b", "c"], ["1", "2"], noise=3.0)
    queries = build_store("aam", "validation", ["a", "b", "c"], ["3"], noise=3.0)
    hits = 0
    for song, label in zip(queries.embeddings, queries.labels, strict=True):
        cosines = [float(song @ other) for other in train.embeddings]
        hits += int(train.labels[int(np.argmax(cosines))] == label)
    assert 0 < hits < 9
    assert neighbour_agreement(train, queries) == (hits, 9)
    unknown = Store(
        **{**vars(queries), "labels": np.where(queries.labels == 1, -1, queries.labels)}
    )
    assert neighbour_agreement(train, unknown)[1] == 6
