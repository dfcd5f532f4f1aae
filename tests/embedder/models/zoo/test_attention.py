"""The self-attention back: its columns, its token, a set without order, and slow attention."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.models.network import count_parameters
from embedder.models.zoo.attention import Attention
from embedder.settings import build_config

PAPER = build_config("base", changes={"backbone": "attention"})
SMALL = build_config(changes={"backbone": "attention", "channels": 16})


@pytest.fixture
def network() -> Attention:
    torch.manual_seed(0)
    network = Attention(SMALL.features, SMALL.model)
    for name, values in network.named_parameters():
        if "norm1" in name or "norm2" in name:  # so that each norm is its own
            nn.init.uniform_(values, 0.2, 1.5)
    return network.eval()


def mels(seed: int, batch: int, frames: int, bands: int = 128) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(batch, bands, frames))
    return torch.from_numpy(values.astype(np.float32))


def after_front(network: Attention, columns: Tensor) -> Tensor:
    """What the network says where its front gives these `columns (batch, columns, width)`."""

    class Given(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            return columns.transpose(1, 2).unsqueeze(2)

    front, network.front = network.front, Given()  # type: ignore[assignment]
    try:
        return network(torch.zeros(len(columns), 128, 8))
    finally:
        network.front = front


@pytest.mark.parametrize(("frames", "columns"), [(188, 24), (313, 40), (1, 1)])
def test_the_front_leaves_one_row_of_columns_8_frames_apart(
    network: Attention, frames: int, columns: int
) -> None:
    shapes: list[tuple[int, ...]] = []
    for block in network.front:
        block.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    network.back.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    out = network(mels(0, 2, frames))
    steps = [math.ceil(frames / 2), math.ceil(frames / 4), *5 * [columns]]
    maps = zip((16, 16, 32, 32, 32, 32, 32), (64, 32, 16, 8, 4, 2, 1), steps, strict=True)
    assert shapes == [*((2, *shape) for shape in maps), (2, 1 + columns, 32)]
    assert out.shape == (2, network.output_dim) == (2, 32)


def test_parameters_are_as_many_as_the_paper_s_layers_have() -> None:
    widths = (1, 128, 128, 256, 256, 256, 256, 256)
    front = sum(9 * (2 * a * b + b * b) + 6 * b for a, b in pairwise(widths))
    projections = 4 * (256 * 256 + 256)
    layer = projections + 2 * 256 * 1024 + 1024 + 256 + 4 * 256
    expected = front + 256 + 2 * layer + 256 * 256 + 256
    assert count_parameters(Attention(PAPER.features, PAPER.model)) == expected


def test_the_back_is_that_of_the_definition(network: Attention) -> None:
    columns = mels(1, 2, 32, 11)  # 11 columns of 32
    state = {name: value.detach().double() for name, value in network.state_dict().items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def normed(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = torch.cat([state["token"].expand(2, 1, 32), columns.double()], dim=1)
    for number in range(2):
        layer = f"back.{number}"
        mixed = x @ state[f"{layer}.self_attn.in_proj_weight"].T
        query, key, value = (mixed + state[f"{layer}.self_attn.in_proj_bias"]).split(32, dim=2)
        heads = []
        for head in range(8):
            part = slice(4 * head, 4 * head + 4)
            scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(4)
            weights = scores.exp() / scores.exp().sum(dim=2, keepdim=True)
            torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 12, dtype=torch.double))
            heads.append(weights @ value[..., part])
        x = normed(
            x + linear(torch.cat(heads, dim=2), f"{layer}.self_attn.out_proj"), f"{layer}.norm1"
        )
        inner = linear(x, f"{layer}.linear1")
        inner = 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))  # GELU
        x = normed(x + linear(inner, f"{layer}.linear2"), f"{layer}.norm2")
    expected = torch.tanh(linear(x[:, 0], "pooler.0"))  # the token's answer
    out = after_front(network, columns)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-4)
    with torch.inference_mode():  # where torch takes another way
        torch.testing.assert_close(after_front(network, columns), out.detach())


def test_attention_weights_sum_to_one_over_token_and_columns(network: Attention) -> None:
    columns = torch.cat([network.token.expand(2, 1, 32), mels(2, 2, 32, 9)], dim=1)
    _, weights = network.back[0].self_attn(
        columns, columns, columns, need_weights=True, average_attn_weights=False
    )
    assert weights.shape == (2, 8, 10, 10)  # batch, heads, who asks, whom
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, 8, 10))
    assert (weights > 0).all()  # nothing is hidden from anything


def test_columns_are_a_set_and_each_is_heard(network: Attention) -> None:
    columns = mels(3, 1, 32, 7)
    out = after_front(network, columns)
    torch.testing.assert_close(after_front(network, columns.flip(1)), out)
    for place in range(7):
        other = columns.clone()
        other[:, place] += 1
        assert not torch.allclose(after_front(network, other), out)


def test_the_token_is_learnt_and_has_its_part(network: Attention) -> None:
    columns = mels(4, 2, 32, 5)
    before = after_front(network, columns).detach()
    after_front(network, columns).sum().backward()
    assert network.token.grad.abs().min() > 0
    with torch.no_grad():
        network.token += 1
    assert not torch.allclose(after_front(network, columns), before)


def test_it_drops_out_as_in_the_comparison_and_only_in_training(
    network: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = mels(5, 2, 32, 5)
    rates: list[float] = []
    real = functional.scaled_dot_product_attention

    def listening(*args: Tensor, **options: float) -> Tensor:
        rates.append(args[4] if len(args) > 4 else options["dropout_p"])  # type: ignore[arg-type]
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(functional, "scaled_dot_product_attention", listening)
    assert torch.equal(after_front(network, columns), after_front(network, columns))
    assert set(rates) <= {0.0}
    rates.clear()
    network.train()
    torch.manual_seed(0)
    assert not torch.equal(after_front(network, columns), after_front(network, columns))
    assert rates == [0.5] * 4
    for layer in network.back:
        assert {m.p for m in layer.modules() if isinstance(m, nn.Dropout)} == {0.4}
    assert network.pooler[2].p == 0.5
