"""The short-chunk CNN by its definition in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from embedder.models.shortchunk import ShortChunk
from tests.embedder.models.reference import Layers, backbone, noise, stirred


@pytest.fixture
def network() -> ShortChunk:
    network = stirred(backbone("shortchunk", channels=16), 0.1, 0.5)
    nn.init.constant_(network.norm.running_mean, -6.0)
    nn.init.constant_(network.norm.running_var, 9.0)
    return network  # type: ignore[no-any-return]


def mels(seed: int, batch: int, frames: int) -> Tensor:
    return noise(seed, batch, 128, frames, mean=-6, spread=3)


@pytest.mark.parametrize(("frames", "columns"), [(150, 2), (500, 4), (1, 1)])
def test_forward_is_that_of_the_definition(network: ShortChunk, frames: int, columns: int) -> None:
    mel = mels(1, 2, frames)
    layers = Layers(network)
    x = (mel.double()[:, None] + 6) / (9 + 1e-5) ** 0.5
    for number in range(7):
        x = layers.block(x, f"blocks.{number}", stride=2)
    assert x.shape == (2, 64, 1, columns)
    expected = x.flatten(2).max(dim=2).values
    assert expected.std(dim=1).min() > 0.01
    torch.testing.assert_close(network(mel).double(), expected, atol=1e-4, rtol=1e-4)
    loudest = x[0, :, 0].argmax(dim=1)
    assert columns == 1 or len(set(loudest.tolist())) > 1  # no column decides everything
