"""FCN-5 by its definition in double precision."""

from __future__ import annotations

import pytest
import torch

from tests.embedder.models.reference import Layers, backbone, max_pool, noise, stirred


@pytest.mark.parametrize(("bands", "frames"), [(96, 61), (80, 33), (96, 1)])
def test_forward_is_that_of_the_definition(bands: int, frames: int) -> None:
    network = stirred(backbone("fcn", channels=16), 0.2, 0.5)
    mel, layers = noise(1, 2, bands, frames), Layers(network)
    x = layers.norm(mel.double()[:, None], "norm")
    for number in range(5):
        x = layers.norm(layers.conv2d(x, f"layers.{number}.0"), f"layers.{number}.1").clamp(min=0)
        if number < 4:
            x = max_pool(x, *((2, 4), (2, 2), (2, 2), (3, 2))[number])
    expected = x.flatten(2).max(dim=2).values
    assert expected.std(dim=1).min() > 0.01
    torch.testing.assert_close(network(mel).double(), expected, atol=1e-4, rtol=1e-4)
