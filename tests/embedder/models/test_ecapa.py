"""ECAPA-TDNN: each part against its definition, and what each part can and cannot hear."""

from __future__ import annotations

import itertools

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


def test_res2_is_that_of_the_definition() -> None:
    torch.manual_seed(1)
    res2 = stirred(Res2Conv(12, 4, dilation=3))
    frames = noise(0, 2, 12, 30)
    layers, x = Layers(res2), frames.split(3, dim=1)
    y = [x[0]]
    for group in range(1, 4):  # y1 = K(x1), yi = K(xi + y(i-1))
        given = x[group] if group == 1 else x[group] + y[-1]
        conv = f"convs.{group - 1}"
        linear = layers.conv1d(given.double(), f"{conv}.0", dilation=3, padding=3)
        y.append(layers.norm(linear.relu(), f"{conv}.2"))
    expected = torch.cat([part.double() for part in y], dim=1)
    torch.testing.assert_close(res2(frames).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_res2_group_hears_only_the_groups_up_to_it(scale: int) -> None:
    torch.manual_seed(2)
    res2 = stirred(Res2Conv(16, scale, dilation=2))
    width = 16 // scale
    frames = noise(1, 1, 16, 20)
    before = res2(frames).split(width, dim=1)
    for changed in range(scale):
        other = frames.clone()
        other[:, changed * width : (changed + 1) * width] += noise(2, 1, width, 20)
        after = res2(other).split(width, dim=1)
        heard = [group for group in range(scale) if not torch.equal(before[group], after[group])]
        # The first group passes as it is and goes nowhere else; another reaches itself and all on.
        assert heard == ([0] if changed == 0 else list(range(changed, scale)))


@pytest.mark.parametrize("dilation", [2, 3, 4])
def test_a_res2_group_s_reach_grows_by_the_dilation(dilation: int) -> None:
    torch.manual_seed(3)
    res2 = stirred(Res2Conv(32, 4, dilation))
    frames = noise(3, 1, 32, 61).requires_grad_()
    for group, said in enumerate(res2(frames).split(8, dim=1)):
        (gradient,) = torch.autograd.grad(said[0, :, 30].sum(), frames, retain_graph=True)
        touched = gradient[0].abs().sum(dim=0).nonzero().flatten() - 30
        assert touched.tolist() == [step * dilation for step in range(-group, group + 1)]


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


def test_when_something_sounds_does_not_matter(small: Ecapa) -> None:
    """An event anywhere in a steady sound, clear of the ends by the reach of 29 frames."""
    steady = noise(7, 1, 16, 1).expand(1, 16, 160)
    event = noise(8, 1, 16, 12)

    def at(start: int) -> Tensor:
        mel = steady.clone()
        mel[:, :, start : start + 12] += event
        return small(mel)

    for start in (35, 60, 110):
        torch.testing.assert_close(at(start), at(74), atol=1e-4, rtol=1e-4)
    assert (small(steady) - at(74)).abs().max() > 0.01  # it is heard


def test_the_order_of_frames_matters(small: Ecapa) -> None:
    mel = noise(9, 1, 16, 80)
    assert (small(mel) - small(mel.flip(2))).abs().max() > 0.01


def test_an_utterance_does_not_depend_on_its_company(small: Ecapa) -> None:
    mel = noise(10, 6, 16, 50)
    together = small(mel)
    for row, alone in itertools.product(range(6), (True, False)):
        company = mel[row : row + 1] if alone else mel[[row, (row + 1) % 6]]
        torch.testing.assert_close(small(company)[0], together[row], atol=1e-5, rtol=1e-5)
