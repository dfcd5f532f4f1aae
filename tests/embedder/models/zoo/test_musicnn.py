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


def test_filters_have_the_paper_s_shapes() -> None:
    network = backbone("musicnn", "base")
    # As of 2-D filters over (mel bands × frames): bands under the filter are inputs here.
    vertical = [tuple(layer.conv.weight.shape) for layer in network.vertical]
    assert vertical == [(204, 67, 7), (204, 38, 7)]  # 0.7 and 0.4 of 96 mels
    horizontal = [tuple(layer[0].weight.shape) for layer in network.horizontal]
    assert horizontal == [(51, 1, 129), (51, 1, 65), (51, 1, 33)]
    dense = [tuple(layer[0].weight.shape) for layer in network.dense]
    assert dense == [(64, 561, 7), (64, 64, 7), (64, 64, 7)]


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


def test_timbre_is_the_same_when_transposed(network: Musicnn) -> None:
    sound = torch.zeros(1, 32, 20)
    sound[:, 12:15] = noise(2, 1, 3, 20)
    low = network.vertical[1](sound)  # 12 bands high: it lies anywhere around the sound
    torch.testing.assert_close(low, network.vertical[1](sound.roll(4, dims=1)))
    other = torch.zeros(1, 32, 20)
    other[:, 12:15] = noise(3, 1, 3, 20)
    assert not torch.allclose(network.vertical[1](other), low)


def test_rhythm_is_of_all_bands_alike(network: Musicnn) -> None:
    mel = noise(4, 1, 32, 40)
    shuffled = mel[:, torch.randperm(32, generator=torch.Generator().manual_seed(0))]
    few = slice(2 * 16, 2 * 16 + 3 * 4)  # the horizontal filters' maxima stand after the vertical
    torch.testing.assert_close(network(shuffled)[:, few], network(mel)[:, few])
    assert not torch.allclose(network(shuffled)[:, : 2 * 16], network(mel)[:, : 2 * 16])
