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
