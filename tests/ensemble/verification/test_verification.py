"""Verification: known log-odds are found again, and what is written is read or refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from embedder.artifact import read_json, write_json
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.store import Store
from ensemble.verification.error_rates import eer_measure, eer_threshold, over_albums
from ensemble.verification.trials import Trials, member_cosines, trials_of
from ensemble.verification.verification import (
    EVERY_SUBSET,
    SLOPE_SD,
    VERIFICATION,
    Calibration,
    Verification,
    VerificationResult,
    check_verification,
    cross_fitted_trials,
    fit_verification,
    mean_cosine,
    measure_verification,
    subsets,
)

Maker = Callable[..., Store]
LISTENING = InferenceConfig(segment_s=4.0, tta=2, detector="d")


def stores_of(make_store: Maker, split: str, members: str = "pq", **changes: Any) -> list[Store]:
    return [make_store(m, split, quality=0.5, singers=4, songs=2, **changes) for m in members]


def fitted(make_store: Maker, members: str = "pq") -> Verification:
    stores = (stores_of(make_store, split, members) for split in ("train", "validation"))
    return fit_verification(*stores, LISTENING)


# Calibration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("targets", "others"), [(4000, 4000), (1000, 20000)])
def test_the_log_odds_of_two_gaussians_are_found_again(targets: int, others: int) -> None:
    """log N(x; 0.6, 0.15) − log N(x; 0.1, 0.15) = (0.5 x − 0.175) / 0.15²."""

    def normal(n: int, mean: float) -> np.ndarray:
        from scipy.stats import norm

        return np.asarray(norm.ppf((np.arange(n) + 0.5) / n, mean, 0.15))

    cosines = np.concatenate([normal(targets, 0.6), normal(others, 0.1)])
    target = np.arange(len(cosines)) < targets
    found = Calibration.fit(cosines, target, songs=2000, members=["p"])
    assert found.slope == pytest.approx(0.5 / 0.15**2, rel=0.02)
    assert found.offset == pytest.approx(-0.175 / 0.15**2, rel=0.02)
    assert found.threshold == pytest.approx(0.35, abs=0.003)
    # As likely as not beforehand, however many trials there were of each kind.
    assert found.probability(0.35) == pytest.approx(0.5, abs=0.02)
    assert found.probability(0.45) == pytest.approx(1 / (1 + math.exp(-0.05 / 0.15**2)), abs=0.01)
    np.testing.assert_allclose(
        found.log_odds(np.array([0.35, 0.6])), [0, 0.125 / 0.15**2], atol=0.2
    )


def test_the_calibration_is_the_least_prior_weighted_cost() -> None:
    rng = np.random.default_rng(5)
    cosines = np.concatenate([rng.normal(0.5, 0.2, 30), rng.normal(0.2, 0.3, 200)])
    target = np.arange(230) < 30
    spread = cosines.std()

    def cost(line: np.ndarray) -> float:
        odds = line[0] * cosines + line[1]
        hits = np.logaddexp(0, -odds[target]).mean()
        others = np.logaddexp(0, odds[~target]).mean()
        return float(25 * (hits + others) / 2 + 0.5 * (line[0] * spread / SLOPE_SD) ** 2)

    slow = minimize(
        cost, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    found = Calibration.fit(cosines, target, songs=25)
    assert (found.slope, found.offset) == pytest.approx(tuple(slow.x), rel=1e-4)


def test_cosines_that_never_overlap_give_a_finite_line() -> None:
    cosines, target = np.array([0.8, 0.9, 0.1, 0.2, 0.3]), np.arange(5) < 2
    found = Calibration.fit(cosines, target, songs=40)
    assert 1 < found.slope < 1000
    assert found.threshold == pytest.approx(0.55)
    assert found.probability(0.9) > 0.99
    assert found.probability(0.1) < 0.01
    assert found.probability(1.0) > found.probability(0.9)


@pytest.mark.parametrize("cosines", [[0.1, 0.2, 0.8, 0.9], [0.5, 0.5, 0.5, 0.5]])
def test_cosines_that_say_nothing_give_a_half(cosines: list[float]) -> None:
    found = Calibration.fit(np.array(cosines), np.array([True, True, False, False]), songs=4)
    assert (found.slope, found.offset) == (0, 0)
    assert found.probability(-1.0) == found.probability(1.0) == 0.5


def test_probabilities_of_steep_lines_neither_overflow_nor_leave_0_to_1() -> None:
    line = Calibration(("p",), slope=1e5, offset=-5e4, threshold=0.5)
    assert line.probability(-1.0) == 0
    assert line.probability(0.5) == 0.5
    assert line.probability(1.0) == 1


# Verification -----------------------------------------------------------------------------------


def test_every_set_of_members_has_its_own_calibration(make_store: Maker) -> None:
    found = fitted(make_store, "pqr")
    expected = [("p",), ("q",), ("r",), ("p", "q"), ("p", "r"), ("q", "r"), ("p", "q", "r")]
    assert [c.members for c in found.calibrations] == expected
    train, songs = (stores_of(make_store, split, "pqr") for split in ("train", "validation"))
    trials = trials_of(train[0], songs[0])
    cosines = member_cosines(trials, train, songs)
    two = (cosines["p"] + cosines["r"]) / 2
    assert found.of(["r", "p"]) == Calibration.fit(two, trials.target, 32, ("p", "r"))
    assert found.of(["r", "p"]).threshold == eer_threshold(two, trials.target)
    np.testing.assert_allclose(mean_cosine(cosines, ["r", "p"]), two)
    assert (found.songs, found.problem) == (32, "")
    assert (found.targets, found.non_targets) == (trials.target.sum(), (~trials.target).sum())
    assert found.made_from == {"p": "p-1", "q": "q-1", "r": "r-1"}


def test_members_together_are_better_than_the_worst_of_them(make_store: Maker) -> None:
    train, songs = (stores_of(make_store, split, "pqr") for split in ("train", "validation"))
    trials = trials_of(train[0], songs[0])
    cosines = member_cosines(trials, train, songs)

    def rate(*members: str) -> float:
        scores = mean_cosine(cosines, members)
        return eer_measure(scores, trials.target)(np.ones(len(scores)))

    assert rate("p", "q", "r") < max(rate(member) for member in "pqr")


def test_many_members_are_calibrated_together_and_alone() -> None:
    assert len(subsets("abcdef"[:EVERY_SUBSET])) == 63
    many = "abcdefgh"
    assert subsets(many) == [*((name,) for name in many), tuple(many)]
    made_from = dict.fromkeys(many, "1")
    lines = tuple(Calibration(chosen, 1.0, 0.0, 0.0) for chosen in subsets(many))
    found = Verification(made_from, InferenceConfig(), 9, 9, 9, lines)
    assert found.of(["b"]).members == ("b",)
    with pytest.raises(UserError, match="nothing was fitted for the members a, b together; choose"):
        found.of(["a", "b"])


def test_one_album_a_singer_cannot_be_verified_and_says_why(make_store: Maker) -> None:
    train = make_store("p", "train", singers=2, albums=1)
    songs = make_store("p", "validation", singers=2, albums=1)
    other = replace(songs, labels=1 - songs.labels, albums=tuple(reversed(songs.albums)))
    same = replace(other, albums=train.albums[::-1], labels=train.labels[::-1])
    found = fit_verification([train], [same])
    assert found.calibrations == ()
    assert "no singer has songs of two albums" in found.problem
    with pytest.raises(UserError, match="this run cannot verify singers: no singer has songs of"):
        found.of(["p"])


# On disk ----------------------------------------------------------------------------------------


def test_what_is_written_is_read(make_store: Maker, tmp_path: Path) -> None:
    path = tmp_path / "fusion" / "verification.json"
    for found in (fitted(make_store), replace(fitted(make_store), calibrations=(), problem="why")):
        VERIFICATION.write(path, found)
        assert VERIFICATION.read(path) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": 0},
            "is a verification of format 0, this program reads format 1; run again: python",
        ),
        ({"calibrations": [{"slope": 1}]}, "is not a readable verification"),
        ({"made_from": None}, "is not a readable verification"),
        ({"listening": {"tta": "often"}}, "is not a readable verification"),
    ],
)
def test_what_cannot_be_read_is_refused(
    make_store: Maker, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "verification.json"
    VERIFICATION.write(path, fitted(make_store))
    write_json(path, read_json(path) | change)
    with pytest.raises(UserError, match=message):
        VERIFICATION.read(path)


def test_numbers_that_are_none_and_missing_files_are_refused(
    make_store: Maker, tmp_path: Path
) -> None:
    path = tmp_path / "verification.json"
    with pytest.raises(UserError, match=r"verification.json is missing; run again: python app.py"):
        VERIFICATION.read(path)
    found = fitted(make_store)
    broken = asdict(found) | {"format": 1}
    broken["calibrations"][0]["threshold"] = float("nan")
    write_json(path, broken)
    with pytest.raises(
        UserError, match=r"is not a readable verification .*should be a finite number"
    ):
        VERIFICATION.read(path)


def test_it_must_be_of_the_fusion_beside_it(make_store: Maker) -> None:
    found = replace(fitted(make_store), fusion="one")
    check_verification(found, "one")
    with pytest.raises(UserError, match="belongs to another fusion"):
        check_verification(found, "two")


def two_members(make_store: Maker, split: str, **changes: Any) -> list[Store]:
    given = {"quality": 0.5, "singers": 4, "albums": 3, "songs": 2} | changes
    return [make_store(member, split, **given) for member in "pq"]


def measured(make_store: Maker) -> tuple[Trials, np.ndarray]:
    train, songs = two_members(make_store, "train"), two_members(make_store, "validation")
    trials = trials_of(train[0], songs[0])
    cosines = member_cosines(trials, train, songs)
    return trials, (cosines["p"] + cosines["q"]) / 2


def touching(trials: Trials, albums: set[int]) -> np.ndarray:
    """The trials of which a song is of one of the albums."""
    return np.isin(trials.album_pairs, list(albums)).any(axis=1)


def test_no_trial_is_judged_by_a_fit_on_an_album_of_its_songs(make_store: Maker) -> None:
    trials, scores = measured(make_store)
    before = cross_fitted_trials(trials, scores, seed=3)
    assert before is not None
    rng = np.random.default_rng(0)
    for album in range(0, 12, 3):
        own = touching(trials, {album})
        moved = scores.copy()
        moved[own] = rng.uniform(-1, 1, own.sum())
        after = cross_fitted_trials(trials, moved, seed=3)
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
    train = two_members(make_store, "train")[:1]
    songs = [make_store("p", "validation", quality=0.5, singers=4, albums=1, songs=2)]
    three = _first(songs[0], 6)  # three singers, an album each
    trials = trials_of(train[0], three)
    scores = member_cosines(trials, train, [three])["p"]
    found = cross_fitted_trials(trials, scores)
    assert found is not None
    odds, accepted = found
    for one in range(3):
        for other in (*range(3), -1):
            pair = np.array([one, other])
            there = (trials.album_pairs == pair).all(axis=1)
            fitted = ~touching(trials, {one, other} - {-1})
            songs_left = 2 * (3 - len({one, other} - {-1}))
            line = Calibration.fit(scores[fitted], trials.target[fitted], songs_left)
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
    train, songs = two_members(make_store, "train"), two_members(make_store, "validation")
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
    odds, accepted = cross_fitted_trials(trials, scores, 2) or (scores, scores > 2)
    assert judged.miss.value == np.mean(~accepted[trials.target])
    assert judged.false_alarm.value == np.mean(accepted[~trials.target])
    hits = np.log2(1 + np.exp(-odds[trials.target])).mean()
    others = np.log2(1 + np.exp(odds[~trials.target])).mean()
    assert judged.cllr.value == pytest.approx((hits + others) / 2)
    assert judged.cllr.low < judged.cllr.value < judged.cllr.high


def test_what_was_fitted_elsewhere_judges_as_it_is(make_store: Maker) -> None:
    train, songs = two_members(make_store, "train"), two_members(make_store, "test")
    line = Calibration(("p", "q"), slope=0.0, offset=0.0, threshold=2.0)  # accepts nothing
    found = measure_verification(train, songs, line)
    assert isinstance(found, VerificationResult)
    assert found.judged is not None
    assert not found.judged.cross_fitted
    assert (found.judged.miss.value, found.judged.false_alarm.value) == (1, 0)
    assert found.judged.cllr.value == pytest.approx(1)


def test_too_few_albums_are_not_cross_fitted(make_store: Maker) -> None:
    train = two_members(make_store, "train", singers=2)
    songs = two_members(make_store, "validation", singers=2, albums=1)
    found = measure_verification(train, songs, None)
    assert isinstance(found, VerificationResult)
    assert found.judged is None
    assert found.albums == 2
    assert found.eer.low <= found.eer.value <= found.eer.high


def test_songs_without_a_target_trial_leave_a_sentence(make_store: Maker) -> None:
    train = two_members(make_store, "train", singers=2, albums=1)
    songs = [
        replace(store, albums=tuple(f"{store.singers[n]}/train0" for n in store.labels))
        for store in two_members(make_store, "validation", singers=2, albums=1)
    ]
    assert measure_verification(train, songs, None) == (
        "no singer has songs of two albums among the evaluated and the training songs"
    )
