"""The short-chunk CNN: its table of maps, its count, and the definition in double precision."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.models.network import count_parameters
from embedder.models.shortchunk import ShortChunk
from embedder.settings import build_config

PAPER = build_config("base", changes={"backbone": "shortchunk"})
SMALL = build_config(changes={"backbone": "shortchunk", "channels": 16})


@pytest.fixture
def network() -> ShortChunk:
    torch.manual_seed(0)
    network = ShortChunk(SMALL.features, SMALL.model)
    nn.init.constant_(network.norm.running_mean, -6.0)
    nn.init.constant_(network.norm.running_var, 9.0)
    for module in network.blocks.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(values, 0.1, 0.5)
    return network.eval()


def mels(seed: int, batch: int, frames: int, bands: int = 128) -> Tensor:
    values = np.random.default_rng(seed).normal(-6, 3, size=(batch, bands, frames))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize(
    ("frames", "left"),
    [
        (188, (94, 47, 24, 12, 6, 3, 2)),
        (313, (157, 79, 40, 20, 10, 5, 3)),
        (1, (1, 1, 1, 1, 1, 1, 1)),
    ],
    ids=["3 s", "5 s", "one frame"],
)
def test_maps_are_halved_seven_times(
    network: ShortChunk, frames: int, left: tuple[int, ...]
) -> None:
    shapes: list[tuple[int, ...]] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    out = network(mels(0, 2, frames))
    rows = (64, 32, 16, 8, 4, 2, 1)
    widths = (16, 16, 32, 32, 32, 32, 64)
    assert shapes == [(2, *shape) for shape in zip(widths, rows, left, strict=True)]
    assert out.shape == (2, network.output_dim) == (2, 64)
    assert torch.isfinite(out).all()


def test_parameters_are_as_many_as_the_paper_s_layers_have() -> None:
    widths = (1, 128, 128, 256, 256, 256, 256, 512)
    # Two convolutions and the one beside them, each with a gain and a shift a channel.
    expected = sum(9 * (2 * a * b + b * b) + 6 * b for a, b in pairwise(widths))
    assert count_parameters(ShortChunk(PAPER.features, PAPER.model)) == expected == 11_809_536


def test_forward_is_that_of_the_definition(network: ShortChunk) -> None:
    mel = mels(1, 2, 150)
    state = {name: value.detach().double() for name, value in network.state_dict().items()}

    def normed(x: Tensor, name: str) -> Tensor:
        mean, var, gain, shift = (
            state[f"{name}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gain + shift

    def conv(x: Tensor, name: str, stride: int) -> Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], stride=stride, padding=1)

    x = (mel.double()[:, None] + 6) / (9 + 1e-5) ** 0.5
    for number in range(7):
        block = f"blocks.{number}"
        inner = normed(conv(x, f"{block}.layers.0", 2), f"{block}.layers.1").clamp(min=0)
        inner = normed(conv(inner, f"{block}.layers.3", 1), f"{block}.layers.4")
        beside = normed(conv(x, f"{block}.shortcut.0", 2), f"{block}.shortcut.1")
        x = (inner + beside).clamp(min=0)
    expected = x.flatten(2).max(dim=2).values
    assert expected.std(dim=1).min() > 0.01
    torch.testing.assert_close(network(mel).double(), expected, atol=1e-4, rtol=1e-4)


def test_every_block_has_a_path_around_its_convolutions(network: ShortChunk) -> None:
    mel = mels(2, 2, 130)
    for block in network.blocks:
        for values in block.layers[-1].parameters():
            nn.init.zeros_(values)
        nn.init.zeros_(block.layers[-1].running_mean)
    around = network.norm(mel[:, None])
    for block in network.blocks:
        around = block.shortcut(around).clamp(min=0)
    torch.testing.assert_close(network(mel), around.amax(dim=(2, 3)))
    assert around.std() > 0


def test_the_loudest_column_speaks_for_a_crop(network: ShortChunk) -> None:
    columns: list[Tensor] = []
    network.blocks.register_forward_hook(lambda _, __, output: columns.append(output[0, :, 0]))
    out = network(mels(3, 1, 500))[0]
    (last,) = columns
    assert last.shape == (64, 4)
    assert torch.equal(out, torch.stack([last[:, t] for t in range(4)]).max(dim=0).values)
    assert len({int(t) for t in last.argmax(dim=1)}) > 1  # no column says everything


def test_all_mels_share_one_norm() -> None:
    torch.manual_seed(1)
    network = ShortChunk(SMALL.features, SMALL.model).train()
    mel = mels(4, 4, 32) + torch.arange(128).view(1, -1, 1)
    normed = network.norm(mel[:, None])
    assert abs(float(normed.mean())) < 1e-4
    assert abs(float(normed.var(correction=0)) - 1) < 1e-3
    tilt = normed.mean(dim=(0, 1, 3))
    assert (tilt[100:].mean() - tilt[:28].mean()) > 1  # the tilt over frequency stays


@pytest.mark.parametrize("bands", [16, 80, 200, 256])
def test_another_number_of_mels_goes_too(network: ShortChunk, bands: int) -> None:
    mel = mels(5, 2, 64, bands)
    out = network(mel)
    high = mel.clone()
    high[:, -1] += 40
    assert out.shape == (2, 64)
    assert not torch.allclose(network(high), out)  # the highest band is heard
