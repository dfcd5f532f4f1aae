"""Singers who sound alike: similarities as loops find them; an order that keeps them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.mistakes.singer_order import similar_order, singer_similarities
from embedder.inference.store import Store


def test_similarities_are_cosines_of_mean_embeddings(build_store: Callable[..., Store]) -> None:
    stores = [build_store(name, "train", ["a", "b", "c"], ["1", "2"]) for name in ("aam", "x")]
    found = singer_similarities(stores)
    for one in range(3):
        for other in range(3):
            cosines = []
            for store in stores:
                means = [store.embeddings[store.labels == label].mean(axis=0) for label in range(3)]
                lengths = np.linalg.norm(means[one]) * np.linalg.norm(means[other])
                cosines.append(means[one] @ means[other] / lengths)
            assert found[one, other] == pytest.approx(np.mean(cosines), abs=1e-6)


def test_songs_of_nobody_known_do_not_count(build_store: Callable[..., Store]) -> None:
    store = build_store("aam", "train", ["a", "b", "c"], ["1"])
    unknown = replace(store, labels=np.where(store.labels == 1, -1, store.labels))
    found = singer_similarities([unknown])
    assert found[0, 2] == pytest.approx(singer_similarities([store])[0, 2])
    assert found[1].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="need the training songs"):
        singer_similarities([])


def test_alike_singers_stand_beside_each_other() -> None:
    rng = np.random.default_rng(3)
    group = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    vectors = np.eye(3, 8)[group] + rng.normal(scale=0.05, size=(8, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = similar_order(vectors @ vectors.T)
    assert sorted(order) == list(range(8))
    assert np.count_nonzero(np.diff(group[order])) == 2  # each group in one piece


def test_neighbours_are_most_alike_among_the_orders_of_the_tree() -> None:
    """Four singers on a line: of the tree's eight orders, the line itself is the shortest."""
    angles = np.radians([0, 30, 10, 50])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert similar_order(points @ points.T) in ([0, 2, 1, 3], [3, 1, 2, 0])


@pytest.mark.parametrize("count", [1, 2])
def test_few_singers_have_one_order(count: int) -> None:
    assert similar_order(np.eye(count)) == list(range(count))
