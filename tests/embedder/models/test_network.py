"""The whole network, for each backbone: unit length, no company, no loudness; and the logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.architectures import ARCHITECTURES
from embedder.config import LossConfig, MemberConfig
from embedder.errors import UserError
from embedder.models.network import (
    Network,
    count_parameters,
    default_device,
    margin_free_logits,
)
from embedder.settings import all_settings, build_config
from embedder.training.losses import build_loss


def config_of(backbone: str) -> MemberConfig:
    return build_config("demo", changes={"backbone": backbone})


@pytest.fixture(params=ARCHITECTURES)
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    return Network(config_of(request.param)).eval()


def waves(seed: int, batch: int, samples: int = 16000) -> Tensor:
    """Noises of different colours, so that embeddings differ."""
    rng = np.random.default_rng(seed)
    spectrum = rng.normal(size=(batch, samples // 2 + 1)) + 1j * rng.normal(
        size=(batch, samples // 2 + 1)
    )
    tilt = np.linspace(0, 1, samples // 2 + 1)
    spectrum *= 10 ** (-rng.uniform(0, 3, size=(batch, 1)) * tilt)
    wave = np.fft.irfft(spectrum, samples)
    return torch.from_numpy((0.1 * wave / wave.std()).astype(np.float32))


def test_backbones_are_the_choices_of_the_setting() -> None:
    assert tuple(ARCHITECTURES) == all_settings()["backbone"][1].metadata["choices"]


def voices(seed: int, batch: int, samples: int) -> Tensor:
    """Tones with harmonics and a vibrato, each with its own pitch and tilt, and a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    out = []
    for _ in range(batch):
        pitch, rate, depth = rng.uniform(90, 500), rng.uniform(4, 8), rng.uniform(0.01, 0.06)
        tilt = rng.uniform(0.5, 2)
        phase = 2 * np.pi * np.cumsum(pitch * (1 + depth * np.sin(2 * np.pi * rate * time))) / 16000
        tones = (np.sin(k * phase) * k**-tilt for k in range(1, int(7500 / pitch)))
        wave = sum(tones) + 0.02 * rng.normal(size=samples)
        out.append(0.1 * wave / wave.std())
    return torch.from_numpy(np.array(out, dtype=np.float32))


def test_embeddings_have_unit_length_and_differ(network: Network) -> None:
    embedding = network(voices(0, 5, 16000))
    assert embedding.dtype == torch.float32
    assert embedding.shape == (5, network.projection[0].out_features)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(5))
    # Rounding is 1e-6. Random weights say much the same of everything, so the bar is no higher.
    assert torch.pdist(embedding.double()).min() > 1e-4


def test_a_wave_does_not_depend_on_its_company(network: Network) -> None:
    wave = waves(1, 6)
    together = network(wave)
    for row in range(6):
        torch.testing.assert_close(
            network(wave[row : row + 1])[0], together[row], atol=1e-5, rtol=0
        )
    torch.testing.assert_close(network(wave.flip(0)).flip(0), together, atol=1e-5, rtol=0)


def test_loudness_says_nothing(network: Network) -> None:
    wave = waves(2, 3)
    assert (network(wave) * network(0.05 * wave)).sum(dim=1).min() > 0.9999


def test_a_tenth_of_a_second_later_it_is_the_same_voice(network: Network) -> None:
    wave = voices(3, 4, 33600)
    now, later = network(wave[:, :32000]).double(), network(wave[:, 1600:]).double()
    apart = torch.cdist(now, later)
    others = apart[~torch.eye(4, dtype=torch.bool)]
    assert apart.diagonal().mean() < 0.7 * others.mean()


def test_the_way_through_the_mels_is_the_same_way(network: Network) -> None:
    wave = waves(4, 2)
    mel = network.features(wave)
    assert torch.equal(network.embed_features(mel), network(wave))
    raw = network.projection(network.backbone(mel))
    torch.testing.assert_close(network(wave), raw / raw.square().sum(dim=1, keepdim=True).sqrt())


def test_the_projection_has_a_batch_norm_and_the_set_size(network: Network) -> None:
    linear, norm = network.projection
    assert linear.in_features == network.backbone.output_dim
    assert isinstance(norm, nn.BatchNorm1d)
    expected = count_parameters(network.features) + count_parameters(network.backbone)
    expected += sum(p.numel() for p in linear.parameters())
    assert count_parameters(network) == expected + 2 * linear.out_features


def test_every_weight_learns(network: Network) -> None:
    objective = build_loss(LossConfig(), 3, network.projection[0].out_features)
    network.train()
    objective(network(waves(5, 6)), torch.tensor([0, 0, 1, 1, 2, 2])).backward()
    learning = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    for name, gradient in learning.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
    moved = sum(float(gradient.abs().sum()) > 0 for gradient in learning.values())
    assert moved > 0.9 * len(learning)


def test_half_precision_gives_almost_the_same_embedding(network: Network) -> None:
    wave = waves(6, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(wave)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.norm(dim=1), torch.ones(3))
    assert (half * network(wave)).sum(dim=1).min() > 0.99


def test_silence_has_an_embedding(network: Network) -> None:
    torch.testing.assert_close(network(torch.zeros(1, 16000)).norm(dim=1), torch.ones(1))


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
