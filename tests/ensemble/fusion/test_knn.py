"""Votes of neighbours: recomputed one by one, of songs and of all segments of a song."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from embedder.inference.store import Store
from ensemble.fusion import knn
from ensemble.fusion.knn import (
    MIN_SD,
    SMOOTHING,
    Cohort,
    Neighbours,
    SegmentNeighbours,
    Votes,
    cohort_of,
    normalised,
)
from ensemble.index.members import MemberIndex, index_of


def drawn(queries: int, n: int, singers: int, seed: int) -> Neighbours:
    """Cosines from the highest down, of singers at random."""
    rng = np.random.default_rng(seed)
    similarities = -np.sort(-rng.uniform(-1, 1, size=(queries, n)), axis=1)
    return Neighbours(similarities, rng.integers(singers, size=(queries, n)))


def slow_votes(near: Neighbours, row: int, singers: int, votes: Votes) -> list[float]:
    """Votes and smoothing of each singer."""
    counted = [SMOOTHING / singers] * singers
    for place in range(min(votes.k, near.labels.shape[1])):
        gap = near.similarities[row, place] - near.similarities[row, 0]
        counted[near.labels[row, place]] += math.exp(gap / votes.tau)
    return counted


@pytest.mark.parametrize("k", [1, 3, 9, 100])
def test_votes_are_a_smoothed_log_sum(k: int) -> None:
    near, votes = drawn(6, 9, 4, seed=0), Votes(k, 0.2)
    got = near.logits(4, votes)
    for row in range(6):
        slow = [math.log(vote) for vote in slow_votes(near, row, 4, votes)]
        np.testing.assert_allclose(got[row], slow, rtol=1e-12)


def test_votes_ignore_an_offset_of_all_similarities_and_stay_finite() -> None:
    near = drawn(10, 30, 3, seed=3)
    one = near.logits(3, Votes(30, 1e-3))
    moved = Neighbours(near.similarities + 5, near.labels)
    np.testing.assert_allclose(one, moved.logits(3, Votes(30, 1e-3)))
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one.argmax(axis=1), near.labels[:, 0])  # a small tau: 1-NN


def test_a_song_s_segments_vote_by_the_mean_of_their_shares() -> None:
    near, votes = drawn(7, 12, 5, seed=1), Votes(8, 0.3)
    songs = np.array([0, 0, 0, 1, 2, 2, 2])
    weights = np.array([0.5, 0.0, 1.0, 0.2, 0.0, 0.0, 0.0])
    counting = [[0.5, 0.0, 1.0], [1.0], [1.0, 1.0, 1.0]]  # without voice: as if all were sung
    got = SegmentNeighbours(near, songs, weights).logits(5, votes)
    row = 0
    for song, counts in enumerate(counting):
        mean = np.zeros(5)
        for count in counts:
            shares = np.array(slow_votes(near, row, 5, votes))
            mean += count * shares / shares.sum() / sum(counts)
            row += 1
        np.testing.assert_allclose(got[song], np.log(mean), rtol=1e-12)


def test_one_segment_near_another_singer_does_not_outvote_the_rest() -> None:
    """However near it is: what counts is how the neighbours of each segment compare."""
    labels = np.array([[1, 1, 0]] + [[0, 0, 1]] * 3)
    similarities = np.array([[0.99, 0.98, -0.9]] + [[0.3, 0.2, -0.5]] * 3)
    near = SegmentNeighbours(Neighbours(similarities, labels), np.zeros(4, int), np.ones(4))
    assert near.logits(2, Votes(3, 0.1)).argmax() == 0


def test_some_of_the_neighbours_are_those_of_the_songs_asked_for() -> None:
    near, votes = drawn(7, 12, 5, seed=2), Votes(4, 0.1)
    whole = near.logits(5, votes)
    order = np.array([6, 0, 3])
    np.testing.assert_array_equal(near.take(order).logits(5, votes), whole[order])

    weights = np.random.default_rng(0).random(7)
    segments = SegmentNeighbours(near, np.array([0, 0, 0, 1, 2, 3, 3]), weights)
    by_song = segments.logits(5, votes)
    for songs in (np.array([3, 0, 1]), np.array([2]), np.array([1, 1])):
        part = segments.take(songs)
        np.testing.assert_array_equal(part.logits(5, votes), by_song[songs])
    assert segments.take(np.zeros(0, int)).logits(5, votes).shape == (0, 5)


@pytest.mark.parametrize(("k", "tau"), [(0, 0.1), (5, 0.0), (5, -1.0), (5, math.nan)])
def test_votes_out_of_range_are_refused(k: int, tau: float) -> None:
    with pytest.raises(ValueError, match="k must be 1 or more and tau above 0"):
        Votes(k, tau)


def test_nobody_and_neighbours_without_a_singer_are_refused() -> None:
    with pytest.raises(ValueError, match=r"similarities \(2, 0\)"):
        Neighbours(np.zeros((2, 0)), np.zeros((2, 0), int)).logits(3, Votes())
    with pytest.raises(ValueError, match=r"similarities \(2, 3\), labels \(2, 2\)"):
        Neighbours(np.zeros((2, 3)), np.zeros((2, 2), int)).logits(3, Votes())


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
    monkeypatch.setattr(knn, "NEAREST", nearest)
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
    monkeypatch.setattr(knn, "MAX_COHORT", 10)
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
