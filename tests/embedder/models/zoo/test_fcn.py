"""FCN-5: its poolings, its count, its dropout, and the definition in double precision."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.models.network import count_parameters
from embedder.models.zoo.fcn import Fcn
from embedder.settings import build_config

PAPER = build_config(changes={"backbone": "fcn"})
SMALL = build_config(changes={"backbone": "fcn", "channels": 16})


@pytest.fixture
def network() -> Fcn:
    torch.manual_seed(0)
    network = Fcn(SMALL.features, SMALL.model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 0.5)
    return network.eval()


def mels(seed: int, batch: int, frames: int, bands: int = 96) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(batch, bands, frames))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize(
    ("frames", "left"),
    [(188, (47, 24, 12, 6)), (313, (79, 40, 20, 10)), (1, (1, 1, 1, 1))],
    ids=["3 s", "5 s", "one frame"],
)
def test_the_mel_axis_is_pooled_as_in_the_paper(
    network: Fcn, frames: int, left: tuple[int, ...]
) -> None:
    shapes: list[tuple[int, ...]] = []
    for pool in network.pools:
        pool.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    out = network(mels(0, 2, frames))
    maps = zip((16, 32, 32, 32), (48, 24, 12, 4), left, strict=True)
    assert shapes == [*((2, *shape) for shape in maps), (2, 16, 1, 1)]
    assert out.shape == (2, network.output_dim) == (2, 16)


def test_parameters_are_as_many_as_the_comparison_s_layers_have() -> None:
    widths = (1, 64, 128, 128, 128, 64)
    expected = sum(9 * a * b + 2 * b for a, b in pairwise(widths))
    assert count_parameters(Fcn(PAPER.features, PAPER.model)) == expected


def pooled(x: Tensor, height: int, width: int) -> Tensor:
    """Maxima of windows; one that reaches over the end holds what is there."""
    rows, columns = math.ceil(x.shape[2] / height), math.ceil(x.shape[3] / width)
    out = torch.empty(*x.shape[:2], rows, columns, dtype=x.dtype)
    for r in range(rows):
        for c in range(columns):
            window = x[:, :, r * height : (r + 1) * height, c * width : (c + 1) * width]
            out[:, :, r, c] = window.flatten(2).max(dim=2).values
    return out


@pytest.mark.parametrize(("bands", "frames"), [(96, 61), (80, 33)])
def test_forward_is_that_of_the_definition(network: Fcn, bands: int, frames: int) -> None:
    mel = mels(1, 2, frames, bands)
    state = {name: value.detach().double() for name, value in network.state_dict().items()}

    def normed(x: Tensor, name: str) -> Tensor:
        mean, var = (state[f"{name}.running_{part}"].view(1, -1, 1, 1) for part in ("mean", "var"))
        return (x - mean) / (var + 1e-5).sqrt()  # gains are 1 and shifts 0, as at the start

    x = normed(mel.double()[:, None], "norm")
    for number in range(5):
        x = functional.conv2d(x, state[f"layers.{number}.0.weight"], padding=1)
        x = normed(x, f"layers.{number}.1").clamp(min=0)
        if number < 4:
            x = pooled(x, *((2, 4), (2, 2), (2, 2), (3, 2))[number])
    expected = x.flatten(2).max(dim=2).values
    assert expected.std(dim=1).min() > 0.01
    torch.testing.assert_close(network(mel).double(), expected, atol=1e-4, rtol=1e-4)


def test_half_of_the_description_drops_out_and_only_in_training(network: Fcn) -> None:
    mel = mels(2, 64, 32)
    whole = network(mel)
    assert torch.equal(network(mel), whole)
    network.dropout.train()
    torch.manual_seed(3)
    dropped = network(mel)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])
    assert abs(float(kept[whole != 0].float().mean()) - 0.5) < 0.1


def test_the_end_of_a_crop_is_heard(network: Fcn) -> None:
    mel = mels(3, 1, 189)  # one frame more than the first pooling's windows hold
    louder = mel.clone()
    louder[:, :, -1] += 5
    assert not torch.equal(network(louder), network(mel))
