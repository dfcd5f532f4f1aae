"""The residual block of He et al. 2016: against sums over taps, with and without a new shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.resnet import BasicBlock


def stirred(block: BasicBlock) -> BasicBlock:
    """In eval mode, with batch norms that differ from the identity."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(values, 0.5, 1.5)
    return block.eval()


def maps(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def convolved(x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """A convolution without bias; 3×3 ones pad a row and a column of zeros on each side."""
    taps = weight.shape[2]
    padded = nn.functional.pad(x, [taps // 2] * 4)
    bands, frames = (-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True))
    out = torch.zeros(x.shape[0], weight.shape[0], bands, frames)
    for i in range(taps):
        for j in range(taps):
            piece = padded[:, :, i :: stride[0], j :: stride[1]][:, :, :bands, :frames]
            out += torch.einsum("oc,bcmt->bomt", weight[:, :, i, j], piece)
    return out


def normed(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    def of_channel(values: Tensor) -> Tensor:
        return values.view(1, -1, 1, 1)

    centred = x - of_channel(norm.running_mean)
    scaled = centred / (of_channel(norm.running_var) + norm.eps).sqrt()
    return scaled * of_channel(norm.weight) + of_channel(norm.bias)


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "kernel", "frames"),
    [
        (4, 4, (1, 1), 1, 10),
        (4, 6, (1, 1), 1, 10),
        (4, 4, (2, 1), 1, 10),
        (4, 8, (2, 2), 1, 10),
        (4, 8, (2, 2), 3, 10),
        (4, 8, (2, 2), 1, 1),
        (4, 8, (2, 2), 3, 1),
    ],
    ids=["as it is", "channels", "bands", "both", "3x3 beside", "a frame", "a frame, 3x3 beside"],
)
def test_a_block_is_that_of_the_paper(
    inputs: int, outputs: int, stride: tuple[int, int], kernel: int, frames: int
) -> None:
    torch.manual_seed(0)
    block = stirred(BasicBlock(inputs, outputs, stride, kernel))
    x = maps(0, 2, inputs, 7, frames)
    first, norm, _, second, last = block.layers
    inner = normed(convolved(x, first.weight, stride), norm).clamp(min=0)
    inner = normed(convolved(inner, second.weight, (1, 1)), last)
    if inputs == outputs and stride == (1, 1):
        around = x
        assert not list(block.shortcut.parameters())
    else:
        conv, shift = block.shortcut
        around = normed(convolved(x, conv.weight, stride), shift)
    expected = torch.where(inner + around > 0, inner + around, torch.zeros(()))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)
    assert (expected == 0).any()  # the last ReLU has something to do


@pytest.mark.parametrize("kernel", [1, 3])
def test_half_precision_has_gradients_for_a_single_frame(kernel: int) -> None:
    torch.manual_seed(1)
    block = BasicBlock(16, 32, (2, 2), kernel).train()
    x = maps(1, 6, 16, 4, 1)
    weights = [module.weight for module in block.modules() if isinstance(module, nn.Conv2d)]
    (block(x) * torch.linspace(-1, 1, 32).view(1, -1, 1, 1)).sum().backward()
    full = [weight.grad.clone() for weight in weights]
    for _ in range(20):  # what is not initialised is right by chance now and then
        block.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = block(x)
        (out.float() * torch.linspace(-1, 1, 32).view(1, -1, 1, 1)).sum().backward()
        for weight, expected in zip(weights, full, strict=True):
            assert (weight.grad - expected).abs().max() < 0.2 * expected.abs().max()
