"""Losses between embeddings: by loops over triplets, over anchors and positives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from embedder.config import LossConfig
from embedder.settings import SETTINGS
from embedder.training.losses import PairLoss, supcon, triplet

DIM, SINGERS = 6, 4
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 0])


def unit(seed: int, rows: int = len(LABELS), dim: int = DIM) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return functional.normalize(torch.from_numpy(values), dim=1)


def slow_triplet(embedding: np.ndarray, labels: list[int], margin: float, miner: str) -> float:
    """All triplets of a batch, those that the miner takes, and the mean of those above 0."""
    cosine = embedding @ embedding.T
    losses = []
    for a, p, n in itertools.product(range(len(labels)), repeat=3):
        if a == p or labels[a] != labels[p] or labels[a] == labels[n]:
            continue
        gap = cosine[a, p] - cosine[a, n]  # above 0: the positive is nearer
        if gap > margin:
            continue
        if (miner == "semihard" and gap <= 0) or (miner == "hard" and gap > 0):
            continue
        losses.append(margin - gap)
    positive = [value for value in losses if value > 0]
    return sum(positive) / len(positive) if positive else 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("margin", [0.05, 0.3, 1.5])
@pytest.mark.parametrize("miner", SETTINGS["miner"].choices)
def test_triplets_are_those_of_the_triple_loop(miner: str, margin: float, seed: int) -> None:
    loss = triplet(LossConfig(miner=miner, triplet_margin=margin), SINGERS, DIM)
    embedding = unit(seed)
    expected = slow_triplet(embedding.double().numpy(), LABELS.tolist(), margin, miner)
    assert expected > 0
    assert loss(embedding, LABELS).item() == pytest.approx(expected, rel=1e-4)


def test_the_miners_take_different_triplets() -> None:
    values = {
        miner: triplet(LossConfig(miner=miner), SINGERS, DIM)(unit(0), LABELS).item()
        for miner in ("semihard", "hard", "all")
    }
    assert values["semihard"] <= LossConfig().triplet_margin <= values["hard"]
    assert values["semihard"] < values["all"] < values["hard"]


@pytest.mark.parametrize("miner", ["semihard", "hard", "all"])
def test_where_no_triplet_counts_the_loss_is_nothing_and_still_has_a_gradient(miner: str) -> None:
    loss = triplet(LossConfig(miner=miner), SINGERS, DIM)
    apart = torch.eye(DIM)[LABELS].requires_grad_()  # singers at right angles: margin 1
    value = loss(apart, LABELS)
    value.backward()
    assert value.item() == 0
    assert apart.grad is not None
    assert not apart.grad.any()


@pytest.mark.parametrize("build", [triplet, supcon])
def test_a_batch_without_a_positive_says_nothing(build: Callable[..., PairLoss]) -> None:
    alone = unit(0, 4).requires_grad_()
    value = build(LossConfig(miner="all"), SINGERS, DIM)(alone, torch.arange(4))
    value.backward()
    assert value.item() == 0
    assert alone.grad is not None
    assert not alone.grad.any()


def slow_supcon(embedding: np.ndarray, labels: list[int], temperature: float) -> float:
    """Khosla et al. 2020, eq. 2, one anchor and one positive at a time."""
    total, anchors = 0.0, 0
    for a, own in enumerate(labels):
        others = [i for i in range(len(labels)) if i != a]
        positives = [p for p in others if labels[p] == own]
        if not positives:
            continue
        below = sum(math.exp(embedding[a] @ embedding[i] / temperature) for i in others)
        terms = [
            math.log(math.exp(embedding[a] @ embedding[p] / temperature) / below) for p in positives
        ]
        total -= sum(terms) / len(positives)
        anchors += 1
    return total / anchors


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_supcon_is_that_of_the_loop_over_anchors_and_positives(
    temperature: float, seed: int
) -> None:
    loss = supcon(LossConfig(supcon_temperature=temperature), SINGERS, DIM)
    expected = slow_supcon(unit(seed).double().numpy(), LABELS.tolist(), temperature)
    assert loss(unit(seed), LABELS).item() == pytest.approx(expected, rel=1e-4)


def test_an_anchor_without_a_positive_is_only_a_negative_to_supcon() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    loss = supcon(LossConfig(), 3, DIM)
    expected = slow_supcon(unit(1, 5).double().numpy(), labels.tolist(), 0.1)
    assert loss(unit(1, 5), labels).item() == pytest.approx(expected, rel=1e-4)
    without = slow_supcon(unit(1, 5).double().numpy()[:4], labels.tolist()[:4], 0.1)
    assert abs(expected - without) > 0.01


@pytest.mark.parametrize("build", [triplet, supcon])
def test_pair_losses_have_no_head_and_nothing_to_learn(build: Callable[..., PairLoss]) -> None:
    loss = build(LossConfig(), SINGERS, DIM)
    before = loss(unit(2), LABELS)
    loss.set_progress(0.5)
    loss.start_from(torch.ones(SINGERS, DIM))
    assert loss.head() is None
    assert list(loss.parameters()) == []
    assert torch.equal(loss(unit(2), LABELS), before)
