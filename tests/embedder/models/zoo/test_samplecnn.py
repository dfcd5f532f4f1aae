"""SampleCNN by its definition in double precision; its first weights and receptive fields."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from embedder.models.zoo.samplecnn import SampleCnn
from tests.embedder.models.reference import Layers, backbone, max_pool, noise, stirred


@pytest.fixture
def network() -> SampleCnn:
    return backbone("samplecnn", channels=16).eval()  # type: ignore[no-any-return]


def test_weights_begin_as_he_s(network: SampleCnn) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            inputs = module.in_channels * module.kernel_size[1]
            spread = float(module.weight.detach().std())
            assert spread == pytest.approx(math.sqrt(2 / inputs), rel=0.3)


@pytest.mark.parametrize("samples", [3, 700, 6563, 3**10])
def test_forward_is_that_of_the_definition(network: SampleCnn, samples: int) -> None:
    stirred(network)
    wave, layers = noise(1, 2, 1, samples), Layers(network)

    def layer(x: Tensor, name: str, **options: int) -> Tensor:
        return layers.norm(layers.conv1d(x, f"{name}.0", **options), f"{name}.1").clamp(min=0)

    x = layer(wave.double(), "front", stride=3)
    for number in range(9):
        x = layer(x, f"layers.{number}", padding=1)
        x = max_pool(x[:, :, None], 1, 3)[:, :, 0] if number < 8 else x
    assert samples < 3**10 or x.shape[2] == 3  # the paper's 59,049 samples
    expected = layer(x.max(dim=2, keepdim=True).values, "last")[:, :, 0]
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

    def column_of(wave: Tensor) -> Tensor:
        maps = network.front(wave.unsqueeze(2))
        for layer, pool in zip(network.layers[:depth], network.pools[:depth], strict=True):
            maps = pool(layer(maps))
        return maps[0, :, 0, column]

    quiet = torch.full((1, 1, samples), 0.1)
    base = column_of(quiet)
    for place in (first - 1, first, first + field - 1, first + field):
        spike = quiet.clone()
        spike[0, 0, place] += 1e4
        inside = first <= place < first + field
        assert bool((column_of(spike) != base).any()) == inside, place
