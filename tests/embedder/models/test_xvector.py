"""The x-vector TDNN: table 1 of Snyder et al. 2018, and a slow forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.network import Network
from embedder.models.xvector import REACH, Xvector
from embedder.settings import build_config
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


def test_each_layer_hears_the_paper_s_context(small: Xvector) -> None:
    assert len(layers_of(small)) == len(TABLE)
    for layer, context in zip(layers_of(small), TABLE, strict=True):
        frames = torch.randn(1, layer[0].in_channels, 31, requires_grad=True)
        said = layer(frames)
        assert said.shape[2] == 31 - (max(context) - min(context))  # nothing is padded here
        (gradient,) = torch.autograd.grad(said[0, :, 10].sum(), frames)
        heard = gradient[0].abs().sum(dim=0).nonzero().flatten() - 10 + min(context)
        assert heard.tolist() == list(context)


def test_a_frame_of_the_last_layer_hears_fifteen_frames(small: Xvector) -> None:
    mel = noise(0, 1, 16, 40).requires_grad_()
    heard: list[Tensor] = []
    small.frames.register_forward_hook(lambda _, __, output: heard.append(output))
    small(mel)
    assert heard[0].shape[2] == 40  # as many frames as the mel has
    (gradient,) = torch.autograd.grad(heard[0][0, :, 20].sum(), mel)
    touched = gradient[0].abs().sum(dim=0).nonzero().flatten() - 20
    assert touched.tolist() == list(range(-7, 8))
    assert REACH == 7


def test_layers_have_the_paper_s_sizes() -> None:
    """Table 1: inputs × outputs."""
    changes = {"backbone": "xvector", "n_mels": 24, "embedding_dim": 512}
    network = Network(build_config("base", changes=changes))
    table = ((120, 512), (1536, 512), (1536, 512), (512, 512), (512, 1500), (3000, 512))
    sizes = [
        (module.weight[0].numel(), module.weight.shape[0])
        for module in network.modules()
        if isinstance(module, nn.Conv1d | nn.Linear)
    ]
    assert sizes == list(table)


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
