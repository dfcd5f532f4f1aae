"""The ways in which segments become a song, recomputed by hand, with and without weights."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from embedder.errors import UserError
from embedder.inference.aggregate import AGGREGATES, song_embedding, song_logits, song_weights


def test_song_embedding_is_the_unit_mean() -> None:
    segments = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
    length = math.sqrt(1 / 9 + 4 / 9)
    expected = [1 / 3 / length, 2 / 3 / length, 0]
    np.testing.assert_allclose(song_embedding(segments), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="no mean direction"):
        song_embedding(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    with pytest.raises(ValueError, match="n ≥ 1"):
        song_embedding(np.zeros((0, 3)))


LOGITS = arrays(np.float64, (7, 4), elements=st.integers(-50, 50).map(lambda tenths: tenths / 10))


@settings(deadline=None)
@given(logits=LOGITS, order=st.permutations(range(7)))
@pytest.mark.parametrize("aggregate", sorted(AGGREGATES))
def test_the_order_of_the_segments_does_not_matter(
    aggregate: str, logits: np.ndarray, order: list[int]
) -> None:
    np.testing.assert_allclose(
        song_logits(logits, aggregate), song_logits(logits[order], aggregate), atol=1e-12
    )


@settings(deadline=None)
@given(logits=LOGITS)
def test_votes_are_counted_and_smoothed(logits: np.ndarray) -> None:
    counts = Counter(max(range(4), key=lambda c: (row[c], -c)) for row in logits)
    slow = [math.log((counts[c] + 0.25) / 8) for c in range(4)]
    got = song_logits(logits, "vote")
    np.testing.assert_allclose(got, slow, rtol=1e-12)
    assert np.exp(got).sum() == pytest.approx(1)


@settings(deadline=None)
@given(logits=LOGITS)
def test_probabilities_are_averaged(logits: np.ndarray) -> None:
    shares = [[math.exp(value / 2) for value in row] for row in logits]
    slow = [sum(row[c] / sum(row) for row in shares) / 7 for c in range(4)]
    np.testing.assert_allclose(np.exp(song_logits(logits, "probability")), slow, rtol=1e-9)


def test_segments_that_know_nothing_hide_nobody() -> None:
    sure, unsure = np.zeros((2, 1, 20))
    sure[0, 1] = 9.0
    unsure[0, :2] = 1.0, -2.0
    song = np.concatenate([sure, np.repeat(unsure, 4, axis=0)])
    assert song_logits(song, "mean").argmax() == 0
    assert song_logits(song, "probability").argmax() == 1


def test_a_misspelled_aggregate_lists_the_choices() -> None:
    with pytest.raises(
        UserError, match=r"--aggregate median .* is unknown; choose from probability, mean, vote"
    ):
        song_logits(np.zeros((1, 2)), "median")


# Weights ----------------------------------------------------------------------------------------

WEIGHTS = arrays(np.float64, 7, elements=st.integers(0, 100).map(lambda percent: percent / 100))


def test_a_weighted_embedding_by_hand() -> None:
    segments = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    found = song_embedding(segments, np.array([0.5, 1.0, 0.0], np.float32))
    np.testing.assert_allclose(found, np.array([1, 2, 0]) / math.sqrt(5), rtol=1e-6)


def test_weighted_logits_by_hand() -> None:
    logits = np.array([[3.0, 0, 0], [0, 6, 0], [0, 0, 9], [0, 1, 0]])
    weight = np.array([1.0, 0.5, 0.0, 0.5])
    np.testing.assert_allclose(song_logits(logits, "mean", weight), [1.5, 1.75, 0])
    parts = np.exp(logits / 2)
    slow = np.log((parts / parts.sum(axis=1, keepdims=True)).T @ weight / 2)
    np.testing.assert_allclose(song_logits(logits, "probability", weight), slow)
    # Scaled to a mean of 1 the weights are 2, 1, 0, 1: two votes each for the first two singers.
    slow = [math.log((votes + 1 / 3) / 5) for votes in (2, 2, 0)]
    np.testing.assert_allclose(song_logits(logits, "vote", weight), slow)


@pytest.mark.parametrize("aggregate", sorted(AGGREGATES))
def test_a_song_without_voice_is_heard_as_a_whole(aggregate: str) -> None:
    rng = np.random.default_rng(0)
    logits, segments = rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    silent = np.zeros(5, np.float32)
    assert np.array_equal(song_logits(logits, aggregate, silent), song_logits(logits, aggregate))
    assert np.array_equal(song_embedding(segments, silent), song_embedding(segments))


@pytest.mark.parametrize("aggregate", sorted(AGGREGATES))
def test_weights_of_1_change_no_bit(aggregate: str) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(9, 3)).astype(np.float32)
    segments = rng.normal(size=(9, 4)).astype(np.float32)
    ones = np.ones(9, np.float32)
    assert np.array_equal(song_logits(logits, aggregate, ones), song_logits(logits, aggregate))
    assert np.array_equal(song_embedding(segments, ones), song_embedding(segments))
    plain = logits.astype(np.float64).mean(axis=0)
    assert np.array_equal(song_logits(logits, "mean", ones), plain)


@settings(deadline=None)
@given(logits=LOGITS, weight=WEIGHTS)
@pytest.mark.parametrize("aggregate", sorted(AGGREGATES))
def test_only_the_proportions_of_the_weights_matter(
    aggregate: str, logits: np.ndarray, weight: np.ndarray
) -> None:
    whole = song_logits(logits, aggregate, weight)
    np.testing.assert_allclose(whole, song_logits(logits, aggregate, weight / 4), atol=1e-12)
    if weight.sum():  # a segment of weight 0 has no say
        changed = np.where(weight[:, None] == 0, 1000.0, logits)
        np.testing.assert_allclose(whole, song_logits(changed, aggregate, weight), atol=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [(np.ones(2), r"need \(3,\) weights, not \(2,\)"), (np.array([1, -1, 1.0]), "0 or more")],
)
def test_weights_that_cannot_be(weight: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        song_embedding(np.eye(3), weight)
    with pytest.raises(ValueError, match=message):
        song_logits(np.eye(3), "mean", weight)


def test_weights_have_a_mean_of_1() -> None:
    np.testing.assert_allclose(song_weights(np.array([0.1, 0.3])), [0.5, 1.5])
    np.testing.assert_allclose(song_weights(np.zeros(2)), [1, 1])
