"""What is measured of a verification: cross-fitting that cannot peek, and counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from embedder.inference.store import Store
from ensemble.verification.error_rates import eer_measure, over_albums
from ensemble.verification.results import VerificationResult, cross_fitted, measure_verification
from ensemble.verification.trials import Trials, member_cosines, trials_of
from ensemble.verification.verification import Calibration, fit_calibration

Maker = Callable[..., Store]


def stores_of(make_store: Maker, split: str, **changes: Any) -> list[Store]:
    given = {"quality": 0.5, "singers": 4, "albums": 3, "songs": 2} | changes
    return [make_store(member, split, **given) for member in "pq"]


def measured(make_store: Maker) -> tuple[Trials, np.ndarray]:
    train, songs = stores_of(make_store, "train"), stores_of(make_store, "validation")
    trials = trials_of(train[0], songs[0])
    cosines = member_cosines(trials, train, songs)
    return trials, (cosines["p"] + cosines["q"]) / 2


def touching(trials: Trials, albums: set[int]) -> np.ndarray:
    """The trials of which a song is of one of the albums."""
    return np.isin(trials.album_pairs, list(albums)).any(axis=1)


def test_no_trial_is_judged_by_a_fit_on_an_album_of_its_songs(make_store: Maker) -> None:
    trials, scores = measured(make_store)
    before = cross_fitted(trials, scores, seed=3)
    assert before is not None
    rng = np.random.default_rng(0)
    for album in range(0, 12, 3):
        own = touching(trials, {album})
        moved = scores.copy()
        moved[own] = rng.uniform(-1, 1, own.sum())
        after = cross_fitted(trials, moved, seed=3)
        assert after is not None
        # Undone in the score alone: the line that judges the album's trials has not moved.
        lines = [
            _lines(trials, values, odds)
            for values, odds in ((scores, before[0]), (moved, after[0]))
        ]
        for pair in lines[0]:
            if album in pair:
                assert lines[1][pair] == pytest.approx(lines[0][pair], abs=1e-6)
        assert any(
            abs(lines[1][pair][0] - lines[0][pair][0]) > 1e-3
            for pair in lines[0]
            if album not in pair
        )


def _lines(
    trials: Trials, scores: np.ndarray, odds: np.ndarray
) -> dict[tuple[int, int], tuple[float, float]]:
    """Slope and offset that judged the trials of each pair of albums."""
    found = {}
    pairs = np.sort(trials.album_pairs, axis=1)
    for pair in np.unique(pairs, axis=0):
        there = (pairs == pair).all(axis=1)
        slope, offset = np.polyfit(scores[there], odds[there], 1)
        found[int(pair[0]), int(pair[1])] = float(slope), float(offset)
    return found


def test_with_three_albums_each_is_judged_by_the_others(make_store: Maker) -> None:
    train = stores_of(make_store, "train")[:1]
    songs = [make_store("p", "validation", quality=0.5, singers=4, albums=1, songs=2)]
    three = _first(songs[0], 6)  # three singers, an album each
    trials = trials_of(train[0], three)
    scores = member_cosines(trials, train, [three])["p"]
    found = cross_fitted(trials, scores)
    assert found is not None
    odds, accepted = found
    for one in range(3):
        for other in (*range(3), -1):
            pair = np.array([one, other])
            there = (trials.album_pairs == pair).all(axis=1)
            fitted = ~touching(trials, {one, other} - {-1})
            songs_left = 2 * (3 - len({one, other} - {-1}))
            line = fit_calibration(scores[fitted], trials.target[fitted], songs_left)
            np.testing.assert_allclose(odds[there], line.log_odds(scores[there]), atol=1e-9)
            np.testing.assert_array_equal(accepted[there], scores[there] >= line.threshold)
    assert accepted.any()
    assert not accepted.all()


def _first(store: Store, songs: int) -> Store:
    kept = store.segment_song < songs
    assert store.segment_logits is not None
    return replace(
        store,
        song_ids=store.song_ids[:songs],
        albums=store.albums[:songs],
        labels=store.labels[:songs],
        embeddings=store.embeddings[:songs],
        segment_song=store.segment_song[kept],
        segment_start_s=store.segment_start_s[kept],
        segment_embeddings=store.segment_embeddings[kept],
        segment_logits=store.segment_logits[kept],
        segment_weight=store.segment_weight[kept],
    )


def test_validation_is_cross_fitted_and_counted(make_store: Maker) -> None:
    trials, scores = measured(make_store)
    train, songs = stores_of(make_store, "train"), stores_of(make_store, "validation")
    found = measure_verification(train, songs, None, seed=2)
    assert isinstance(found, VerificationResult)
    assert (found.split, found.songs, found.albums) == ("validation", 24, 12)
    # A song meets 6 training songs of its singer and 18 of others, and of its own split 4 of its
    # singer's other albums and 18 of other singers.
    assert found.with_training == (24 * 6, 24 * 18)
    assert found.among_themselves == (24 * 4 // 2, 24 * 18 // 2)
    assert found.eer == over_albums(eer_measure(scores, trials.target), trials.album_pairs, 2)
    judged = found.judged
    assert judged is not None
    assert judged.cross_fitted
    odds, accepted = cross_fitted(trials, scores, 2) or (scores, scores > 2)
    assert judged.miss.value == np.mean(~accepted[trials.target])
    assert judged.false_alarm.value == np.mean(accepted[~trials.target])
    hits = np.log2(1 + np.exp(-odds[trials.target])).mean()
    others = np.log2(1 + np.exp(odds[~trials.target])).mean()
    assert judged.cllr.value == pytest.approx((hits + others) / 2)
    assert judged.cllr.low < judged.cllr.value < judged.cllr.high


def test_what_was_fitted_elsewhere_judges_as_it_is(make_store: Maker) -> None:
    train, songs = stores_of(make_store, "train"), stores_of(make_store, "test")
    line = Calibration(("p", "q"), slope=0.0, offset=0.0, threshold=2.0)  # accepts nothing
    found = measure_verification(train, songs, line)
    assert isinstance(found, VerificationResult)
    assert found.judged is not None
    assert not found.judged.cross_fitted
    assert (found.judged.miss.value, found.judged.false_alarm.value) == (1, 0)
    assert found.judged.cllr.value == pytest.approx(1)


def test_too_few_albums_are_not_cross_fitted(make_store: Maker) -> None:
    train = stores_of(make_store, "train", singers=2)
    songs = stores_of(make_store, "validation", singers=2, albums=1)
    found = measure_verification(train, songs, None)
    assert isinstance(found, VerificationResult)
    assert found.judged is None
    assert found.albums == 2
    assert found.eer.low <= found.eer.value <= found.eer.high


def test_songs_without_a_target_trial_leave_a_sentence(make_store: Maker) -> None:
    train = stores_of(make_store, "train", singers=2, albums=1)
    songs = [
        replace(store, albums=tuple(f"{store.singers[n]}/train0" for n in store.labels))
        for store in stores_of(make_store, "validation", singers=2, albums=1)
    ]
    assert measure_verification(train, songs, None) == (
        "no singer has songs of two albums among the evaluated and the training songs"
    )
