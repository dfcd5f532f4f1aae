"""CAM++: the mask and a dense layer by hand, who hears whom, the paper's widths and count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.campplus import Campplus, DenseBlock, FrontEnd, MaskedConvolution
from embedder.settings import build_config
from tests.embedder.models.reference import Layers, backbone, noise, stirred


def masked(layer: MaskedConvolution, x: np.ndarray) -> np.ndarray:
    """F(x) ⊙ σ(W₂ ReLU(W₁(e_g + e_s) + b₁) + b₂) for `x (inputs, frames)`, frame by frame."""
    first, _, second, _ = layer.mask
    w1, b1 = first.weight[:, :, 0].detach().double().numpy(), first.bias.detach().numpy()
    w2, b2 = second.weight[:, :, 0].detach().double().numpy(), second.bias.detach().numpy()
    local, step = layer.local.weight.detach().double().numpy(), layer.local.dilation[0]
    count = x.shape[1]
    everywhere = sum(x[:, t] for t in range(count)) / count
    out = []
    for t in range(count):
        begin = t // layer.segment * layer.segment
        own = range(begin, min(begin + layer.segment, count))
        context = everywhere + sum(x[:, u] for u in own) / len(own)
        score = w2 @ np.maximum(w1 @ context + b1, 0) + b2
        around = [(tap, t + (tap - 1) * step) for tap in range(3)]
        heard = sum(local[:, :, tap] @ x[:, u] for tap, u in around if 0 <= u < count)
        out.append(heard / (1 + np.exp(-score)))
    return np.stack(out, axis=1)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(
    ("count", "segment"),
    [(24, 8), (21, 8), (17, 8), (5, 8), (8, 8), (4, 1)],
    ids=["whole", "a rest", "a rest of one", "less than one", "just one", "single frames"],
)
def test_the_mask_is_that_of_the_paper(count: int, segment: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = MaskedConvolution(6, 4, dilation, segment)
    nn.init.normal_(layer.mask[2].weight, std=3.0)  # masks far from one half
    frames = noise(count, 2, 6, count)
    out = layer(frames).detach().numpy()
    for row in range(2):
        expected = masked(layer, frames[row].double().numpy())
        np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-5)


def test_each_layer_hears_the_input_and_all_layers_before_it() -> None:
    torch.manual_seed(2)
    block = DenseBlock(6, layers=4, bottleneck=8, growth=3, dilation=2, segment=5)
    stirred(block)
    heard: list[Tensor] = []
    said: list[Tensor] = []

    def listen(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        heard.append(inputs[0].clone())
        said.append(output)

    for layer in block.layers:
        layer.register_forward_hook(listen)
    frames = noise(2, 2, 6, 20)
    out = block(frames)
    for number in range(4):
        assert torch.equal(heard[number], torch.cat([frames, *said[:number]], dim=1))
    assert torch.equal(out, torch.cat([frames, *said], dim=1))
    assert out.shape[1] == block.output_dim == 6 + 4 * 3


def test_a_layer_is_norm_relu_bottleneck_norm_relu_mask() -> None:
    torch.manual_seed(3)
    block = DenseBlock(6, layers=1, bottleneck=8, growth=3, dilation=2, segment=5)
    layer = stirred(block).layers[0]
    layers, frames = Layers(layer), noise(3, 1, 6, 20)
    inner = layers.conv1d(layers.norm(frames.double(), "0.0").clamp(min=0), "1")
    inner = layers.norm(inner, "2.0").clamp(min=0)[0].numpy()
    expected = masked(layer[3], inner)
    np.testing.assert_allclose(layer(frames)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_front_end_has_an_eighth_of_the_bands_and_every_frame() -> None:
    torch.manual_seed(4)
    front = FrontEnd(4, 80)
    stirred(front)
    shapes: list[tuple[int, ...]] = []
    for layer in front.layers:
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    mel = noise(4, 1, 80, 21)
    out = front(mel)
    bands = [80, 80, 80, 40, 40, 20, 20, 10, 10, 10]  # the second block and the fourth halve none
    assert shapes == [(4, count, 21) for count in bands]
    assert out.shape == (1, front.output_dim, 21) == (1, 40, 21)
    last = front.layers(mel[:, None])
    assert torch.equal(out[:, 13], last[:, 1, 3])  # a channel's bands lie side by side
    uneven = FrontEnd(4, 90)
    assert uneven(noise(5, 1, 90, 5)).shape == (1, uneven.output_dim, 5) == (1, 48, 5)


def test_blocks_and_transitions_have_the_paper_s_widths() -> None:
    network = backbone("campplus", "base")
    assert network.front.output_dim == 320
    halving = network.halving[0]
    assert (halving.in_channels, halving.out_channels, halving.kernel_size) == (320, 128, (5,))
    blocks = [part for part in network.blocks if isinstance(part, DenseBlock)]
    assert [len(block.layers) for block in blocks] == [12, 24, 16]
    assert [block.output_dim for block in blocks] == [512, 1024, 1024]
    transitions = [part for part in network.blocks if isinstance(part, nn.Conv1d)]
    widths = [(part.in_channels, part.out_channels) for part in transitions]
    assert widths == [(512, 256), (1024, 512), (1024, 512)]
    for block, dilation in zip(blocks, (1, 2, 2), strict=True):
        for layer in block.layers:
            local = layer[3].local
            assert (local.in_channels, local.out_channels) == (128, 32)
            assert local.dilation == (dilation,)
    assert network.output_dim == 1024


@pytest.mark.parametrize(("preset", "frames"), [("base", 100), ("laptop", 50)])
def test_a_segment_is_as_long_as_the_paper_s(preset: str, frames: int) -> None:
    """100 frames of 20 ms; the same two seconds where frames are longer."""
    config = build_config(preset, changes={"backbone": "campplus"})
    network = Campplus(config.features, config.model)
    lengths = {part.segment for part in network.modules() if isinstance(part, MaskedConvolution)}
    assert lengths == {frames}
    assert frames * 2 * config.features.hop / 16000 == pytest.approx(2.0, rel=0.01)


def test_the_statistics_are_those_of_the_last_block_at_half_the_frames() -> None:
    network = stirred(backbone("campplus", channels=16))
    seen: list[Tensor] = []
    network.blocks.register_forward_hook(lambda _, __, output: seen.append(output))
    mel = noise(6, 2, 80, 75)
    pooled = network(mel)
    assert seen[0].shape[2] == 38
    assert (seen[0] >= 0).all()  # the last norm is followed by a ReLU too
    torch.testing.assert_close(pooled[:, : pooled.shape[1] // 2], seen[0].mean(dim=2))
    layers, frames = Layers(network), network.front(mel).double()
    halved = layers.conv1d(frames, "halving.0", stride=2, padding=2)
    halved = layers.norm(halved, "halving.1.0").clamp(min=0)
    found = network.halving(network.front(mel)).double()
    torch.testing.assert_close(found, halved, atol=1e-4, rtol=1e-4)
