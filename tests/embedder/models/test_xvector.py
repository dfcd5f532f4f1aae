"""The x-vector TDNN: table 1 of Snyder et al. 2018, and a slow forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.network import Network, count_parameters
from embedder.models.xvector import REACH, Xvector
from embedder.settings import build_config

# Table 1: what a layer hears of the layer below, relative to its own frame.
TABLE = ((-2, -1, 0, 1, 2), (-2, 0, 2), (-3, 0, 3), (0,), (0,))


@pytest.fixture
def small() -> Xvector:
    torch.manual_seed(0)
    changes = {"backbone": "xvector", "channels": 16, "mfa_channels": 20, "n_mels": 16}
    config = build_config(changes={**changes, "band_mask_mels": 4})
    network = Xvector(config.features, config.model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(values, 0.5, 1.5)
    return network.eval()


def mels(seed: int, batch: int, frames: int) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(batch, 16, frames))
    return torch.from_numpy(values.astype(np.float32))


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
    mel = mels(0, 1, 40).requires_grad_()
    heard: list[Tensor] = []
    small.frames.register_forward_hook(lambda _, __, output: heard.append(output))
    small(mel)
    assert heard[0].shape[2] == 40  # as many frames as the mel has
    (gradient,) = torch.autograd.grad(heard[0][0, :, 20].sum(), mel)
    touched = gradient[0].abs().sum(dim=0).nonzero().flatten() - 20
    assert touched.tolist() == list(range(-7, 8))
    assert REACH == 7


def test_layers_have_the_paper_s_sizes() -> None:
    """Table 1: inputs × outputs; 4.2 million numbers are left when the training is over."""
    changes = {"backbone": "xvector", "n_mels": 24, "embedding_dim": 512}
    network = Network(build_config("base", changes=changes))
    table = ((120, 512), (1536, 512), (1536, 512), (512, 512), (512, 1500), (3000, 512))
    sizes = [
        (module.weight[0].numel(), module.weight.shape[0])
        for module in network.modules()
        if isinstance(module, nn.Conv1d | nn.Linear)
    ]
    assert sizes == list(table)
    biases_and_norms = sum(3 * outputs for _, outputs in table)
    count = count_parameters(network)
    assert count == sum(inputs * outputs for inputs, outputs in table) + biases_and_norms
    assert round(count / 1e6, 1) == 4.2


def test_the_laptop_s_network_is_the_paper_s() -> None:
    for preset in ("laptop", "base"):
        config = build_config(preset, changes={"backbone": "xvector"})
        assert (config.model.channels, config.model.mfa_channels) == (512, 1500)
        assert Xvector(config.features, config.model).output_dim == 3000


@pytest.mark.parametrize("count", [1, 4, 30])
def test_forward_is_that_of_the_definition(small: Xvector, count: int) -> None:
    mel = mels(1, 2, count)
    out = small(mel).detach().numpy()
    for row in range(2):
        x = mel[row].double().numpy()
        # Beyond the ends the first and the last frame go on.
        x = np.stack([x[:, min(max(t, 0), count - 1)] for t in range(-7, count + 7)], axis=1)
        for layer, context in zip(layers_of(small), TABLE, strict=True):
            conv, _, norm = layer
            weight, bias = conv.weight.detach().double().numpy(), conv.bias.detach().numpy()
            said = []
            for t in range(max(context), x.shape[1] - max(context)):
                linear = bias + sum(
                    weight[:, :, tap] @ x[:, t + step] for tap, step in enumerate(context)
                )
                centred = np.maximum(linear, 0) - norm.running_mean.numpy()
                scaled = centred / np.sqrt(norm.running_var.numpy() + norm.eps)
                said.append(scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy())
            x = np.stack(said, axis=1)
        assert x.shape == (20, count)
        means = x.sum(axis=1) / count
        deviations = np.sqrt(np.maximum(((x - means[:, None]) ** 2).sum(axis=1) / count, 1e-5))
        expected = np.concatenate([means, deviations])
        np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-4)
