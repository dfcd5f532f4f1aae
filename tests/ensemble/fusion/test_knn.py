"""Votes of neighbours: recomputed one by one, of songs and of all segments of a song."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ensemble.fusion.knn import (
    SMOOTHING,
    Neighbours,
    SegmentNeighbours,
    Votes,
)


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
