"""The CRNN of Nasrullah & Zhao 2019: its table of layers, its count, and a slow forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.crnn import Crnn
from embedder.models.network import count_parameters
from embedder.settings import build_config

PAPER = build_config(changes={"backbone": "crnn"})


@pytest.fixture
def network() -> Crnn:
    torch.manual_seed(0)
    network = Crnn(PAPER.features, PAPER.model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(values, 0.5, 1.5)
    return network.eval()


def mels(seed: int, batch: int, frames: int, bands: int = 128) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(batch, bands, frames))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize(
    ("frames", "left"),
    [(94, (47, 23, 11, 5)), (157, (78, 39, 19, 9)), (16, (8, 4, 2, 1))],
    ids=["3 s", "5 s", "shortest"],
)
def test_layers_have_the_paper_s_shapes(network: Crnn, frames: int, left: tuple[int, ...]) -> None:
    shapes: list[tuple[int, ...]] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    network.gru.register_forward_hook(lambda _, __, output: shapes.append(tuple(output[0].shape)))
    out = network(mels(0, 2, frames))
    maps = zip((64, 128, 128, 128), (64, 16, 4, 1), left, strict=True)
    assert shapes == [*((2, *shape) for shape in maps), (2, left[-1], 32)]
    assert out.shape == (2, network.output_dim) == (2, 32)


def test_parameters_are_as_many_as_the_paper_s_layers_have() -> None:
    norm = 2 * 128
    convs = sum(9 * i * o + o + 2 * o for i, o in ((1, 64), (64, 128), (128, 128), (128, 128)))
    grus = sum(3 * 32 * (inputs + 32) + 2 * 3 * 32 for inputs in (128, 32))
    assert count_parameters(Crnn(PAPER.features, PAPER.model)) == norm + convs + grus


def test_it_drops_out_as_the_paper_does_and_only_in_training(network: Crnn) -> None:
    rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.1] * 4 + [0.3]
    mel = mels(1, 2, 32)
    assert torch.equal(network(mel), network(mel))
    network.train()
    assert not torch.equal(network(mel), network(mel))


def test_forward_is_that_of_the_definition(network: Crnn) -> None:
    mel = mels(2, 2, 48)
    out = network(mel).detach().numpy()
    state = {name: value.detach().double() for name, value in network.state_dict().items()}

    def normed(x: Tensor, name: str) -> Tensor:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        gain, shift = state[f"{name}.weight"], state[f"{name}.bias"]
        x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
        return x * gain.view(shape) + shift.view(shape)

    x = normed(mel.double(), "norm")[:, None]
    for number, (height, width) in enumerate(((2, 2), (4, 2), (4, 2), (4, 2))):
        weight, bias = state[f"blocks.{number}.0.weight"], state[f"blocks.{number}.0.bias"]
        padded = nn.functional.pad(x, (1, 1, 1, 1))
        bands, frames = x.shape[2:]
        x = bias.view(1, -1, 1, 1).expand(2, -1, bands, frames).clone()
        for i in range(3):
            for j in range(3):
                piece = padded[:, :, i : i + bands, j : j + frames]
                x += torch.einsum("oc,bcmt->bomt", weight[:, :, i, j], piece)
        x = normed(torch.where(x > 0, x, x.exp() - 1), f"blocks.{number}.2")
        x = x[:, :, : bands // height * height, : frames // width * width]
        x = x.unflatten(2, (-1, height)).unflatten(4, (-1, width)).amax(dim=(3, 5))
    steps = x[:, :, 0].numpy()  # (batch, 128, frames / 16)

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    for row in range(2):
        sequence = list(steps[row].T)
        for layer in range(2):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            w, u, b, c = (state[f"gru.{name}_l{layer}"].numpy() for name in names)
            hidden = np.zeros(32)
            for t, value in enumerate(sequence):
                wx, uh = np.split(w @ value + b, 3), np.split(u @ hidden + c, 3)
                reset, update = sigmoid(wx[0] + uh[0]), sigmoid(wx[1] + uh[1])
                new = np.tanh(wx[2] + reset * uh[2])
                hidden = (1 - update) * new + update * hidden
                sequence[t] = hidden
        np.testing.assert_allclose(out[row], sequence[-1], atol=1e-4)


def test_the_first_norm_is_of_each_frequency() -> None:
    torch.manual_seed(1)
    network = Crnn(PAPER.features, PAPER.model).train()
    mel = mels(3, 4, 32) * torch.arange(1, 129).view(1, -1, 1) + torch.arange(128).view(1, -1, 1)
    normed = network.norm(mel)
    assert normed.mean(dim=(0, 2)).abs().max() < 1e-4
    assert (normed.var(dim=(0, 2), correction=0) - 1).abs().max() < 1e-3


@pytest.mark.parametrize("bands", [128, 200, 256])
def test_more_bands_than_the_paper_s_go_too(bands: int) -> None:
    config = build_config(changes={"backbone": "crnn", "n_mels": bands})
    network = Crnn(config.features, config.model).eval()
    assert network.gru.input_size == 128 * (bands // 128)
    mel = mels(4, 2, 32, bands)
    assert torch.isfinite(network(mel)).all()
    low = mel.clone()
    low[:, 0] += 5
    assert not torch.equal(network(low), network(mel))


def test_fewer_frames_than_sixteen_are_too_few(network: Crnn) -> None:
    with pytest.raises(RuntimeError, match="too small"):
        network(mels(5, 1, 15))
