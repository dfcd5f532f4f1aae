"""Adaptive s-norm, recomputed pair by pair; who is a stranger, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from embedder.inference.store import Store
from ensemble.fusion import score_norm
from ensemble.fusion.score_norm import MIN_SD, Cohort, cohort_of, normalised
from ensemble.index.members import MemberIndex, index_of

Maker = Callable[..., Store]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cohort(songs: int = 120, seed: int = 0) -> Cohort:
    """Songs of six singers in turn."""
    rows = np.random.default_rng(seed).normal(size=(songs, 8))
    return Cohort(unit(rows), np.arange(songs) % 6)


def slow_level(found: Cohort, vector: np.ndarray, label: int, nearest: int) -> tuple[float, float]:
    """Mean and SD of a vector's cosines to its nearest strangers, `label`'s songs being none."""
    cosines = sorted(
        (
            float(row.astype(np.float64) @ vector.astype(np.float64))
            for row, singer in zip(found.embeddings, found.labels, strict=True)
            if singer != label
        ),
        reverse=True,
    )[:nearest]
    mean = sum(cosines) / len(cosines)
    return mean, (sum((c - mean) ** 2 for c in cosines) / len(cosines)) ** 0.5


@pytest.mark.parametrize("nearest", [5, 50, 500])
def test_levels_are_those_of_the_nearest_strangers(
    nearest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_norm, "NEAREST", nearest)
    found = cohort()
    queries = unit(np.random.default_rng(1).normal(size=(4, 8)))
    labels = np.array([[0, 3, 3], [5, 0, 1], [2, 2, 2], [4, 1, 4]])
    levels = found.levels(queries, labels)
    for row in range(4):
        for place in range(3):
            slow = slow_level(found, queries[row], int(labels[row, place]), nearest)
            np.testing.assert_allclose(levels[row, place], slow, atol=1e-6)


def test_a_normalised_similarity_is_the_mean_of_both_sides() -> None:
    similarities = np.array([[0.8, 0.3]])
    asked = np.array([[[0.2, 0.1], [0.1, 0.2]]])
    indexed = np.array([[[0.4, 0.05], [0.0, 0.3]]])
    expected = [(0.6 / 0.1 + 0.4 / 0.05) / 2, (0.2 / 0.2 + 0.3 / 0.3) / 2]
    np.testing.assert_allclose(normalised(similarities, asked, indexed)[0], expected, rtol=1e-12)


def test_a_singer_s_own_songs_are_no_strangers_to_the_singer_s_songs() -> None:
    """Nor to a query that is compared with one of them."""
    found = cohort()
    asked = unit(np.random.default_rng(2).normal(size=(1, 8)))
    rows = found.embeddings.copy()
    rows[found.labels == 2] = asked  # all as near as can be
    nearer = Cohort(rows, found.labels)
    own, other = np.array([[2]]), np.array([[3]])
    np.testing.assert_array_equal(nearer.levels(asked, own), found.levels(asked, own))
    assert nearer.levels(asked, other)[0, 0, 0] > found.levels(asked, other)[0, 0, 0] + 0.1


def test_a_song_that_resembles_everybody_falls_behind_one_that_resembles_the_query() -> None:
    rng = np.random.default_rng(3)
    common = unit(rng.normal(size=(1, 8)))
    crowd = Cohort(unit(2 * common + unit(rng.normal(size=(120, 8)))), np.arange(120) % 6)
    voice = rng.normal(size=(1, 8))
    voice = unit(voice - (voice @ common.T) * common)
    asked = unit(2 * common + voice)
    indexed = np.concatenate([common, unit(0.5 * common + voice)])
    cosines = asked @ indexed.T
    assert cosines[0, 0] > cosines[0, 1] + 0.01
    labels = np.array([[0, 0]])
    own = np.stack([crowd.levels(row[None], labels[:, :1])[0, 0] for row in indexed])
    scores = normalised(cosines, crowd.levels(asked, labels), own[None])
    assert scores[0, 1] > scores[0, 0] + 0.5  # standard deviations


def test_strangers_that_are_all_alike_do_not_divide_by_zero() -> None:
    same = Cohort(np.tile(np.eye(1, 8, dtype=np.float32), (9, 1)), np.arange(9) % 3)
    levels = same.levels(np.eye(1, 8, dtype=np.float32), np.array([[0]]))
    np.testing.assert_array_equal(levels, [[[1.0, MIN_SD]]])


@pytest.fixture
def index(make_store: Maker) -> MemberIndex:
    return index_of(make_store("m", "train", singers=5, albums=2, songs=3))


def test_the_cohort_is_made_of_trained_singers_songs(index: MemberIndex) -> None:
    found = cohort_of(index)
    assert found is not None
    np.testing.assert_array_equal(found.embeddings, index.embeddings)
    np.testing.assert_array_equal(found.labels, index.labels)
    later = cohort_of(replace(index, known=4))  # the fifth was enrolled
    assert later is not None
    np.testing.assert_array_equal(later.embeddings, index.embeddings[:24])


def test_a_cohort_for_a_singer_who_is_left_out_does_not_hold_the_singer(index: MemberIndex) -> None:
    found = cohort_of(index, without=1)
    assert found is not None
    np.testing.assert_array_equal(found.embeddings, np.delete(index.embeddings, range(6, 12), 0))


def test_of_a_large_index_songs_are_taken_evenly(
    index: MemberIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_norm, "MAX_COHORT", 10)
    found = cohort_of(index)
    assert found is not None
    rows = [int(np.flatnonzero((index.embeddings == row).all(1))[0]) for row in found.embeddings]
    assert len(rows) == 10
    assert rows[0] == 0
    assert rows[-1] == 29
    assert set(np.diff(rows)) <= {3, 4}
    assert set(found.labels) == set(range(5))


def test_two_singers_have_no_strangers(index: MemberIndex) -> None:
    assert cohort_of(replace(index, known=2)) is None
    assert cohort_of(replace(index, known=3)) is not None
