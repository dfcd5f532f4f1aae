"""ECAPA-TDNN: each part against its definition, and what each part can and cannot hear."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.ecapa import Ecapa, Res2Conv, SERes2Block, SqueezeExcitation
from tests.embedder.models.reference import Layers, backbone, noise, stirred

SMALL = {"channels": 24, "mfa_channels": 20, "res2_scale": 4, "attention_channels": 8, "n_mels": 16}


@pytest.fixture
def small() -> Ecapa:
    return stirred(backbone("ecapa", band_mask_mels=4, **SMALL))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("scale", "dilation"), [(2, 2), (4, 3), (8, 4)])
def test_res2_is_that_of_the_definition(scale: int, dilation: int) -> None:
    torch.manual_seed(1)
    res2 = stirred(Res2Conv(24, scale, dilation))
    frames = noise(0, 2, 24, 30)
    layers, x = Layers(res2), frames.split(24 // scale, dim=1)
    y = [x[0]]
    for group in range(1, scale):  # y1 = K(x1), yi = K(xi + y(i-1))
        given = x[group] if group == 1 else x[group] + y[-1]
        conv = f"convs.{group - 1}"
        linear = layers.conv1d(given.double(), f"{conv}.0", dilation=dilation, padding=dilation)
        y.append(layers.norm(linear.relu(), f"{conv}.2"))
    expected = torch.cat([part.double() for part in y], dim=1)
    torch.testing.assert_close(res2(frames).double(), expected, atol=1e-5, rtol=1e-5)


def test_the_gate_is_that_of_the_paper() -> None:
    torch.manual_seed(4)
    gate = SqueezeExcitation(6, 3)
    frames = noise(4, 2, 6, 15)
    first, _, second, _ = gate.gate
    out = gate(frames)
    for row in range(2):
        means = np.array([frames[row, c].double().mean() for c in range(6)])
        hidden = np.maximum(first.weight.detach().numpy() @ means + first.bias.detach().numpy(), 0)
        score = second.weight.detach().numpy() @ hidden + second.bias.detach().numpy()
        for c in range(6):
            scale = 1 / (1 + np.exp(-score[c]))
            expected = scale * frames[row, c].numpy()
            np.testing.assert_allclose(out[row, c].detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_block_adds_its_input() -> None:
    torch.manual_seed(5)
    block = stirred(SERes2Block(8, 4, 2))
    frames = noise(5, 2, 8, 20)
    torch.testing.assert_close(block(frames) - frames, block.layers(frames), atol=1e-5, rtol=1e-5)


def test_each_block_hears_the_sum_of_all_before_it(small: Ecapa) -> None:
    heard: list[Tensor] = []
    said: list[Tensor] = []
    aggregated: list[Tensor] = []

    def listen(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        heard.append(inputs[0])
        said.append(output)

    for block in small.blocks:
        block.register_forward_hook(listen)
    small.aggregate.register_forward_hook(lambda _, inputs, __: aggregated.append(inputs[0]))
    mel = noise(6, 2, 16, 40)
    small(mel)
    front = small.front(mel)
    torch.testing.assert_close(heard[0], front)
    torch.testing.assert_close(heard[1], front + said[0])
    torch.testing.assert_close(heard[2], front + said[0] + said[1])
    torch.testing.assert_close(aggregated[0], torch.cat(said, dim=1))
    dilations = [[c[0].dilation[0] for c in block.layers[1].convs] for block in small.blocks]
    assert dilations == [[2] * 3, [3] * 3, [4] * 3]
