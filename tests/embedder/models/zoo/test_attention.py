"""The self-attention back: its columns, its token, a set without order, and slow attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.models.zoo.attention import Attention
from tests.embedder.models.reference import Layers, backbone, noise


@pytest.fixture
def network() -> Attention:
    network = backbone("attention", channels=16)
    for name, values in network.named_parameters():
        if "norm1" in name or "norm2" in name:  # so that each norm is its own
            nn.init.uniform_(values, 0.2, 1.5)
    return network.eval()  # type: ignore[no-any-return]


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
    given: list[Tensor] = []
    network.back.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    mel, layers = noise(0, 2, 128, frames), Layers(network)
    network(mel)
    x = layers.norm(mel.double()[:, None], "norm")
    for number, stride in enumerate([2, 2, 2, (2, 1), (2, 1), (2, 1), (2, 1)]):
        x = layers.block(x, f"front.{number}", stride)
    assert x.shape == (2, 32, 1, columns)
    found = given[0][:, 1:].transpose(1, 2).double()
    torch.testing.assert_close(found, x[:, :, 0], atol=1e-4, rtol=1e-4)


def test_the_back_is_that_of_the_definition(network: Attention) -> None:
    columns = noise(1, 2, 11, 32)
    layers = Layers(network)
    x = torch.cat([layers["token"].expand(2, 1, 32), columns.double()], dim=1)
    for number in range(2):
        layer = f"back.{number}"
        mixed = x @ layers[f"{layer}.self_attn.in_proj_weight"].T
        query, key, value = (mixed + layers[f"{layer}.self_attn.in_proj_bias"]).split(32, dim=2)
        heads = []
        for head in range(8):
            part = slice(4 * head, 4 * head + 4)
            scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(4)
            weights = scores.exp() / scores.exp().sum(dim=2, keepdim=True)
            torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 12, dtype=torch.double))
            heads.append(weights @ value[..., part])
        attended = layers.linear(torch.cat(heads, dim=2), f"{layer}.self_attn.out_proj")
        x = layers.layer_norm(x + attended, f"{layer}.norm1")
        inner = layers.linear(x, f"{layer}.linear1")
        inner = 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))  # GELU
        x = layers.layer_norm(x + layers.linear(inner, f"{layer}.linear2"), f"{layer}.norm2")
    expected = torch.tanh(layers.linear(x[:, 0], "pooler.0"))  # the token's answer
    out = after_front(network, columns)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-4)
    with torch.inference_mode():  # where torch takes another way
        torch.testing.assert_close(after_front(network, columns), out.detach())


def test_it_drops_out_as_in_the_comparison_and_only_in_training(
    network: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = noise(5, 2, 5, 32)
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
