"""The x-vector TDNN: table 1 of Snyder et al. 2018, and a slow forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from embedder.models.xvector import Xvector
from tests.embedder.models.reference import Layers, backbone, noise, stirred

# Table 1: what a layer hears of the layer below, relative to its own frame.
TABLE = ((-2, -1, 0, 1, 2), (-2, 0, 2), (-3, 0, 3), (0,), (0,))


@pytest.fixture
def small() -> Xvector:
    sizes = {"channels": 16, "mfa_channels": 20, "n_mels": 16, "band_mask_mels": 4}
    return stirred(backbone("xvector", **sizes))  # type: ignore[no-any-return]


def layers_of(network: Xvector) -> list[nn.Sequential]:
    """frame1 to frame5: convolution, ReLU, batch norm."""
    parts = list(network.frames)
    return [nn.Sequential(*parts[first : first + 3]) for first in range(0, len(parts), 3)]


def test_the_laptop_s_network_is_the_paper_s() -> None:
    for preset in ("laptop", "base"):
        network = backbone("xvector", preset)
        assert network.frames[0].out_channels == 512
        assert network.output_dim == 2 * 1500


@pytest.mark.parametrize("count", [1, 4, 30])
def test_forward_is_that_of_the_definition(small: Xvector, count: int) -> None:
    mel = noise(1, 2, 16, count)
    layers = Layers(small)
    x = mel.double().numpy()
    # Beyond the ends the first and the last frame go on.
    x = np.stack([x[:, :, min(max(t, 0), count - 1)] for t in range(-7, count + 7)], axis=2)
    for number, context in enumerate(TABLE):
        weight, bias = layers[f"frames.{3 * number}.weight"], layers[f"frames.{3 * number}.bias"]
        linear = []
        for t in range(max(context), x.shape[2] - max(context)):
            taps = ((weight[:, :, tap].numpy(), x[:, :, t + s]) for tap, s in enumerate(context))
            linear.append(bias.numpy() + sum(frames @ w.T for w, frames in taps))
        active = torch.from_numpy(np.maximum(np.stack(linear, axis=2), 0))
        x = layers.norm(active, f"frames.{3 * number + 2}").numpy()
    assert x.shape == (2, 20, count)
    means = x.sum(axis=2) / count
    deviations = np.sqrt(np.maximum(((x - means[:, :, None]) ** 2).sum(axis=2) / count, 1e-5))
    expected = np.concatenate([means, deviations], axis=1)
    np.testing.assert_allclose(small(mel).detach().numpy(), expected, rtol=1e-4, atol=1e-4)
