"""Curves of robustness: shares, paired changes and adjusted tests, recomputed slowly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import comb

import numpy as np
import pytest

from analysis.measures.robustness import curves, holm, sign_test, songs_of, sources
from embedder.measures.robustness import DEGRADATIONS, EXCERPT, severity_levels
from embedder.statistics import Estimate, bootstrap_interval, mean_of
from ensemble.robustness import Conditions, Measured, Row, Step

SOURCES = ("fused", "m/head", "deaf/head")
Ranks = Callable[[int, Step], int]


def made_up(ranks: Ranks, songs: int = 20, **changes: object) -> Measured:
    """Songs whose fused rank is told; m/head has no answer to 1 s of the first song."""
    conditions = Conditions("f", "c", "", "validation", 10.0, ("A", "B"), SOURCES)

    def head(song: int, step: Step) -> int:
        return 0 if (song, step) == (0, (EXCERPT, 1.0)) else 1

    rows = tuple(
        Row(f"{song}.mp3", "A", step, "A", (ranks(song, step), head(song, step), 0))
        for song in range(songs)
        for step in severity_levels()
    )
    return Measured(replace(conditions, **changes), songs, 100, rows)


def wrong_at(places: Mapping[Step, int], rank: int = 2) -> Ranks:
    """The first songs, as many as are told for a step, have this rank; the others 1."""
    return lambda song, step: rank if song < places.get(step, 0) else 1


def share(hits: int, first: bool = False) -> Estimate:
    """Of 20 songs without albums, whose last, or first, are right; albums in order of name."""
    order = np.argsort(np.argsort([f"{song}.mp3" for song in range(20)]))
    right = np.arange(20) < hits if first else np.arange(20) >= 20 - hits
    return bootstrap_interval(mean_of(right), 20, groups=order)


def test_songs_of_an_album_count_as_one_draw() -> None:
    """Twelve songs lost on two albums are two losses, not twelve, and the interval is wider."""
    lost = made_up(wrong_at({("noise", 0.0): 12}))
    rows = tuple(replace(row, song=f"A/{int(row.song[:-4]) // 6}/{row.song}") for row in lost.rows)
    one, other = (
        next(curve for curve in curves(measured, "fused") if curve.degradation == "noise")
        for measured in (lost, replace(lost, rows=rows))
    )
    alone, together = one.points[-1], other.points[-1]
    assert alone.falls
    assert not together.falls
    assert together.top_1.value == alone.top_1.value
    assert (alone.top_1.groups, together.top_1.groups) == (20, 4)
    assert together.top_1.low < alone.top_1.low
    assert together.change.low < alone.change.low


def test_points_are_shares_against_the_same_songs_undegraded() -> None:
    measured = made_up(wrong_at({(EXCERPT, 10.0): 2, ("noise", 0.0): 16, (EXCERPT, 1.0): 8}))
    found = {curve.degradation: curve for curve in curves(measured, "fused")}
    assert list(found) == list(DEGRADATIONS)
    noise = found["noise"]
    assert [point.level for point in noise.points] == [None, 30.0, 20.0, 10.0, 0.0]
    assert (noise.clean.top_1, noise.clean.top_3.value) == (share(18), 1.0)
    assert noise.clean.change.value == 0
    assert noise.points[-1].top_1 == share(4)
    assert noise.points[-1].change.value == pytest.approx(-0.7)
    assert noise.points[-1].falls
    assert noise.points[1].change.value == pytest.approx(0.1)  # better than undegraded
    assert not noise.points[1].falls
    excerpt = found[EXCERPT]
    assert [point.level for point in excerpt.points] == [None, 30.0, 10.0, 5.0, 3.0, 1.0]
    assert excerpt.clean.top_1.value == 1.0  # the full songs, not ten seconds of them
    assert excerpt.points[2].change.value == pytest.approx(-0.1)
    pitch = found["pitch"]
    assert [point.level for point in pitch.points] == [-4.0, -2.0, -1.0, None, 1.0, 2.0, 4.0]
    assert [[point.level for point in way] for way in pitch.directions()] == [
        [-1.0, -2.0, -4.0],
        [1.0, 2.0, 4.0],
    ]
    assert [[p.level for p in way] for way in noise.directions()] == [[30.0, 20.0, 10.0, 0.0]]


def test_whole_songs_are_compared_with_the_full_excerpt() -> None:
    ranks = wrong_at({(EXCERPT, 0.0): 5, ("gain", 20.0): 5})
    found = curves(made_up(ranks, seconds=0.0), "fused")
    gain = next(curve for curve in found if curve.degradation == "gain")
    assert gain.clean.top_1.value == 0.75
    assert gain.points[-1].change.value == 0


def test_top_3_takes_the_first_three() -> None:
    ranks = lambda song, step: 1 + song if step == ("mp3", 8.0) else 1  # noqa: E731
    found = curves(made_up(ranks), "fused")
    mp3 = next(curve for curve in found if curve.degradation == "mp3")
    assert mp3.points[-1].top_1.value == 0.05
    assert mp3.points[-1].top_3.value == 0.15


def test_a_source_without_an_answer_is_not_right_and_one_that_never_answers_is_left_out() -> None:
    measured = made_up(wrong_at({}))
    assert sources(measured) == ["fused", "m/head"]
    assert curves(measured, "deaf/head") == []
    excerpt = curves(measured, "m/head")[0]
    assert excerpt.points[-1].top_1 == excerpt.points[-1].top_3 == share(19)
    assert songs_of(measured) == [f"{song}.mp3" for song in range(20)]


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (6, 0), (5, 1), (3, 3), (0, 4), (12, 2)])
def test_the_sign_test_counts_coin_flips(lost: int, won: int) -> None:
    flips = lost + won
    slow = 2 * sum(comb(flips, k) for k in range(min(lost, won) + 1)) / 2**flips
    assert sign_test(lost, won) == pytest.approx(min(slow, 1.0))


def test_holm_keeps_false_alarms_of_all_tests_together_below_the_level() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    rng = np.random.default_rng(0)
    alarms = [min(holm(rng.random(45).tolist())) < 0.05 for _ in range(1000)]
    assert 0.03 < np.mean(alarms) < 0.07


def test_all_levels_are_adjusted_together() -> None:
    found = curves(made_up(wrong_at({("noise", 0.0): 12, ("gain", 20.0): 6})), "fused")
    tests = sum(len(curve.degraded) for curve in found)
    assert tests == len(severity_levels()) - 1
    points = {(c.degradation, p.level): p for c in found for p in c.degraded}
    assert points["noise", 0.0].p == pytest.approx(tests * 2 / 2**12)
    assert points["gain", 20.0].p == pytest.approx(min(1, (tests - 1) * 2 / 2**6))
    assert not points["gain", 20.0].falls
