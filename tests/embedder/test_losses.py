"""Losses: by hand from angles and by a triple loop, and what their gradients pull at."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from embedder.config import LossConfig
from embedder.losses import LOSSES, AamSoftmax, MinedTriplet
from embedder.settings import all_settings

DIM, SINGERS = 6, 4
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 0])


def unit(seed: int, rows: int = len(LABELS), dim: int = DIM) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return functional.normalize(torch.from_numpy(values), dim=1)


def aam(**changes: Any) -> AamSoftmax:
    torch.manual_seed(0)
    return AamSoftmax(dataclasses.replace(LossConfig(), **changes), SINGERS, DIM)


def slow_aam(
    embedding: np.ndarray, labels: list[int], head: np.ndarray, margin: float, scale: float
) -> float:
    """Deng et al. 2019, eq. 3, one sample and one class at a time."""
    total = 0.0
    for vector, own in zip(embedding, labels, strict=True):
        logits = []
        for singer, weight in enumerate(head):
            cosine = vector @ weight / math.sqrt(vector @ vector) / math.sqrt(weight @ weight)
            theta = math.acos(max(-1.0, min(1.0, cosine)))
            if singer != own:
                logits.append(scale * math.cos(theta))
            elif theta + margin <= math.pi:
                logits.append(scale * math.cos(theta + margin))
            else:  # cos would rise again: go on falling, as the authors' code does
                logits.append(scale * (math.cos(theta) - margin * math.sin(margin)))
        total += math.log(sum(math.exp(v) for v in logits)) - logits[own]
    return total / len(labels)


def check_aam(loss: AamSoftmax, embedding: Tensor, margin: float, scale: float = 30.0) -> None:
    head = loss.head()
    assert head is not None
    expected = slow_aam(
        embedding.double().numpy(), LABELS.tolist(), head.detach().double().numpy(), margin, scale
    )
    assert loss(embedding, LABELS).item() == pytest.approx(expected, rel=1e-3)


def test_losses_are_the_choices_of_the_setting() -> None:
    assert tuple(LOSSES) == all_settings()["loss"][1].metadata["choices"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("margin", "scale"), [(0.0, 30.0), (0.2, 30.0), (0.5, 64.0), (1.0, 1.0)])
def test_aam_is_that_of_the_angles(seed: int, margin: float, scale: float) -> None:
    check_aam(aam(aam_margin=margin, aam_scale=scale), unit(seed), margin, scale)


@pytest.mark.parametrize(
    ("share", "grown"), [(0.0, 0.0), (0.15, 0.5), (0.225, 0.75), (0.3, 1.0), (0.6, 1.0), (1.0, 1.0)]
)
def test_the_margin_grows_until_the_warm_up_ends(share: float, grown: float) -> None:
    loss = aam(aam_margin=0.4, margin_warmup=0.3)
    loss.set_progress(share)
    check_aam(loss, unit(1), 0.4 * grown)


def test_the_margin_of_no_warm_up_is_there_at_once() -> None:
    loss = aam(aam_margin=0.4, margin_warmup=0.0)
    loss.set_progress(0.0)
    check_aam(loss, unit(1), 0.4)


def test_a_warm_up_over_the_whole_training_ends_with_it() -> None:
    loss = aam(aam_margin=0.4, margin_warmup=1.0)
    for share in (0.0, 0.5, 1.0, 0.25):  # in any order: a resumed training sets where it is
        loss.set_progress(share)
        check_aam(loss, unit(1), 0.4 * share)


@pytest.mark.parametrize("margin", [0.2, 0.8])
def test_beyond_pi_less_the_margin_the_loss_still_grows(margin: float) -> None:
    loss = aam(aam_margin=margin, aam_scale=4.0)
    head = loss.head()
    assert head is not None
    axis = functional.normalize(head[0].detach(), dim=0)
    aside = functional.normalize(unit(5, 1)[0] - (unit(5, 1)[0] @ axis) * axis, dim=0)
    values = []
    for theta in np.linspace(math.pi - 1.5 * margin, math.pi - 0.01, 9):
        vector = (math.cos(theta) * axis + math.sin(theta) * aside)[None]
        expected = slow_aam(
            vector.double().numpy(), [0], head.detach().double().numpy(), margin, 4.0
        )
        assert loss(vector, torch.tensor([0])).item() == pytest.approx(expected, rel=2e-3)
        values.append((theta, expected))
    assert sum(theta > math.pi - margin for theta, _ in values) >= 5  # the branch is taken


def test_a_margin_asks_for_more() -> None:
    easy, hard = aam(aam_margin=0.0), aam(aam_margin=0.3)
    assert hard(unit(2), LABELS).item() > easy(unit(2), LABELS).item()


def test_length_says_nothing_to_aam() -> None:
    loss = aam()
    lengths = torch.linspace(0.1, 9, len(LABELS))[:, None]
    assert loss(unit(3) * lengths, LABELS).item() == pytest.approx(
        loss(unit(3), LABELS).item(), rel=1e-4
    )


def test_the_head_is_what_the_loss_learns() -> None:
    loss = aam()
    head = loss.head()
    assert head is not None
    assert head.shape == (SINGERS, DIM)
    assert sum(p.numel() for p in loss.parameters()) == SINGERS * DIM
    before = head.detach().clone()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.01)
    loss(unit(4), LABELS).backward()
    optimizer.step()
    after = loss.head()
    assert after is not None
    assert not torch.equal(before, after)


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
@pytest.mark.parametrize("miner", all_settings()["miner"][1].metadata["choices"])
def test_triplets_are_those_of_the_triple_loop(miner: str, margin: float, seed: int) -> None:
    loss = MinedTriplet(LossConfig(miner=miner, triplet_margin=margin), SINGERS, DIM)
    embedding = unit(seed)
    expected = slow_triplet(embedding.double().numpy(), LABELS.tolist(), margin, miner)
    assert expected > 0
    assert loss(embedding, LABELS).item() == pytest.approx(expected, rel=1e-4)


def test_the_miners_take_different_triplets() -> None:
    values = {
        miner: MinedTriplet(LossConfig(miner=miner), SINGERS, DIM)(unit(0), LABELS).item()
        for miner in ("semihard", "hard", "all")
    }
    assert values["semihard"] <= LossConfig().triplet_margin <= values["hard"]
    assert values["semihard"] < values["all"] < values["hard"]


@pytest.mark.parametrize("miner", ["semihard", "hard", "all"])
def test_where_no_triplet_counts_the_loss_is_nothing_and_still_has_a_gradient(miner: str) -> None:
    loss = MinedTriplet(LossConfig(miner=miner), SINGERS, DIM)
    apart = torch.eye(DIM)[LABELS].requires_grad_()  # singers at right angles: margin 1
    value = loss(apart, LABELS)
    value.backward()
    assert value.item() == 0
    assert apart.grad is not None
    assert not apart.grad.any()


def test_a_batch_without_a_positive_has_no_triplet() -> None:
    loss = MinedTriplet(LossConfig(miner="all"), SINGERS, DIM)
    assert loss(unit(0, 4), torch.arange(4)).item() == 0


def test_triplet_has_no_head_and_nothing_to_learn() -> None:
    loss = MinedTriplet(LossConfig(), SINGERS, DIM)
    loss.set_progress(0.5)
    assert loss.head() is None
    assert list(loss.parameters()) == []


@pytest.mark.parametrize("name", LOSSES)
def test_descent_brings_each_singer_s_embeddings_together(name: str) -> None:
    torch.manual_seed(1)
    loss = LOSSES[name](LossConfig(miner="all"), SINGERS, DIM)
    free = unit(7).requires_grad_()
    optimizer = torch.optim.Adam([free, *loss.parameters()], lr=0.05)
    same = (LABELS[:, None] == LABELS[None]) & ~torch.eye(len(LABELS), dtype=torch.bool)
    other = LABELS[:, None] != LABELS[None]

    def gap() -> float:
        vectors = functional.normalize(free.detach(), dim=1)
        cosine = vectors @ vectors.T
        return float(cosine[same].mean() - cosine[other].mean())

    before = gap()
    for step in range(60):
        loss.set_progress(step / 60)
        optimizer.zero_grad()
        loss(functional.normalize(free, dim=1), LABELS).backward()
        optimizer.step()
    assert before < 0.3
    assert gap() > 0.8


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_embeddings_are_measured_in_full(name: str) -> None:
    torch.manual_seed(2)
    loss = LOSSES[name](LossConfig(), SINGERS, DIM)
    half = unit(8).bfloat16()
    value = loss(half, LABELS)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(half.float(), LABELS).item(), abs=0)


@pytest.mark.parametrize("name", LOSSES)
def test_an_embedding_on_its_own_weight_has_a_finite_gradient(name: str) -> None:
    torch.manual_seed(3)
    loss = LOSSES[name](LossConfig(), SINGERS, DIM)
    head = loss.head()
    vectors = unit(9, SINGERS) if head is None else functional.normalize(head.detach(), dim=1)
    exact = torch.cat([vectors, vectors, torch.eye(DIM)[:SINGERS]]).requires_grad_()
    if head is not None:
        with torch.no_grad():
            head[0] = torch.eye(DIM)[0]  # cosine 1 without any rounding
    loss(exact, torch.arange(SINGERS).repeat(3)).backward()
    assert exact.grad is not None
    assert torch.isfinite(exact.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in loss.parameters())
