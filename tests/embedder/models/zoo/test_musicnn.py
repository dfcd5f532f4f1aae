"""musicnn by its definition in double precision; what its filters cannot hear."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.models.zoo.musicnn import Musicnn, Vertical
from tests.embedder.models.reference import Layers, backbone, noise, stirred


@pytest.fixture
def network() -> Musicnn:
    small = backbone("musicnn", channels=16, n_mels=32)
    return stirred(small, 0.2, 0.5)  # type: ignore[no-any-return]


@pytest.mark.parametrize("training", [True, False])
def test_a_vertical_filter_is_the_2d_convolution(training: bool) -> None:
    torch.manual_seed(1)
    layer = Vertical(5, 8).train(training)
    nn.init.uniform_(layer.norm.weight, -1, 1)  # a negative gain turns the maximum round
    nn.init.uniform_(layer.norm.bias, -1, 1)
    nn.init.uniform_(layer.norm.running_mean, -0.2, 0.2)
    mel = noise(0, 3, 12, 20)
    mean, var = layer.norm.running_mean.double(), layer.norm.running_var.double()
    out = layer(mel)
    weight = layer.conv.weight.detach().double().unsqueeze(1)  # (channels, 1, bands, frames)
    maps = functional.conv2d(mel.double().unsqueeze(1), weight, padding=(0, 3))
    assert maps.shape == (3, 8, 12 - 5 + 1, 20)
    if training:
        mean, var = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3), correction=0)
    scaled = (maps - mean.view(1, -1, 1, 1)) / (var + 1e-5).sqrt().view(1, -1, 1, 1)
    gain, shift = layer.norm.weight.detach().double(), layer.norm.bias.detach().double()
    shown = (scaled * gain.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).clamp(min=0)
    expected = torch.stack([shown[:, :, place] for place in range(8)]).max(dim=0).values
    torch.testing.assert_close(out.detach().double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 50, 313])
def test_forward_is_that_of_the_definition(network: Musicnn, count: int) -> None:
    mel, layers = noise(1, 2, 32, count), Layers(network)

    def layer(x: Tensor, name: str) -> Tensor:
        width = layers[f"{name}.0.weight"].shape[2]
        x = layers.conv1d(x, f"{name}.0", padding=width // 2)
        return layers.norm(x, f"{name}.1").clamp(min=0)

    x = layers.norm(mel.double()[:, None], "norm")[:, 0]
    parts = []
    for number, height in enumerate((22, 12)):  # 0.7 and 0.4 of 32 mels
        places = [
            layers.conv1d(x[:, first : first + height], f"vertical.{number}.conv", padding=3)
            for first in range(32 - height + 1)
        ]
        shown = [layers.norm(place, f"vertical.{number}.norm").clamp(min=0) for place in places]
        parts.append(torch.stack(shown).max(dim=0).values)
    loudness = sum(x[:, band : band + 1] for band in range(32)) / 32
    parts += [layer(loudness, f"horizontal.{number}") for number in range(3)]
    front = torch.cat(parts, dim=1)
    first = layer(front, "dense.0")
    second = layer(first, "dense.1") + first
    third = layer(second, "dense.2") + second
    frames = torch.cat([front, first, second, third], dim=1)
    expected = torch.cat([frames.max(dim=2).values, frames.sum(dim=2) / count], dim=1)
    assert expected.shape == (2, network.output_dim)
    torch.testing.assert_close(network(mel).double(), expected, atol=1e-3, rtol=1e-3)
