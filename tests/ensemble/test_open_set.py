"""Singers left out: really out, and what is measured on them recomputed and by scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from embedder.metrics import ranking
from embedder.statistics import Estimate
from ensemble import open_set
from ensemble.fusion.experts import gather
from ensemble.fusion.knn import SCORE_NORMS, Neighbours, SegmentNeighbours
from ensemble.index.members import index_of
from ensemble.open_set import (
    MIN_PREFERENCE,
    NEAREST,
    OPTIMISM,
    PARTS,
    LeftOut,
    OpenSetThreshold,
    auroc_of,
    choose_measure,
    confidence,
    cross_fitted_decisions,
    fit_threshold,
    fpr_of,
    is_unknown,
    known_score,
    leave_singers_out,
    scales_of,
    threshold_for,
)
from ensemble.scoring import score_songs

KNOWN = 6


@pytest.fixture(scope="module")
def left_out(world: Any) -> LeftOut:
    found = leave_singers_out(world.fusion, world.indexes, world.validation)
    assert found is not None
    return found


def made_up(seed: int, shift: dict[str, float], singers: int = 10, songs: int = 4) -> LeftOut:
    """Measures on which known songs lie so many standard deviations above the left-out ones."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(singers), songs)

    def side(known: bool) -> dict[str, dict[str, np.ndarray]]:
        found = {name: rng.normal(known * by, 1, len(labels)) for name, by in shift.items()}
        found["confidence"] = 1 / (1 + np.exp(-found["confidence"]))
        return {name: {"": values} for name, values in found.items()}

    return LeftOut(labels, side(True), side(False))


# Leaving out ------------------------------------------------------------------------------------


@pytest.mark.parametrize("score_norm", SCORE_NORMS)
def test_without_a_singer_the_neighbours_are_those_of_an_index_without_the_songs(
    score_norm: str, world: Any
) -> None:
    for gone in (0, 3, 5):
        stores = [store.take(np.flatnonzero(store.labels == gone)) for store in world.validation]
        found = gather(stores, world.indexes, "mean", None, score_norm, without=gone)
        kept = [store.take(np.flatnonzero(store.labels != gone)) for store in world.train]
        smaller = {store.member: index_of(store) for store in kept}
        expected = gather(stores, smaller, "mean", None, score_norm)
        assert found.experts == expected.experts
        for name, raw in found.raw.items():
            other: Any = expected.raw[name]
            if isinstance(raw, SegmentNeighbours):
                raw, other = raw.near, other.near
            if isinstance(raw, Neighbours):
                assert not (raw.labels == gone).any(), name
                assert np.allclose(raw.similarities, other.similarities), name
                assert np.array_equal(raw.labels, other.labels), name


def test_the_confidence_of_a_left_out_singer_is_that_among_the_others(
    world: Any, left_out: LeftOut
) -> None:
    fusion, labels = world.fusion, world.validation[0].labels
    known, strange = left_out.known["confidence"][""], left_out.unknown["confidence"][""]
    for song in range(0, len(labels), 5):
        one = [store.take(np.array([song])) for store in world.validation]
        gone = int(labels[song])
        told: Any = (fusion.aggregate, fusion.probes, fusion.score_norm)
        raw = gather(one, world.indexes, *told).scores(fusion.votes)
        assert known[song] == confidence(raw)[0]
        raw = gather(one, world.indexes, *told, without=gone).scores(fusion.votes)
        others = [label for label in range(KNOWN) if label != gone]
        columns = {name: logits[:, others] for name, logits in raw.items()}
        assert strange[song] == confidence(columns)[0]
        assert not np.isclose(strange[song], known[song])
    assert strange.mean() < known.mean() - 0.1


def test_energy_and_distance_are_what_they_are_called(world: Any, left_out: LeftOut) -> None:
    labels = world.validation[0].labels
    energies = {True: np.zeros(len(labels)), False: np.zeros(len(labels))}
    for song, logits in enumerate(world.validation[0].logits("mean")):
        energies[False][song] = np.log(np.exp(logits).sum())
        energies[True][song] = np.log(np.exp(np.delete(logits, labels[song])).sum())
    sides = {False: left_out.known, True: left_out.unknown}
    for out in (False, True):  # the second member has no head
        assert list(sides[out]["energy"]) == ["one"]
        assert np.allclose(sides[out]["energy"]["one"], energies[out])
    for store in world.validation:
        index = world.indexes[store.member]
        plain, without = [], []
        for song, embedding in enumerate(store.embeddings):
            cosines = index.embeddings.astype(float) @ embedding.astype(float)
            plain.append(np.sort(cosines)[-NEAREST:].mean())
            without.append(np.sort(cosines[index.labels != labels[song]])[-NEAREST:].mean())
        for out, values in ((False, plain), (True, without)):
            assert np.allclose(sides[out]["distance"][store.member], values)
    assert left_out.measures == tuple(PARTS)


def test_a_score_is_the_mean_of_standard_deviations_by_the_logistic_function(
    left_out: LeftOut,
) -> None:
    scales = scales_of(left_out.known)
    for measure, parts in list(PARTS.items())[1:]:
        means = []
        for part in parts:
            each = []
            for member, values in left_out.known[part].items():
                spread = (values.mean(), values.std())
                each.append((left_out.unknown[part][member] - spread[0]) / spread[1])
            means.append(np.mean(each, axis=0))
        expected = 1 / (1 + np.exp(-np.mean(means, axis=0)))
        assert np.allclose(known_score(measure, left_out.unknown, scales), expected)
    bare = {part: left_out.unknown[part] for part in ("confidence", "distance")}
    assert np.array_equal(
        known_score("energy", bare, scales), known_score("distance", bare, scales)
    )


def test_without_heads_there_is_no_energy_and_with_two_singers_nothing(world: Any) -> None:
    bare = [replace(store, segment_logits=None) for store in world.validation]
    fusion = replace(
        world.fusion,
        temperatures={n: t for n, t in world.fusion.temperatures.items() if "head" not in n},
    )
    found = leave_singers_out(fusion, world.indexes, bare)
    assert found is not None
    assert found.measures == ("confidence", "distance")
    one = [store.take(np.flatnonzero(store.labels == 2)) for store in world.validation]
    assert leave_singers_out(world.fusion, world.indexes, one) is None
    two = replace(world.fusion, singers=world.fusion.singers[:2])
    assert leave_singers_out(two, world.indexes, world.validation) is None


# Thresholds and areas ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "named"), [(0.05, 0), (0.1, 0), (0.19, 1), (0.28, 2), (0.5, 4), (0.99, 9)]
)
def test_the_threshold_names_a_new_song_as_seldom_as_asked(target: float, named: int) -> None:
    """Of eleven songs any may be the new one, so that k of ten stand for (k + 1) of eleven."""
    strange = np.array([0.3, 0.9, 0.1, 0.5, 0.7, 0.2, 0.8, 0.4, 0.6, 0.0])
    limit = threshold_for(strange, target)
    assert (strange >= limit).sum() == named
    assert np.sort(strange)[::-1][named] == np.nextafter(limit, -np.inf)


def test_new_songs_of_such_singers_keep_the_target_however_few_there_are() -> None:
    rng = np.random.default_rng(0)
    for songs in (9, 19, 50):
        passed = [rng.normal() >= threshold_for(rng.normal(size=songs), 0.1) for _ in range(4000)]
        assert np.mean(passed) <= 0.1 + 3 * (0.09 / 4000) ** 0.5
        assert np.mean(passed) > 0.05


def test_thresholds_of_equal_and_of_all_strangers() -> None:
    equal = np.array([0.5, 0.5, 0.5, 0.2])
    assert threshold_for(equal, 0.4) == threshold_for(equal, 0.6) == np.nextafter(0.5, 1)
    assert threshold_for(equal, 0.8) == np.nextafter(0.2, 1)
    assert threshold_for(equal, 1.0) == 0.0


def test_auroc_and_false_positives_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    known, strange = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 60).round(1)  # with ties
    draws = np.concatenate([np.arange(60)[None], rng.integers(60, size=(9, 60))])
    weights = np.stack([np.bincount(draw, minlength=60) for draw in draws]).astype(float)
    areas, rates = auroc_of(known, strange)(weights), fpr_of(known, strange, 0.95)(weights)
    truth = np.repeat([1, 0], 60)
    for draw, area, rate in zip(draws, areas, rates, strict=True):
        values = np.concatenate([known[draw], strange[draw]])
        assert area == pytest.approx(roc_auc_score(truth, values))
        false, true, _ = roc_curve(truth, values, drop_intermediate=False)
        assert rate == pytest.approx(false[np.flatnonzero(true >= 0.95)[0]])


def test_the_confidence_stands_unless_another_measure_is_better_by_more_than_it_flatters() -> None:
    rows = np.arange(400)
    for by, expected in ((1.4, "confidence"), (1.6, "confidence"), (3.0, "energy")):
        found = made_up(1, {"confidence": 1.5, "energy": by, "distance": 0.0}, songs=40)
        scales = scales_of(found.known)
        areas = {
            name: roc_auc_score(np.repeat([1, 0], 400), np.concatenate(found.scores(name, scales)))
            for name in found.measures
        }
        better = max(areas, key=lambda name: areas[name])
        wanted = better if areas[better] > areas["confidence"] + OPTIMISM else "confidence"
        assert choose_measure(found, rows, scales) == wanted == expected


def test_a_song_s_measure_and_threshold_are_those_of_singers_of_other_folds() -> None:
    found = made_up(1, {"confidence": 0.5, "energy": 1.5, "distance": 1.0})
    labels, right = found.labels, np.random.default_rng(2).random(40) < 0.8
    got, kept = cross_fitted_decisions(found, right.astype(float), 0.2, seed=3)
    order = np.random.default_rng(3).permutation(10)
    for number in range(5):
        singers = order[2 * number : 2 * number + 2].tolist()
        held = np.array([label in singers for label in labels])
        scales = scales_of(found.known, ~held)
        measure = choose_measure(found, np.flatnonzero(~held), scales)
        known, strange = found.scores(measure, scales)
        limit = threshold_for(strange[~held], 0.2)
        assert np.array_equal(got[held], strange[held] >= limit)
        assert np.array_equal(kept[held], right[held] * (known[held] >= limit))
    # What the held-out singers' songs are like changes nothing about how they are judged.
    singer = order[0]
    for side in (found.known, found.unknown):
        for values in side.values():
            values[""][labels == order[1]] = 0.9
    again = cross_fitted_decisions(found, right.astype(float), 0.2, seed=3)
    for one, other in zip((got, kept), again, strict=True):
        assert np.array_equal(one[labels == singer], other[labels == singer])


def test_what_is_reported_is_measured_on_the_left_out_songs(left_out: LeftOut) -> None:
    labels = left_out.labels
    rng = np.random.default_rng(0)
    logs = np.log(rng.dirichlet(np.ones(KNOWN), len(labels)))
    found = fit_threshold(left_out, logs, 0.2, seed=1)
    scales = scales_of(left_out.known)
    assert found.measure == choose_measure(left_out, np.arange(len(labels)), scales)
    known, strange = left_out.scores(found.measure, scales)
    assert found.threshold == threshold_for(strange, 0.2)
    assert (found.target_fpr, found.songs, found.singers) == (0.2, len(labels), KNOWN)
    truth = np.repeat([1, 0], len(labels))
    assert tuple(found.auroc) == tuple(PARTS)
    for name, estimate in found.auroc.items():
        area = roc_auc_score(truth, np.concatenate(left_out.scores(name, scales)))
        assert estimate.value == pytest.approx(area)
        assert estimate.low <= area <= estimate.high
        assert estimate.groups == KNOWN  # singers are resampled, not songs
    right = (ranking(logs)[:, 0] == labels).astype(float)
    got, kept = cross_fitted_decisions(left_out, right, 0.2, seed=1)
    assert found.fpr.value == pytest.approx(got.mean())
    assert found.accuracy.value == pytest.approx(kept.mean())
    assert found.accuracy_before.value == pytest.approx(right.mean())
    assert found.fpr_95.value == pytest.approx(
        (strange >= np.sort(known)[1]).mean()  # one of 36 songs is less than a twentieth
    )


def test_a_lower_target_asks_for_more_confidence(left_out: LeftOut) -> None:
    logs = np.log(np.full((len(left_out.labels), KNOWN), 1 / KNOWN))
    found = [fit_threshold(left_out, logs, target) for target in (0.03, 0.1, 0.4)]
    assert found[0].threshold > found[1].threshold > found[2].threshold
    assert found[0].fpr.value <= found[1].fpr.value <= found[2].fpr.value


def test_a_weak_confidence_gives_way_and_known_songs_keep_their_names() -> None:
    """As on the demo: the confidence hardly tells, energy and distance do."""
    found = made_up(5, {"confidence": 0.6, "energy": 2.5, "distance": 2.5}, songs=6)
    logs = np.full((60, 10), -9.0)
    logs[np.arange(60), found.labels] = 0.0  # all right
    fitted = fit_threshold(found, logs, 0.1)
    assert fitted.measure == "both"
    without_head = {part: found.known[part] for part in ("confidence", "distance")}
    assert known_score("both", without_head, fitted.scales).shape == (60,)
    assert known_score("energy", without_head, fitted.scales).shape == (60,)  # the distance decides
    assert not fitted.costly
    assert fitted.accuracy.value > 0.8
    alone = LeftOut(
        found.labels,
        *({"confidence": side["confidence"]} for side in (found.known, found.unknown)),
    )
    weak = fit_threshold(alone, logs, 0.1)
    assert weak.measure == "confidence"
    assert weak.costly
    assert "named right with --unknown" in weak.worth()


def test_the_fusion_is_fitted_with_it(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `fit_fusion` keeps is what these functions say of its own validation songs."""
    found = leave_singers_out(world.fusion, world.indexes, world.validation)
    assert found is not None
    fitted = world.fusion.unknown
    strange = found.scores(fitted.measure, scales_of(found.known))[1]
    assert fitted.threshold == threshold_for(strange, 0.1)
    assert fitted.auroc["confidence"].value > 0.9
    monkeypatch.setattr(open_set, "NEAREST", 1)
    nearer = leave_singers_out(world.fusion, world.indexes, world.validation)
    assert nearer is not None
    assert (nearer.known["distance"]["one"] != found.known["distance"]["one"]).any()


@pytest.mark.parametrize("measure", PARTS)
def test_what_is_asked_when_applied_is_what_was_fitted(measure: str, world: Any) -> None:
    """Of the validation songs, alone or together, and without regard to enrolled singers."""
    found = leave_singers_out(world.fusion, world.indexes, world.validation)
    assert found is not None
    scales = scales_of(found.known)
    fusion = replace(
        world.fusion, unknown=replace(world.fusion.unknown, measure=measure, scales=scales)
    )
    expected = known_score(measure, found.known, scales)
    asked = score_songs(fusion, world.validation, world.indexes)
    assert np.allclose(asked.confidence, expected)
    some = [store.take(np.array([3])) for store in world.validation]
    assert score_songs(fusion, some, world.indexes).confidence[0] == asked.confidence[3]
    bare = score_songs(fusion, [world.validation[1]], {"two": world.indexes["two"]})
    assert np.isfinite(bare.confidence).all()  # a member without a head


def threshold_at(threshold: float) -> OpenSetThreshold:
    numbers = iter(np.linspace(0, 1, 15))
    one = [Estimate(*(next(numbers) for _ in range(3))) for _ in range(5)]
    scales = {"energy": {"one": (1 / 3, 2.0)}, "distance": {"one": (0.5, 0.1)}}
    return OpenSetThreshold("both", scales, threshold, 0.2, 40, 8, {"confidence": one[0]}, *one[1:])


def test_the_confidence_is_the_largest_mean_share_of_softened_logits() -> None:
    rng = np.random.default_rng(0)
    logits = {name: 6 * rng.normal(size=(7, 4)) for name in "abc"}
    found = confidence(logits)
    for song in range(7):
        shares = []
        for values in logits.values():
            raised = [np.exp(value / 2) for value in values[song]]
            shares.append([one / sum(raised) for one in raised])
        means = [sum(column) / 3 for column in zip(*shares, strict=True)]
        assert found[song] == pytest.approx(max(means))


def test_experts_that_disagree_are_less_sure_than_one_of_them() -> None:
    one, other = np.array([[9.0, 0, 0]]), np.array([[0, 9.0, 0]])
    assert confidence({"a": one, "b": one})[0] > 0.95
    assert confidence({"a": one, "b": other})[0] == pytest.approx(0.5, abs=0.02)
    assert confidence({"a": np.zeros((1, 3))})[0] == pytest.approx(1 / 3)
    assert confidence({"a": one + 100}) == pytest.approx(confidence({"a": one}))
    with pytest.raises(ValueError, match="no expert"):
        confidence({})


def test_trained_singers_are_judged_by_confidence_and_enrolled_ones_by_preference() -> None:
    edge = MIN_PREFERENCE
    cases = [  # confidence, enrolled first, preference → nobody's
        (0.29, False, -np.inf, True),
        (0.30, False, -np.inf, False),
        (0.29, False, 5.0, True),  # the preference says nothing of a trained singer
        (0.99, True, edge - 0.01, True),
        (0.01, True, edge, False),  # nor the confidence of an enrolled one
    ]
    sure, enrolled, preference, expected = map(np.array, zip(*cases, strict=True))
    assert is_unknown(threshold_at(0.3), sure, enrolled, preference).tolist() == expected.tolist()
    assert not is_unknown(threshold_at(0.0), sure[:3], enrolled[:3], preference[:3]).any()
