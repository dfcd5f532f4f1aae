"""SampleCNN: strides of samples, receptive fields, odd lengths, and the definition in double."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.models.network import count_parameters
from embedder.models.zoo.samplecnn import SampleCnn
from embedder.settings import build_config

PAPER = build_config("base", changes={"backbone": "samplecnn"})
SMALL = build_config(changes={"backbone": "samplecnn", "channels": 16})


@pytest.fixture
def network() -> SampleCnn:
    torch.manual_seed(0)
    network = SampleCnn(SMALL.features, SMALL.model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def waves(seed: int, batch: int, samples: int) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(batch, 1, samples))
    return torch.from_numpy(values.astype(np.float32))


def test_the_paper_s_59049_samples_come_down_by_three_each_time(network: SampleCnn) -> None:
    lengths: list[int] = []
    for layer in (network.front, *network.pools):
        layer.register_forward_hook(lambda _, __, output: lengths.append(output.shape[3]))
    out = network(waves(0, 1, 3**10))
    assert lengths == [3**power for power in range(9, -1, -1)]
    assert out.shape == (1, network.output_dim) == (1, 64)


def test_parameters_are_as_many_as_the_paper_s_layers_have() -> None:
    widths = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512)
    layers = sum(3 * a * b + 2 * b for a, b in pairwise(widths))
    expected = 3 * 128 + 2 * 128 + layers + 512 * 512 + 2 * 512
    assert count_parameters(SampleCnn(PAPER.features, PAPER.model)) == expected


def test_weights_begin_as_he_s(network: SampleCnn) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            inputs = module.in_channels * module.kernel_size[1]
            spread = float(module.weight.detach().std())
            assert spread == pytest.approx(math.sqrt(2 / inputs), rel=0.3)


def pooled(x: Tensor) -> Tensor:
    """Maxima of three columns; the last window holds what is there."""
    columns = math.ceil(x.shape[2] / 3)
    windows = [x[:, :, 3 * c : 3 * c + 3].max(dim=2).values for c in range(columns)]
    return torch.stack(windows, dim=2)


@pytest.mark.parametrize("samples", [3, 700, 6563, 48001])
def test_forward_is_that_of_the_definition(network: SampleCnn, samples: int) -> None:
    wave = waves(1, 2, samples)
    state = {name: value.detach().double() for name, value in network.state_dict().items()}

    def layer(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight = state[f"{name}.0.weight"].squeeze(2)
        x = functional.conv1d(x, weight, stride=stride, padding=padding)
        mean, var = (state[f"{name}.1.running_{part}"].view(1, -1, 1) for part in ("mean", "var"))
        return ((x - mean) / (var + 1e-5).sqrt()).clamp(min=0)

    x = layer(wave.double(), "front", 3, 0)
    for number in range(9):
        x = layer(x, f"layers.{number}", 1, 1)
        x = pooled(x) if number < 8 else x.max(dim=2, keepdim=True).values
    expected = layer(x, "last", 1, 0)[:, :, 0]
    torch.testing.assert_close(network(wave).double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_column_hears_its_own_receptive_field(network: SampleCnn, depth: int) -> None:
    """Field: 3 samples, and at each layer twice the step for the kernel and for the pooling."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # no cancelling: a louder sample is always felt
                module.weight.abs_()
    step, field = 3, 3
    for _ in range(depth):
        field += 2 * step + 2 * step
        step *= 3
    column, samples = 5, 11 * step
    first = column * step + step // 2 - field // 2  # fields are centred on their columns
    assert 0 < first < first + field < samples

    def heard(wave: Tensor) -> Tensor:
        maps = network.front(wave.unsqueeze(2))
        for layer, pool in zip(network.layers[:depth], network.pools[:depth], strict=True):
            maps = pool(layer(maps))
        return maps[0, :, 0, column]

    quiet = torch.full((1, 1, samples), 0.1)
    base = heard(quiet)
    for place, inside in (
        (first - 1, False),
        (first, True),
        (first + field - 1, True),
        (first + field, False),
    ):
        spike = quiet.clone()
        spike[0, 0, place] += 1e4
        assert bool((heard(spike) != base).any()) == inside, place


def test_half_of_the_description_drops_out_and_only_in_training(network: SampleCnn) -> None:
    wave = waves(2, 32, 900)
    whole = network(wave)
    assert torch.equal(network(wave), whole)
    network.dropout.train()
    torch.manual_seed(3)
    dropped = network(wave)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])
    assert abs(float(kept[whole != 0].float().mean()) - 0.5) < 0.1
