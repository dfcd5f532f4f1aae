"""The discriminant by scikit-learn, the gate by its own condition, the enlarged answer slowly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ensemble.enrollment_gate import (
    AMONG,
    LEAST,
    LEAST_WITHIN,
    PREFERRED,
    SHRINKAGE,
    Gate,
    discriminant,
    enlarged,
    fit_gate,
    log_odds,
)
from ensemble.index.members import MemberIndex
from ensemble.index.vectors import build_vectors

KNOWN, NEW = 6, 2


def with_strangers(world: Any) -> dict[str, MemberIndex]:
    """The indexes with the first album of two strangers; only what the discriminant reads."""
    rows = np.array([0, 1, 2, 6, 7, 8])
    found = {}
    for store in world.strangers:
        index = world.indexes[store.member]
        embeddings = np.concatenate([index.embeddings, store.embeddings[rows]])
        found[store.member] = replace(
            index,
            singers=(*index.singers, "x", "y"),
            labels=np.concatenate([index.labels, np.repeat([KNOWN, KNOWN + 1], 3)]),
            embeddings=embeddings,
            songs=build_vectors(embeddings),
        )
    return found


@pytest.fixture(scope="module")
def indexes(world: Any) -> dict[str, MemberIndex]:
    return with_strangers(world)


# The discriminant -------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(5, 5, 5), (2, 9, 4, 3)])
def test_the_discriminant_is_scikit_learn_s(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(counts))
    labels = np.repeat(np.arange(len(counts)), counts)
    songs = rng.normal(size=(len(labels), 7)) + rng.normal(size=(len(counts), 7))[labels]
    queries = rng.normal(size=(11, 7))
    shares = np.array(counts) / len(labels)
    other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE, priors=shares)
    other.fit(songs, labels)
    found = discriminant(songs, labels, len(counts)).logits(queries)
    expected = other.decision_function(queries) - np.log(shares)  # the priors are equal here
    apart = found - expected
    assert np.allclose(apart, apart[:, :1], atol=1e-9)


def test_of_one_song_a_singer_it_asks_which_is_nearest_and_a_second_changes_little() -> None:
    rng = np.random.default_rng(0)
    songs, labels = rng.normal(size=(5, 8)), np.arange(5)
    queries = songs + 0.5 * rng.normal(size=(5, 8))
    far = ((queries[:, None] - songs[None]) ** 2).sum(axis=2)
    found = discriminant(songs, labels, 5).logits(queries)
    assert (found.argmax(axis=1) == far.argmin(axis=1)).all()
    # A hundredth of all variance stands for what is not known of a singer's.
    level = SHRINKAGE * LEAST_WITHIN * songs.var(axis=0).sum() / 8
    apart = found + far / (2 * level)
    assert np.allclose(apart, apart[:, :1])
    more = np.concatenate([songs, songs[:1] + 0.01])
    changed = discriminant(more, np.array([*labels, 0]), 5).logits(queries)
    assert np.ptp(changed, axis=1) == pytest.approx(np.ptp(found, axis=1), rel=0.2)
    equal = discriminant(np.ones((4, 8)), np.array([0, 0, 1, 1]), 2).logits(np.ones((2, 8)))
    assert np.isfinite(equal).all()
    assert np.array_equal(equal[:, 0], equal[:, 1])
    assert discriminant(songs, labels, 5).logits(np.zeros((0, 8))).shape == (0, 5)


# The gate ---------------------------------------------------------------------------------------


def test_log_odds_are_finite() -> None:
    found = log_odds(np.array([0.0, 0.2, 0.5, 1.0]))
    assert found[1:3] == pytest.approx([np.log(0.25), 0])
    assert found[[0, 3]] == pytest.approx([np.log(1e-6), -np.log(1e-6)], abs=1e-4)


def test_the_gate_gives_as_many_to_strangers_as_there_were(world: Any) -> None:
    """Of a fitted logistic regression the residuals sum to 0."""
    rng = np.random.default_rng(0)
    known, strange = rng.beta(5, 2, 36), rng.beta(2, 4, 36)
    gate = fit_gate(world.indexes, world.validation, known, strange)
    assert gate.slope < 0
    odds = gate.slope * log_odds(np.concatenate([known, strange])) + gate.intercept
    chances = 1 / (1 + np.exp(-odds))
    assert chances.sum() == pytest.approx(36, abs=0.05)
    assert chances[36:].mean() > chances[:36].mean() + 0.2


def test_a_confidence_that_knows_no_strangers_says_nothing(world: Any) -> None:
    known = np.linspace(0.2, 0.8, 36)
    gate = fit_gate(world.indexes, world.validation, known, known + 0.1)
    assert (gate.slope, gate.intercept) == (0, 0)


def test_scales_are_the_margins_of_the_right_singer(world: Any) -> None:
    gate = world.fusion.gate
    assert list(gate.scales) == ["one", "two"]
    for store in world.validation:
        index = world.indexes[store.member]
        logits = discriminant(index.embeddings, index.labels, KNOWN).logits(store.embeddings)
        margins = []
        for row, label in zip(logits, store.labels, strict=True):
            others = np.delete(row, label)
            largest = others.max()
            margins.append(row[label] - largest - np.log(np.exp(others - largest).sum()))
        assert gate.scales[store.member] == pytest.approx(np.mean(margins))


def test_scales_know_nothing_of_who_was_enrolled(
    world: Any, indexes: dict[str, MemberIndex]
) -> None:
    known = np.linspace(0.4, 0.9, 36)
    plain, more = (
        fit_gate(i, world.validation, known, known - 0.3) for i in (world.indexes, indexes)
    )
    assert plain == more


# The enlarged answer ----------------------------------------------------------------------------


def test_the_enlarged_answer_is_the_formula_s(world: Any, indexes: dict[str, MemberIndex]) -> None:
    rng = np.random.default_rng(0)
    fused = np.log(rng.dirichlet(np.ones(KNOWN), 12))
    sure = rng.random(12)
    gate: Gate = world.fusion.gate
    found, preference = enlarged(gate, fused, sure, world.strangers, indexes)
    assert found.shape == (12, KNOWN + NEW)
    for song in range(12):
        prefers, among = 0.0, np.zeros(NEW)
        for store in world.strangers:
            index = indexes[store.member]
            lines = discriminant(index.embeddings, index.labels, KNOWN + NEW)
            scores = lines.weights @ store.embeddings[song].astype(float) + lines.bias
            scores /= gate.scales[store.member]
            prefers += (scores[KNOWN:].max() - scores[:KNOWN].max()) / 2
            among += AMONG * scores[KNOWN:] / 2
        assert preference[song] == pytest.approx(prefers)
        odds = gate.slope * np.log(sure[song] / (1 - sure[song])) + gate.intercept
        stranger = 1 / (1 + np.exp(-(odds + PREFERRED * prefers)))
        stranger = min(max(stranger, LEAST), 1 - LEAST)
        raised = np.exp(among - among.max())
        expected = [*(1 - stranger) * np.exp(fused[song]), *stranger * raised / raised.sum()]
        assert np.allclose(np.exp(found[song]), expected, atol=1e-12)
        assert sum(expected) == pytest.approx(1)


def test_less_confidence_gives_more_to_the_enrolled(
    world: Any, indexes: dict[str, MemberIndex]
) -> None:
    fused = np.log(np.full((12, KNOWN), 1 / KNOWN))
    shares = []
    for sure in (0.0, 0.1, 0.3, 0.9, 1.0):
        logs, _ = enlarged(world.fusion.gate, fused, np.full(12, sure), world.strangers, indexes)
        assert np.isfinite(logs).all()
        shares.append(np.exp(logs[:, KNOWN:]).sum(axis=1))
    assert (np.diff(shares, axis=0) <= 0).all()
    assert (shares[0] > shares[-1]).all()


def test_a_member_that_is_missing_leaves_the_answer_to_the_others(
    world: Any, indexes: dict[str, MemberIndex]
) -> None:
    fused = np.log(np.full((12, KNOWN), 1 / KNOWN))
    sure = np.full(12, 0.5)
    given: tuple[Any, ...] = (world.fusion.gate, fused, sure)
    one, other = (enlarged(*given, [store], indexes)[1] for store in world.strangers)
    both = enlarged(*given, world.strangers, indexes)[1]
    assert np.allclose(both, (one + other) / 2)
    assert not np.allclose(one, other)
