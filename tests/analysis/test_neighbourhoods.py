"""Neighbours and their votes, as loops find them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import neighbourhoods
from analysis.neighbourhoods import (
    HeldOut,
    Preservation,
    nearest,
    nearest_in_map,
    neighbour_agreement,
    preservation,
    trusted,
    voted,
)
from embedder.inference.store import Store
from embedder.statistics import Estimate


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
    monkeypatch.setattr(neighbourhoods, "BLOCK", 3)
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


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def made() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    labels = np.arange(60) % 3
    vectors = unit(np.eye(3, 6)[labels] + rng.normal(scale=0.6, size=(60, 6)))
    return vectors, np.stack([rng.normal(size=(60, 2)), vectors[:, :2] * 5.0]), labels


def slow_trustworthiness(vectors: np.ndarray, points: np.ndarray, k: int) -> float:
    """Venna & Kaski 2001: 1 − 2 / (n k (2n − 3k − 1)) Σ_i Σ_{j near in the map only} (rank − k)."""
    n, punished = len(vectors), 0
    for row in range(n):
        others = [other for other in range(n) if other != row]
        by_cosine = sorted(others, key=lambda other: -float(vectors[row] @ vectors[other]))
        near = sorted(others, key=lambda other: float(np.sum((points[row] - points[other]) ** 2)))
        punished += sum(max(0, by_cosine.index(other) + 1 - k) for other in near[:k])
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * punished


def test_trustworthiness_is_its_definition(
    made: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    vectors, maps, _ = made
    for points in maps:
        assert trusted(vectors, points, 4) == pytest.approx(
            slow_trustworthiness(vectors, points, 4), abs=1e-6
        )


def test_shares_are_those_of_a_loop_and_songs_count_alike(
    made: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    vectors, maps, labels = made
    queries = np.arange(40, 60)
    songs = np.array([7] * 9 + [3] * 4 + [5] * 6 + [4])  # of very different length
    held_out = HeldOut(
        "validation", np.arange(40), labels[:40], queries, labels[queries], songs, songs
    )

    def slow(distance: object) -> float:
        shares: dict[int, list[bool]] = {}
        for query, song in zip(queries, songs, strict=True):
            near = sorted(range(40), key=lambda row: distance(query, row))[:10]  # type: ignore[operator]
            votes = [int(labels[row]) for row in near]
            best = max(votes, key=lambda label: (votes.count(label), -votes.index(label)))
            shares.setdefault(int(song), []).append(best == labels[query])
        return float(np.mean([np.mean(one) for one in shares.values()]))

    found = preservation(vectors, maps, held_out, np.arange(0, 60, 2))
    assert len(found) == 2
    for one, points in zip(found, maps, strict=True):
        assert (one.songs, one.neighbours, one.compared, one.k) == (4, 10, 30, 10)
        assert one.embedding is not None
        assert one.map is not None
        assert one.change is not None
        assert one.embedding.value == pytest.approx(
            slow(lambda query, row: -float(vectors[query] @ vectors[row]))
        )
        assert one.map.value == pytest.approx(
            slow(
                lambda query, row, points=points: float(np.sum((points[query] - points[row]) ** 2))
            )
        )
        assert one.change.value == pytest.approx(one.map.value - one.embedding.value)
        half = np.arange(0, 60, 2)
        assert one.trustworthiness == pytest.approx(
            slow_trustworthiness(vectors[half], points[half], 10), abs=1e-6
        )
    assert found[0].map != found[1].map


def test_a_map_of_nobody_held_out_says_so() -> None:
    nobody = np.zeros(0, dtype=np.int64)
    held_out = HeldOut("validation", np.arange(3), np.arange(3), nobody, nobody, nobody, nobody)
    vectors = unit(np.eye(3))
    (one,) = preservation(vectors, np.zeros((1, 3, 2)), held_out, np.arange(3))
    assert one.trustworthiness is not None
    assert one.says("song", "1").endswith("No song of a known singer was held out.")
    (two,) = preservation(vectors[:2], np.zeros((1, 2, 2)), held_out, np.arange(2))
    assert "too few points for a trustworthiness" in two.says("song", "1")


def test_sentences_are_true_of_the_numbers() -> None:
    one = Preservation(
        0.9123, 500, 10, "validation", 20, 10,
        Estimate(0.9, 0.8, 0.97), Estimate(0.85, 0.7, 0.95), Estimate(-0.05, -0.12, 0.01),
    )  # fmt: skip
    assert one.says("segment", "30") == (
        "Map of perplexity 30: trustworthiness 0.912 of 1 (10 neighbours, among 500 points). Of 20 "
        "validation songs, the 10 nearest training segments on the map name the right singer for "
        "85.0% of the segments (95% interval 70.0% to 95.0%), and in the embedding for 90.0%: "
        "−5.0 points, 95% interval −12.0 to +1.0."
    )
    same = Preservation(
        0.9, 500, 10, "validation", 20, 10,
        Estimate(0.9, 0.8, 0.97), Estimate(0.9, 0.8, 0.97), Estimate(0.0, 0.0, 0.0),
    )  # fmt: skip
    assert same.says("song", "10").endswith(
        "training songs on the map name the right singer for 90.0% (95% interval 80.0% to 97.0%), "
        "as often as in the embedding."
    )
