"""The r-vector: its stages, its count at the recipe's size, its pooling by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.network import Network, count_parameters
from embedder.models.resnet import ResNet34
from embedder.settings import build_config


def network_of(**changes: int) -> ResNet34:
    torch.manual_seed(0)
    config = build_config(changes={"backbone": "resnet34", **changes})
    return ResNet34(config.features, config.model).eval()


def mels(seed: int, batch: int, bands: int, frames: int) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(batch, bands, frames))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize(("bands", "frames"), [(80, 64), (41, 33), (16, 1)])
def test_stages_widen_and_halve(bands: int, frames: int) -> None:
    network = network_of(n_mels=bands, band_mask_mels=4)
    shapes: list[tuple[int, ...]] = []
    for part in (network.front, *network.stages):
        part.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    out = network(mels(0, 1, bands, frames))
    expected = [(1, 16, bands, frames)]
    for width in (16, 32, 64, 128):
        expected.append((1, width, bands, frames))
        bands, frames = (bands + 1) // 2, (frames + 1) // 2
    assert shapes == expected
    assert out.shape == (1, network.output_dim) == (1, 2 * 128 * shapes[-1][2])


def test_it_has_thirty_four_layers() -> None:
    config = build_config(changes={"backbone": "resnet34"})
    network = Network(config)
    assert [len(stage) for stage in network.backbone.stages] == [3, 4, 6, 3]
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == 34


def test_parameters_are_as_many_as_the_recipe_s() -> None:
    """The recipe's 6.63 million, with 80 mels and 256 numbers per embedding."""
    config = build_config("base", changes={"backbone": "resnet34", "embedding_dim": 256})
    assert config.model.channels == 32

    def conv(inputs: int, outputs: int, taps: int) -> int:
        return taps * taps * inputs * outputs + 2 * outputs  # the norm has two for each channel

    expected = conv(1, 32, 3)
    for stage, (width, blocks) in enumerate(((32, 3), (64, 4), (128, 6), (256, 3))):
        before = width // 2 if stage else width
        expected += conv(before, width, 3) + (2 * blocks - 1) * conv(width, width, 3)
        expected += conv(before, width, 1) if stage else 0
    backbone = ResNet34(config.features, config.model)
    assert count_parameters(backbone) == expected
    assert backbone.output_dim == 2 * 256 * 10
    assert count_parameters(Network(config)) == expected + 5120 * 256 + 256 + 2 * 256
    assert round(count_parameters(Network(config)) / 1e6, 2) == 6.63


def test_every_band_of_every_map_has_a_mean_and_a_deviation() -> None:
    network = network_of(n_mels=40)
    seen: list[np.ndarray] = []
    network.stages.register_forward_hook(
        lambda _, __, output: seen.append(output.detach().double().numpy())
    )
    pooled = network(mels(1, 2, 40, 50)).detach().numpy()
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


def test_the_presets_say_how_wide_it_is() -> None:
    """Half the recipe's widths where a laptop trains: a quarter of the convolutions' weights."""
    small, whole = (
        ResNet34(config.features, config.model)
        for config in (
            build_config(p, changes={"backbone": "resnet34"}) for p in ("laptop", "base")
        )
    )
    assert (small.front[0].out_channels, whole.front[0].out_channels) == (16, 32)
    assert count_parameters(whole) / count_parameters(small) == pytest.approx(4, rel=0.01)
