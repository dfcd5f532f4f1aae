"""The residual block against sums over taps; the r-vector's stages and its pooling by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.network import Network, count_parameters
from embedder.models.resnet import BasicBlock, ShortChunk
from embedder.settings import build_config
from tests.embedder.models.reference import Layers, backbone, noise, stirred


def convolved(x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """A convolution without bias; 3×3 ones pad a row and a column of zeros on each side."""
    taps = weight.shape[2]
    padded = nn.functional.pad(x, [taps // 2] * 4)
    bands, frames = (-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True))
    out = torch.zeros(x.shape[0], weight.shape[0], bands, frames, dtype=x.dtype)
    for i in range(taps):
        for j in range(taps):
            part = padded[:, :, i :: stride[0], j :: stride[1]][:, :, :bands, :frames]
            out += torch.einsum("oc,bcmt->bomt", weight[:, :, i, j], part)
    return out


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
    layers, x = Layers(block), noise(0, 2, inputs, 7, frames)
    around = x.double()
    inner = layers.norm(convolved(around, layers["layers.0.weight"], stride), "layers.1")
    inner = convolved(inner.clamp(min=0), layers["layers.3.weight"], (1, 1))
    inner = layers.norm(inner, "layers.4")
    if inputs == outputs and stride == (1, 1):
        assert not list(block.shortcut.parameters())
    else:
        around = convolved(around, layers["shortcut.0.weight"], stride)
        around = layers.norm(around, "shortcut.1")
    expected = torch.where(inner + around > 0, inner + around, 0)
    torch.testing.assert_close(block(x).double(), expected, atol=1e-5, rtol=1e-5)
    assert (expected == 0).any()  # the last ReLU has something to do


@pytest.mark.parametrize("kernel", [1, 3])
def test_half_precision_has_gradients_for_a_single_frame(kernel: int) -> None:
    torch.manual_seed(1)
    block = BasicBlock(16, 32, (2, 2), kernel).train()
    x = noise(1, 6, 16, 4, 1)
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


@pytest.mark.parametrize(("bands", "frames"), [(80, 64), (41, 33), (16, 1)])
def test_stages_widen_and_halve(bands: int, frames: int) -> None:
    network = backbone("resnet34", n_mels=bands, band_mask_mels=4).eval()
    shapes: list[tuple[int, ...]] = []
    for part in (network.front, *network.stages):
        part.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    out = network(noise(0, 1, bands, frames))
    expected = [(1, 16, bands, frames)]
    for width in (16, 32, 64, 128):
        expected.append((1, width, bands, frames))
        bands, frames = (bands + 1) // 2, (frames + 1) // 2
    assert shapes == expected
    assert out.shape == (1, network.output_dim) == (1, 2 * 128 * shapes[-1][2])


def test_it_has_thirty_four_layers_and_a_quarter_of_the_weights_on_a_laptop() -> None:
    network = Network(build_config(changes={"backbone": "resnet34"}))
    assert [len(stage) for stage in network.backbone.stages] == [3, 4, 6, 3]
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == 34
    small, whole = (count_parameters(backbone("resnet34", p)) for p in ("laptop", "base"))
    assert whole / small == pytest.approx(4, rel=0.01)


def test_every_band_of_every_map_has_a_mean_and_a_deviation() -> None:
    network = backbone("resnet34", n_mels=40).eval()
    seen: list[np.ndarray] = []
    network.stages.register_forward_hook(
        lambda _, __, output: seen.append(output.detach().double().numpy())
    )
    pooled = network(noise(1, 2, 40, 50)).detach().numpy()
    rows, channels, bands, frames = seen[0].shape
    assert (channels, bands, frames) == (128, 5, 7)
    for row in range(rows):
        for channel in (0, 1, 77, 127):
            for band in range(bands):
                line = seen[0][row, channel, band]
                mean = sum(line) / frames
                deviation = np.sqrt(max(sum((line - mean) ** 2) / frames, 1e-5))
                place = channel * bands + band
                assert pooled[row, place] == pytest.approx(mean, abs=1e-5)
                assert pooled[row, 128 * 5 + place] == pytest.approx(deviation, abs=1e-5)


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
