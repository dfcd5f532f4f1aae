"""Logits without a margin, what is counted of a network, and the device it runs on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.backends import mha, mkldnn

from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.models.network import (
    Network,
    count_parameters,
    default_device,
    margin_free_logits,
    multiply_adds,
    size_of,
)
from embedder.settings import build_config

Tiny = Callable[..., MemberConfig]


def test_logits_without_margin_are_scaled_cosines() -> None:
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(4, 8))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    head = rng.normal(size=(3, 8)) * rng.uniform(0.1, 10, size=(3, 1))  # its lengths say nothing
    logits = margin_free_logits(torch.tensor(embedding), torch.tensor(head), 30.0)
    for row in range(4):
        for singer in range(3):
            length = math.sqrt(sum(head[singer] ** 2))
            cosine = sum(embedding[row] * head[singer]) / length
            assert float(logits[row, singer]) == pytest.approx(30 * cosine)


def test_of_a_singer_s_several_centres_the_nearest_counts() -> None:
    rng = np.random.default_rng(1)
    embedding, head = rng.normal(size=(4, 8)), rng.normal(size=(6, 8))
    alone = margin_free_logits(torch.tensor(embedding), torch.tensor(head), 7.0)
    logits = margin_free_logits(torch.tensor(embedding), torch.tensor(head), 7.0, centres=2)
    assert logits.shape == (4, 3)
    for row in range(4):
        for singer in range(3):
            pair = alone[row, 2 * singer], alone[row, 2 * singer + 1]
            assert logits[row, singer] == max(pair)


def test_only_what_is_trained_is_counted() -> None:
    layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert count_parameters(layers) == 3 * 4 + 4 + 2 * 4
    layers[0].weight.requires_grad_(False)
    assert count_parameters(layers) == 4 + 2 * 4


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_device(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device("auto").type == expected
    assert default_device("cpu").type == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps", "gpu"):
        with pytest.raises(UserError, match=rf"--device {name}.* is not legal here.* auto \| cpu$"):
            default_device(name)


# Multiply-adds, by hand for each kind of product -------------------------------------------------


class Stft(nn.Module):
    def forward(self, wave: Tensor) -> Tensor:
        return torch.stft(wave, 64, return_complex=True, window=torch.ones(64)).abs()


# Each with its input and the products that its definition takes.
PRODUCTS: list[tuple[nn.Module, tuple[int, ...], int]] = [
    (nn.Linear(7, 5), (3, 7), 3 * 7 * 5),
    (nn.Conv1d(6, 10, 5), (2, 6, 20), 2 * 16 * 10 * 6 * 5),
    (nn.Conv1d(6, 10, 3, stride=2, dilation=3), (1, 6, 21), 8 * 10 * 6 * 3),
    (nn.Conv1d(6, 4, 3, groups=2, padding=1), (1, 6, 20), 20 * 4 * (6 // 2) * 3),
    (nn.Conv2d(3, 8, 3, stride=(2, 1), padding=1), (1, 3, 10, 12), 5 * 12 * 8 * 3 * 9),
    # A step of a GRU: three gates, each from the input and from the last state.
    (nn.GRU(10, 7, batch_first=True), (1, 20, 10), 20 * 3 * 7 * (10 + 7)),
    (
        nn.GRU(10, 7, num_layers=2, bidirectional=True, batch_first=True),
        (2, 20, 10),
        2 * 20 * 2 * 3 * 7 * ((10 + 7) + (14 + 7)),
    ),
    (nn.LSTM(10, 7, batch_first=True), (1, 20, 10), 20 * 4 * 7 * (10 + 7)),
    # Queries, keys and values; scores and weighted sums; the output; the two linear layers.
    (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (1, 20, 8),
        20 * 8 * 24 + 2 * 20 * 20 * 8 + 20 * 8 * 8 + 2 * 20 * 8 * 16,
    ),
    (nn.Sequential(nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2), nn.Softmax(1)), (2, 6, 20), 0),
    (Stft(), (1, 640), 0),
]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("module", "shape", "expected"), PRODUCTS, ids=lambda value: type(value).__name__
)
def test_multiply_adds_are_those_of_the_definition(
    module: nn.Module, shape: tuple[int, ...], expected: int, frozen: bool
) -> None:
    module.eval().requires_grad_(not frozen)
    with torch.no_grad() if frozen else contextlib.nullcontext():
        assert multiply_adds(module, torch.randn(shape)) == expected


def test_counting_leaves_torch_as_it_was() -> None:
    class Broken(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            assert not mha.get_fastpath_enabled()
            raise ValueError("on purpose")

    before = mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="on purpose"):
        multiply_adds(Broken(), torch.zeros(1))
    size_of(build_config("demo"))
    assert mha.get_fastpath_enabled()
    assert torch._C._get_mkldnn_enabled() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_s_products_are_its_layers_and_its_mel_filters() -> None:
    changes = {"backbone": "xvector", "channels": 20, "mfa_channels": 30, "segment_s": 2}
    config = build_config(changes={**changes, "embedding_dim": 12})
    frames = 1 + 32000 // 320
    mel = frames * (512 // 2 + 1) * 80
    padded = frames + 14  # seven frames more on each side
    layers = (padded - 4) * 5 * 80 * 20 + (padded - 8) * 3 * 20 * 20 + frames * 3 * 20 * 20
    layers += frames * (20 * 20 + 20 * 30)
    assert size_of(config).multiply_adds == (mel + layers + 60 * 12) / 2


def test_a_recurrent_backbone_s_products_are_all_there() -> None:
    config = build_config(changes={"backbone": "crnn", "segment_s": 2, "embedding_dim": 12})
    frames, bands = 1 + 32000 // 512, 128
    expected = frames * (2048 // 2 + 1) * bands
    pools = ((2, 2), (4, 2), (4, 2), (4, 2))
    for (inputs, outputs), (high, wide) in zip(
        ((1, 64), (64, 128), (128, 128), (128, 128)), pools, strict=True
    ):
        expected += frames * bands * outputs * inputs * 9
        bands, frames = bands // high, frames // wide
    expected += frames * 3 * 32 * (128 + 32) + frames * 3 * 32 * (32 + 32)
    assert size_of(config).multiply_adds == (expected + 32 * 12) / 2


def test_parameters_are_counted_with_what_is_frozen_but_without_filters(tiny: Tiny) -> None:
    config = tiny()
    network = Network(config)
    learnt = sum(p.numel() for p in network.parameters())
    size = size_of(config)
    assert size.parameters == size.trainable == learnt
    assert sum(t.numel() for t in network.state_dict().values()) > learnt  # mel filters, for one


def test_what_is_fitted_learns_nothing_by_gradient() -> None:
    changes = {"backbone": "ivector", "ivector_components": 16, "ivector_dim": 10}
    config = build_config(changes=changes)
    network = Network(config)
    size = size_of(config)
    assert size.trainable == 0
    projection = sum(p.numel() for p in network.projection.parameters())
    fitted = sum(b.numel() for b in network.backbone.buffers())
    assert fitted > network.backbone.variability.numel() == 16 * 10 * network.features.rows
    assert size.parameters == projection + fitted
