"""Singers left out: really out, and what is measured on them recomputed and by scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from embedder.metrics import ranking
from ensemble import openset
from ensemble.experts import gather
from ensemble.index.members import index_of
from ensemble.knn import Neighbours, SegmentNeighbours
from ensemble.openset import (
    NEAREST,
    area_of,
    cross_fitted,
    fit_unknown,
    fpr_of,
    leave_singers_out,
    threshold_for,
)
from ensemble.score_norm import SCORE_NORMS
from ensemble.unknown import NAMES, confidence

KNOWN = 6


@pytest.fixture(scope="module")
def left_out(world: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return leave_singers_out(world.fusion, world.indexes, world.validation)


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
    world: Any, left_out: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    fusion, labels = world.fusion, world.validation[0].labels
    known, strange = left_out["confidence"]
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


def test_energy_and_distance_are_what_they_are_called(
    world: Any, left_out: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    labels = world.validation[0].labels
    energies = {True: np.zeros(len(labels)), False: np.zeros(len(labels))}
    for song, logits in enumerate(world.validation[0].logits("mean")):
        energies[False][song] = np.log(np.exp(logits).sum())
        energies[True][song] = np.log(np.exp(np.delete(logits, labels[song])).sum())
    centre, spread = energies[False].mean(), energies[False].std()
    for out in (False, True):  # the second member has no head
        assert np.allclose(left_out["energy"][out], (energies[out] - centre) / spread)
    far = {True: [], False: []}
    for store in world.validation:
        index = world.indexes[store.member]
        plain, without = [], []
        for song, embedding in enumerate(store.embeddings):
            cosines = index.embeddings.astype(float) @ embedding.astype(float)
            plain.append(np.sort(cosines)[-NEAREST:].mean())
            without.append(np.sort(cosines[index.labels != labels[song]])[-NEAREST:].mean())
        for out, values in ((False, plain), (True, without)):
            far[out].append((np.array(values) - np.mean(plain)) / np.std(plain))
    for out in (False, True):
        assert np.allclose(left_out["distance"][out], np.mean(far[out], axis=0))
        both = left_out["energy"][out] + left_out["distance"][out]
        assert np.allclose(left_out["both"][out], both)
    assert tuple(left_out) == NAMES


def test_without_heads_there_is_no_energy_and_with_two_singers_nothing(world: Any) -> None:
    bare = [replace(store, segment_logits=None) for store in world.validation]
    fusion = replace(
        world.fusion,
        temperatures={n: t for n, t in world.fusion.temperatures.items() if "head" not in n},
    )
    found = leave_singers_out(fusion, world.indexes, bare)
    assert tuple(found) == ("confidence", "distance")
    one = [store.take(np.flatnonzero(store.labels == 2)) for store in world.validation]
    assert leave_singers_out(world.fusion, world.indexes, one) == {}
    two = replace(world.fusion, singers=world.fusion.singers[:2])
    assert leave_singers_out(two, world.indexes, world.validation) == {}


# Thresholds and areas ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "named"),
    [(0.05, 0), (0.1, 1), (0.19, 1), (0.2, 2), (0.5, 5), (0.99, 9), (0.999999999, 9)],
)
def test_the_threshold_names_as_many_strangers_as_are_allowed(target: float, named: int) -> None:
    strange = np.array([0.3, 0.9, 0.1, 0.5, 0.7, 0.2, 0.8, 0.4, 0.6, 0.0])
    limit = threshold_for(strange, target)
    assert (strange >= limit).sum() == named
    if named:  # and no lower threshold would do: the next stranger lies just below it
        assert np.sort(strange)[::-1][named] == np.nextafter(limit, -np.inf)


def test_thresholds_of_equal_and_of_all_strangers() -> None:
    equal = np.array([0.5, 0.5, 0.5, 0.2])
    assert 0.5 < threshold_for(equal, 0.5) < 0.5001  # two may, but all three would
    assert threshold_for(equal, 0.75) == np.nextafter(0.2, 1)
    assert threshold_for(equal, 1.0) == 0.0
    for target in np.linspace(0.01, 0.99, 23):
        strange = np.random.default_rng(0).random(50).round(1)
        assert (strange >= threshold_for(strange, float(target))).mean() <= target + 1e-9


def test_auroc_and_false_positives_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    known, strange = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 60).round(1)  # with ties
    draws = np.concatenate([np.arange(60)[None], rng.integers(60, size=(9, 60))])
    areas, rates = area_of(known, strange)(draws), fpr_of(known, strange, 0.95)(draws)
    truth = np.repeat([1, 0], 60)
    for draw, area, rate in zip(draws, areas, rates, strict=True):
        values = np.concatenate([known[draw], strange[draw]])
        assert area == pytest.approx(roc_auc_score(truth, values))
        false, true, _ = roc_curve(truth, values, drop_intermediate=False)
        assert rate == pytest.approx(false[np.flatnonzero(true >= 0.95)[0]])


def test_a_song_s_threshold_is_that_of_singers_of_other_folds() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 4)
    known, strange = rng.random(40), rng.random(40) * 0.9
    right = (rng.random(40) < 0.8).astype(float)
    got, kept = cross_fitted(known, strange, right, labels, 0.1, seed=3)
    order = np.random.default_rng(3).permutation(10)
    for number in range(5):
        singers = order[2 * number : 2 * number + 2].tolist()
        held = np.array([label in singers for label in labels])
        limit = threshold_for(strange[~held], 0.1)
        assert np.array_equal(got[held], strange[held] >= limit)
        assert np.array_equal(kept[held], right[held] * (known[held] >= limit))


def test_what_is_reported_is_measured_on_the_left_out_songs(
    world: Any, left_out: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    labels = world.validation[0].labels
    rng = np.random.default_rng(0)
    logs = np.log(rng.dirichlet(np.ones(KNOWN), len(labels)))
    found = fit_unknown(left_out, labels, logs, 0.2, seed=1)
    known, strange = left_out["confidence"]
    assert found.threshold == threshold_for(strange, 0.2)
    assert (found.target_fpr, found.songs) == (0.2, len(labels))
    truth = np.repeat([1, 0], len(labels))
    assert tuple(found.auroc) == NAMES
    for name, pair in left_out.items():
        area = roc_auc_score(truth, np.concatenate(pair))
        assert found.auroc[name].value == pytest.approx(area)
        assert found.auroc[name].low <= area <= found.auroc[name].high
    right = (ranking(logs)[:, 0] == labels).astype(float)
    got, kept = cross_fitted(known, strange, right, labels, 0.2, seed=1)
    assert found.fpr.value == pytest.approx(got.mean())
    assert found.accuracy.value == pytest.approx(kept.mean())
    assert found.accuracy_before.value == pytest.approx(right.mean())
    assert found.fpr_95.value == pytest.approx(
        (strange >= np.sort(known)[1]).mean()  # one of 36 songs is less than a twentieth
    )


def test_a_lower_target_asks_for_more_confidence(
    left_out: dict[str, tuple[np.ndarray, np.ndarray]], world: Any
) -> None:
    labels = world.validation[0].labels
    logs = np.log(np.full((len(labels), KNOWN), 1 / KNOWN))
    found = [fit_unknown(left_out, labels, logs, target) for target in (0.02, 0.1, 0.4)]
    assert found[0].threshold > found[1].threshold > found[2].threshold
    assert found[0].fpr.value <= found[1].fpr.value <= found[2].fpr.value


def test_the_fusion_is_fitted_with_it(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `fit_fusion` keeps is what these functions say of its own validation songs."""
    found = leave_singers_out(world.fusion, world.indexes, world.validation)
    assert world.fusion.unknown.threshold == threshold_for(found["confidence"][1], 0.1)
    assert world.fusion.unknown.auroc["confidence"].value > 0.9
    monkeypatch.setattr(openset, "NEAREST", 1)
    nearer = leave_singers_out(world.fusion, world.indexes, world.validation)
    assert (nearer["distance"][0] != found["distance"][0]).any()
