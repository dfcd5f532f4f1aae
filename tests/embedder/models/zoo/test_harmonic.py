"""The harmonic CNN: its maps, its count, its input's order, and the definition in double."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.models.network import count_parameters
from embedder.models.zoo.harmonic import Harmonic
from embedder.settings import build_config

PAPER = build_config("base", changes={"backbone": "harmonic"})
SMALL = build_config(changes={"backbone": "harmonic", "channels": 16})
RESIDUAL = (1, 2, 3, 5, 6)  # layers with a path around two convolutions


@pytest.fixture
def network() -> Harmonic:
    torch.manual_seed(0)
    network = Harmonic(SMALL.features, SMALL.model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 0.5)
    return network.eval()


def harmonics(seed: int, batch: int, frames: int) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(batch, 6 * 128, frames))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize(
    ("frames", "left"),
    [(188, (94, 47, 24, 12, 6, 2)), (313, (157, 79, 40, 20, 10, 4)), (1, (1, 1, 1, 1, 1, 1))],
    ids=["3 s", "5 s", "one frame"],
)
def test_128_bands_come_down_to_one(network: Harmonic, frames: int, left: tuple[int, ...]) -> None:
    shapes: list[tuple[int, ...]] = []
    for pool in network.pools:
        pool.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    out = network(harmonics(0, 1, frames))
    maps = zip((16, 16, 16, 16, 32, 32), (64, 32, 16, 8, 4, 2), left, strict=True)
    assert shapes == [*((1, *shape) for shape in maps), (1, 32, 1, 1)]
    assert out.shape == (1, network.output_dim) == (1, 32)


def test_parameters_are_as_many_as_the_comparison_s_layers_have() -> None:
    def conv(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + 2 * outputs

    narrow, wide = 3 * 2 * conv(128, 128), 2 * 2 * conv(256, 256)
    expected = 2 * 6 + conv(6, 128) + narrow + conv(128, 256) + wide
    assert count_parameters(Harmonic(PAPER.features, PAPER.model)) == expected


def pooled(x: Tensor, height: int, width: int) -> Tensor:
    """Maxima of windows; one that reaches over the end holds what is there."""
    rows, columns = math.ceil(x.shape[2] / height), math.ceil(x.shape[3] / width)
    out = torch.empty(*x.shape[:2], rows, columns, dtype=x.dtype)
    for r in range(rows):
        for c in range(columns):
            window = x[:, :, r * height : (r + 1) * height, c * width : (c + 1) * width]
            out[:, :, r, c] = window.flatten(2).max(dim=2).values
    return out


def test_forward_is_that_of_the_definition(network: Harmonic) -> None:
    heard = harmonics(1, 1, 45)
    state = {name: value.detach().double() for name, value in network.state_dict().items()}

    def normed(x: Tensor, name: str) -> Tensor:
        mean, var = (state[f"{name}.running_{part}"].view(1, -1, 1, 1) for part in ("mean", "var"))
        return (x - mean) / (var + 1e-5).sqrt()  # gains are 1 and shifts 0, as at the start

    def conv(x: Tensor, name: str, norm: str) -> Tensor:
        return normed(functional.conv2d(x, state[f"{name}.weight"], padding=1), norm)

    channels = [heard.double()[:, 128 * n : 128 * (n + 1)] for n in range(6)]
    x = normed(torch.stack(channels, dim=1), "norm")
    for number in range(7):
        layer = f"layers.{number}"
        if number in RESIDUAL:
            inner = conv(x, f"{layer}.layers.0", f"{layer}.layers.1").clamp(min=0)
            x = (x + conv(inner, f"{layer}.layers.3", f"{layer}.layers.4")).clamp(min=0)
        else:
            x = conv(x, f"{layer}.0", f"{layer}.1").clamp(min=0)
        if number < 6:
            x = pooled(x, 2, 3 if number == 5 else 2)
    expected = x.flatten(2).max(dim=2).values
    assert expected.std() > 0.01
    torch.testing.assert_close(network(heard).double(), expected, atol=1e-3, rtol=1e-3)


def test_one_filter_hears_the_multiples_of_a_pitch_together(network: Harmonic) -> None:
    heard = harmonics(2, 1, 9).requires_grad_()
    network.layers[0](network.norm(heard.view(1, 6, 128, 9)))[0, :, 60, 4].sum().backward()
    felt = heard.grad.view(6, 128, 9).abs() > 0
    expected = torch.zeros(6, 128, 9, dtype=torch.bool)
    expected[:, 59:62, 3:6] = True  # the pitch's neighbours in each of the six harmonics
    assert torch.equal(felt, expected)
