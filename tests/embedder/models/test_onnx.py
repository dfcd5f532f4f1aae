"""The double of a network says what the network says, from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.architectures import ARCHITECTURES
from embedder.config import MemberConfig, SeparatorConfig
from embedder.models.network import Network
from embedder.models.onnx import DOUBLES, EncoderLayer, Maximum, portable

Tiny = Callable[..., MemberConfig]

NOT_PORTABLE = {n: a.not_exportable for n, a in ARCHITECTURES.items() if a.not_exportable}


def waves(batch: int, samples: int) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(0, 0.1, (batch, samples)).astype(np.float32))


def some_network(config: MemberConfig) -> Network:
    torch.manual_seed(1)
    network = Network(config).eval().requires_grad_(False)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    return network


PORTABLE = [name for name in ARCHITECTURES if name not in NOT_PORTABLE]


def test_what_is_not_portable_is_an_architecture() -> None:
    assert set(NOT_PORTABLE) < set(ARCHITECTURES)


@pytest.mark.parametrize("backbone", PORTABLE)
def test_the_double_gives_the_same_embedding(backbone: str, tiny: Tiny) -> None:
    network = some_network(tiny(backbone=backbone, n_mels=128))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    double = portable(network)
    for batch, samples in ((1, 8000), (3, 12345)):
        wave = waves(batch, samples)
        torch.testing.assert_close(double(wave), network(wave), atol=1e-5, rtol=0)
    kinds = {type(module) for module in double.modules()}
    assert not kinds & set(DOUBLES) - {nn.TransformerEncoderLayer}  # whose parts its double uses
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_so_does_the_double_of_one_that_hears_separated_vocals(tiny: Tiny) -> None:
    shape = SeparatorConfig(256, 128, 8, 1)
    network = some_network(replace(tiny(stem="separated"), separator=shape))
    wave = waves(3, 9000)
    torch.testing.assert_close(portable(network)(wave), network(wave), atol=1e-5, rtol=0)


def test_an_encoder_layer_is_torch_s_for_any_number_of_columns() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(24, 4, 48, activation="gelu", batch_first=True).eval()
    double = EncoderLayer(layer)
    with torch.no_grad():
        for count in (1, 5, 12):
            columns = torch.randn(3, count, 24)
            torch.testing.assert_close(double(columns), layer(columns), atol=1e-6, rtol=1e-5)


def test_layers_that_would_be_said_wrongly_are_refused() -> None:
    for layer in (
        nn.TransformerEncoderLayer(24, 4, 48, activation="relu", batch_first=True),
        nn.TransformerEncoderLayer(24, 4, 48, activation="gelu", norm_first=True, batch_first=True),
    ):
        with pytest.raises(ValueError, match="norms in front, or with another activation"):
            EncoderLayer(layer)
    with pytest.raises(ValueError, match="batch does not come first"):
        EncoderLayer(nn.TransformerEncoderLayer(24, 4, 48, activation=functional.gelu))
    with pytest.raises(ValueError, match="no maximum over everything"):
        Maximum(nn.AdaptiveMaxPool2d(2))
