"""Losses by hand, with class weights and on pairs; their sums, and what their gradients pull at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from embedder.config import LossConfig
from embedder.models.network import margin_free_logits
from embedder.objectives import OBJECTIVES
from embedder.settings import SETTINGS
from embedder.training.losses import (
    LOSSES,
    ClassLoss,
    PairLoss,
    SummedLoss,
    build_loss,
    supcon,
    triplet,
)

DIM, SINGERS = 6, 4
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 0])


def unit(seed: int, rows: int = len(LABELS), dim: int = DIM) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return functional.normalize(torch.from_numpy(values), dim=1)


def made(name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return build_loss(LossConfig(loss=name, **changes), SINGERS, DIM)


def slow_margin(
    kind: str, embedding: Tensor, head: Tensor, margin: float, scale: float, centres: int = 1
) -> float:
    """Cross entropy with the margin on the own singer's cosine, a sample and a class at a time."""
    vectors, weights = embedding.double().numpy(), head.detach().double().numpy()
    total = 0.0
    for vector, own in zip(vectors, LABELS.tolist()[: len(vectors)], strict=True):
        logits = []
        for singer in range(len(weights) // centres):
            rows = weights[singer * centres : (singer + 1) * centres]
            lengths = [math.sqrt(vector @ vector) * math.sqrt(row @ row) for row in rows]
            cosine = max(vector @ row / norm for row, norm in zip(rows, lengths, strict=True))
            theta = math.acos(max(-1.0, min(1.0, cosine)))
            if singer != own:
                logits.append(scale * cosine)
            elif kind == "additive":  # Wang et al. 2018, eq. 4
                logits.append(scale * (cosine - margin))
            elif theta + margin <= math.pi:  # Deng et al. 2019, eq. 3
                logits.append(scale * math.cos(theta + margin))
            else:  # cos would rise again: go on falling, as the authors' code does
                logits.append(scale * (cosine - margin * math.sin(margin)))
        total += math.log(sum(math.exp(v) for v in logits)) - logits[own]
    return total / len(vectors)


MARGINS = {"aam": ("angular", 1), "subcenter": ("angular", 3), "cosface": ("additive", 1)}


def check_margin(name: str, loss: ClassLoss, seed: int, margin: float, scale: float = 30) -> None:
    kind, centres = MARGINS[name]
    head = loss.head()
    assert head is not None
    assert head.shape == (SINGERS * centres, DIM)
    expected = slow_margin(kind, unit(seed), head, margin, scale, centres)
    assert loss(unit(seed), LABELS).item() == pytest.approx(expected, rel=1e-3)


def test_losses_are_the_choices_of_the_setting() -> None:
    assert tuple(LOSSES) == SETTINGS["loss"].choices


def test_objectives_say_what_the_losses_are() -> None:
    assert tuple(OBJECTIVES) == tuple(LOSSES)
    for name, about in OBJECTIVES.items():
        loss = made(name, subcenters=5)
        head = loss.head()
        assert (head is not None) == about.head
        if head is not None:
            assert head.shape == (SINGERS * LossConfig(loss=name, subcenters=5).centres, DIM)
            assert (len(head) > SINGERS) == about.subcenters
        alone = loss(unit(0, SINGERS), torch.arange(SINGERS))
        assert (alone.item() == 0) == about.positives
        if about.margin:
            with_margin = made(
                name, subcenters=5, margin_warmup=0, miner="all", **{about.margin: 0.9}
            )
            assert with_margin(unit(0), LABELS).item() != loss(unit(0), LABELS).item()


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("margin", "scale"), [(0.0, 30.0), (0.2, 30.0), (0.5, 64.0), (1.0, 1.0)])
def test_margin_losses_are_those_of_the_cosines(
    name: str, margin: float, scale: float, seed: int
) -> None:
    setting = OBJECTIVES[name].margin
    check_margin(name, made(name, aam_scale=scale, **{setting: margin}), seed, margin, scale)


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize(
    ("share", "grown"), [(0.0, 0.0), (0.15, 0.5), (0.225, 0.75), (0.3, 1.0), (0.6, 1.0), (1.0, 1.0)]
)
def test_the_margin_grows_until_the_warm_up_ends(name: str, share: float, grown: float) -> None:
    loss = made(name, margin_warmup=0.3, **{OBJECTIVES[name].margin: 0.4})
    loss.set_progress(share)
    check_margin(name, loss, 1, 0.4 * grown)


@pytest.mark.parametrize("name", MARGINS)
def test_the_margin_of_no_warm_up_is_there_at_once(name: str) -> None:
    loss = made(name, margin_warmup=0.0, **{OBJECTIVES[name].margin: 0.4})
    loss.set_progress(0.0)
    check_margin(name, loss, 1, 0.4)


@pytest.mark.parametrize("name", MARGINS)
def test_a_warm_up_over_the_whole_training_ends_with_it(name: str) -> None:
    loss = made(name, margin_warmup=1.0, **{OBJECTIVES[name].margin: 0.4})
    for share in (0.0, 0.5, 1.0, 0.25):  # in any order: a resumed training sets where it is
        loss.set_progress(share)
        check_margin(name, loss, 1, 0.4 * share)


@pytest.mark.parametrize("margin", [0.2, 0.8])
def test_beyond_pi_less_the_margin_the_loss_still_grows(margin: float) -> None:
    loss = made("aam", aam_margin=margin, aam_scale=4.0)
    head = loss.head().detach()
    axis = functional.normalize(head[0], dim=0)
    aside = functional.normalize(unit(5, 1)[0] - (unit(5, 1)[0] @ axis) * axis, dim=0)
    values = []
    for theta in np.linspace(math.pi - 1.5 * margin, math.pi - 0.01, 9):
        vector = (math.cos(theta) * axis + math.sin(theta) * aside)[None]
        expected = slow_margin("angular", vector, head, margin, 4.0)
        assert loss(vector, torch.tensor([0])).item() == pytest.approx(expected, rel=2e-3)
        values.append((theta, expected))
    assert sum(theta > math.pi - margin for theta, _ in values) >= 5  # the branch is taken


@pytest.mark.parametrize("name", MARGINS)
def test_a_margin_asks_for_more(name: str) -> None:
    easy, hard = (made(name, **{OBJECTIVES[name].margin: m}) for m in (0.0, 0.3))
    assert hard(unit(2), LABELS).item() > easy(unit(2), LABELS).item()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_softmax_is_the_cross_entropy_of_what_the_head_answers(scale: float, seed: int) -> None:
    loss = made("softmax", aam_scale=scale)
    with torch.no_grad():
        loss.head().mul_(torch.tensor([[0.1], [1.0], [3.0], [9.0]]))  # lengths say nothing
    expected = slow_margin("additive", unit(seed), loss.head(), 0.0, scale)
    assert loss(unit(seed), LABELS).item() == pytest.approx(expected, rel=1e-4)
    logits = margin_free_logits(unit(seed), loss.head(), scale)
    assert loss(unit(seed), LABELS).item() == pytest.approx(
        functional.cross_entropy(logits, LABELS).item(), rel=1e-4
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("margin", "alpha"), [(0.1, 32.0), (0.0, 1.0), (0.5, 10.0)])
def test_proxyanchor_is_the_loop_over_proxies(margin: float, alpha: float, seed: int) -> None:
    loss = made("proxyanchor", proxy_margin=margin, proxy_alpha=alpha)
    labels = [0, 1, 2, 0, 1, 0]  # nobody sings as the fourth: its proxy has negatives only
    near = far = 0.0
    for singer, proxy in enumerate(functional.normalize(loss.head().detach().double(), dim=1)):
        cosines = [float(vector.double() @ proxy) for vector in unit(seed)[:6]]
        own = [c for c, label in zip(cosines, labels, strict=True) if label == singer]
        others = [c for c, label in zip(cosines, labels, strict=True) if label != singer]
        near += math.log(1 + sum(math.exp(-alpha * (c - margin)) for c in own))
        far += math.log(1 + sum(math.exp(alpha * (c + margin)) for c in others))
    value = loss(unit(seed)[:6], torch.tensor(labels)).item()
    assert value == pytest.approx(near / 3 + far / 4, rel=1e-4)


def test_only_the_nearest_sub_centre_is_pulled() -> None:
    loss = made("subcenter")
    loss(unit(2, 1), torch.tensor([1])).backward()
    pulled = loss.loss.W.grad.T.abs().sum(dim=1).view(SINGERS, 3) > 0
    cosines = margin_free_logits(unit(2, 1), loss.head().detach(), 1.0).view(SINGERS, 3)
    assert torch.equal(pulled, functional.one_hot(cosines.argmax(dim=1), 3).bool())


HEADED = [name for name, about in OBJECTIVES.items() if about.head]


@pytest.mark.parametrize("name", HEADED)
def test_length_says_nothing_to_losses_with_class_weights(name: str) -> None:
    loss = made(name)
    lengths = torch.linspace(0.1, 9, len(LABELS))[:, None]
    assert loss(unit(3) * lengths, LABELS).item() == pytest.approx(
        loss(unit(3), LABELS).item(), rel=1e-4
    )


@pytest.mark.parametrize("name", HEADED)
def test_the_head_is_what_the_loss_learns_and_can_begin_from(name: str) -> None:
    loss = made(name)
    before = loss.head().detach().clone()
    assert sum(p.numel() for p in loss.parameters()) == before.numel()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.01)
    value = loss(unit(4), LABELS)
    value.backward()
    optimizer.step()
    assert not torch.equal(before, loss.head())
    loss.start_from(before)
    assert torch.equal(before, loss.head())
    assert loss(unit(4), LABELS).item() == value.item()
    loss.start_from(before[:-1])  # of other singers: not these
    assert torch.equal(before, loss.head())


# Sums -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_sum_adds_its_later_parts_by_their_weight(weight: float) -> None:
    loss = made("triplet+aam+supcon", sum_weight=weight, margin_warmup=0.5)
    assert isinstance(loss, SummedLoss)
    for share in (0.1, 1.0):
        loss.set_progress(share)
        angular = slow_margin("angular", unit(1), loss.head(), 0.2 * min(1, share / 0.5), 30.0)
        expected = made("triplet")(unit(1), LABELS).item()
        expected += weight * (angular + made("supcon")(unit(1), LABELS).item())
        assert loss(unit(1), LABELS).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "part", "centres"),
    [
        ("aam+triplet", 0, 1),
        ("triplet+subcenter", 1, 3),
        ("supcon+proxyanchor+subcenter", 1, 1),
        ("subcenter+aam", 0, 3),
        ("triplet+supcon", None, 1),
    ],
)
def test_a_sum_s_head_is_the_first_part_s_that_has_one(
    name: str, part: int | None, centres: int
) -> None:
    loss = made(name)
    assert LossConfig(loss=name).centres == centres
    assert len(list(loss.parameters())) == sum(OBJECTIVES[n].head for n in name.split("+"))
    if part is None:
        assert loss.head() is None
        return
    assert len(loss.head()) == SINGERS * centres
    loss.start_from(torch.full((SINGERS * centres, DIM), 2.0))
    assert (loss.parts[part].head() == 2).all()
    assert loss.head().data_ptr() == loss.parts[part].head().data_ptr()


# Every loss -------------------------------------------------------------------------------------

EVERY = [*LOSSES, "aam+triplet"]
LEADS = {"softmax": 0.1}  # without a margin it stops asking as soon as all are right


@pytest.mark.parametrize("name", EVERY)
def test_descent_brings_each_embedding_nearest_to_its_own_singer(name: str) -> None:
    torch.manual_seed(1)
    config = LossConfig(loss=name, miner="all")
    loss = build_loss(config, SINGERS, DIM)
    free = unit(7).requires_grad_()
    optimizer = torch.optim.Adam([free, *loss.parameters()], lr=0.05)
    own = functional.one_hot(LABELS, SINGERS).bool()

    def lead() -> float:
        """The own singer's cosine less the nearest other's, of the embedding that has it worst."""
        vectors = functional.normalize(free.detach(), dim=1)
        head = loss.head()
        if head is None:
            head = own.float().T @ vectors  # the singers' mean embeddings
        cosines = margin_free_logits(vectors, head.detach(), 1.0, config.centres)
        others = cosines.masked_fill(own, -1).amax(dim=1)
        return float((cosines[own] - others).min())

    before = lead()
    for step in range(60):
        loss.set_progress(step / 60)
        optimizer.zero_grad()
        loss(functional.normalize(free, dim=1), LABELS).backward()
        optimizer.step()
    assert before < 0
    assert lead() > LEADS.get(name, 0.25)


@pytest.mark.parametrize("name", EVERY)
def test_half_precision_embeddings_are_measured_in_full(name: str) -> None:
    torch.manual_seed(2)
    loss = build_loss(LossConfig(loss=name), SINGERS, DIM)
    half = unit(8).bfloat16()
    expected = loss(half.float(), LABELS).item()
    value = loss(half, LABELS)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, abs=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(half, LABELS).item() == pytest.approx(expected, abs=0)


@pytest.mark.parametrize("name", EVERY)
def test_an_embedding_on_its_own_weight_has_a_finite_gradient(name: str) -> None:
    torch.manual_seed(3)
    loss = build_loss(LossConfig(loss=name), SINGERS, DIM)
    head = loss.head()
    own = torch.arange(SINGERS)
    vectors = unit(9, SINGERS)
    if head is not None:
        centres = head.shape[0] // SINGERS
        vectors = functional.normalize(head.detach()[::centres], dim=1)
        with torch.no_grad():
            head[0] = torch.eye(DIM)[0]  # cosine 1 without any rounding
    exact = torch.cat([vectors, vectors, torch.eye(DIM)[:SINGERS]]).requires_grad_()
    loss(exact, own.repeat(3)).backward()
    assert exact.grad is not None
    assert torch.isfinite(exact.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in loss.parameters())


# Losses on pairs -------------------------------------------------------------------------------


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
