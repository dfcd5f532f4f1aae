"""Self-supervised methods: each loss by loops over crops, who learns, and who only follows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.config import MemberConfig, SelfSupervisedConfig
from embedder.models.network import Network
from embedder.settings import PRETRAIN_SETTINGS
from embedder.training.self_supervised import METHODS, perceptron, spread

Tiny = Callable[..., MemberConfig]
SONGS = 5


@pytest.fixture
def network(tiny: Tiny) -> Network:
    torch.manual_seed(0)
    return Network(tiny(n_mels=16, band_mask_mels=4))


def crops(seed: int = 0) -> Tensor:
    """Features of two crops each of five songs, alike within a song."""
    rng = np.random.default_rng(seed)
    songs = rng.normal(size=(SONGS, 16, 1))
    both = np.concatenate([songs, songs]) + 0.3 * rng.normal(size=(2 * SONGS, 16, 40))
    return torch.from_numpy(both.astype(np.float32))


def made(name: str, network: Network, **settings: Any) -> Any:
    torch.manual_seed(1)
    settings = {"projector_dim": 12, **settings}
    return METHODS[name](SelfSupervisedConfig(method=name, **settings), network)


def unit(rows: Tensor) -> np.ndarray:
    values = rows.detach().double().numpy()
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_methods_are_the_choices_of_the_setting() -> None:
    assert tuple(METHODS) == PRETRAIN_SETTINGS["method"].choices


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_is_the_loop_over_crops(temperature: float, network: Network) -> None:
    value, projection = made("simclr", network, ntxent_temperature=temperature)(crops())
    rows = unit(projection)
    total = 0.0
    for i in range(2 * SONGS):
        scores = {k: math.exp(rows[i] @ rows[k] / temperature) for k in range(2 * SONGS) if k != i}
        total -= math.log(scores[(i + SONGS) % (2 * SONGS)] / sum(scores.values()))
    assert value.item() == pytest.approx(total / (2 * SONGS), rel=1e-4)


def test_vicreg_is_the_loop_over_numbers(network: Network) -> None:
    value, projection = made("vicreg", network)(crops())
    z = projection.detach().double().numpy()
    width = z.shape[1]
    invariance = sum((z[i] - z[i + SONGS]) @ (z[i] - z[i + SONGS]) / width for i in range(SONGS))
    variance = covariance = 0.0
    for part in (z[:SONGS], z[SONGS:]):
        centred = part - part.mean(axis=0)
        for a in range(width):
            deviation = math.sqrt(centred[:, a] @ centred[:, a] / (SONGS - 1) + 1e-4)
            variance += max(0.0, 1 - deviation) / width
            for b in range(width):
                if a != b:
                    covariance += (centred[:, a] @ centred[:, b] / (SONGS - 1)) ** 2 / width
    expected = 25 * invariance / SONGS + 25 * variance / 2 + covariance
    assert value.item() == pytest.approx(expected, rel=1e-4)
    assert variance > 0
    assert covariance > 0


def test_byol_foretells_the_target_s_other_crop(network: Network) -> None:
    method = made("byol", network)
    with torch.no_grad():  # a target of its own
        for parameter in method.target.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    value, projection = method(crops())
    with torch.no_grad():
        foretold, seen = unit(method.predictor(projection)), unit(method.target(crops()))
    total = 0.0
    for song in range(SONGS):
        total += 2 - 2 * foretold[song] @ seen[song + SONGS]
        total += 2 - 2 * foretold[song + SONGS] @ seen[song]
    assert value.item() == pytest.approx(total / SONGS, rel=1e-4)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_byol_s_target_follows_and_slows_down(share: float, kept: float, network: Network) -> None:
    method = made("byol", network, target_momentum=0.9)
    before = copy.deepcopy(method.target)
    with torch.no_grad():
        for parameter in method.online.parameters():
            parameter.add_(torch.randn_like(parameter))
    method.after_step(share)
    triples = zip(
        before.parameters(), method.online.parameters(), method.target.parameters(), strict=True
    )
    for old, leading, own in triples:
        assert torch.allclose(own, kept * old + (1 - kept) * leading, atol=1e-6)


def test_byol_s_target_gets_no_gradient(network: Network) -> None:
    method = made("byol", network)
    method(crops())[0].backward()
    assert all(p.grad is None and not p.requires_grad for p in method.target.parameters())
    assert all(p.grad is not None for p in method.online.parameters())
    assert all(p.grad is not None for p in method.predictor.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_descent_brings_the_crops_of_a_song_together(name: str, network: Network) -> None:
    method = made(name, network, ntxent_temperature=0.5, target_momentum=0.9)
    assert method.online.network is network  # which is what is kept
    parts = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parts, lr=0.003)
    own = torch.eye(SONGS, dtype=torch.bool)

    def gap() -> float:
        """Cosine of a song's two crops, less that of crops of different songs."""
        one, other = network.embed_features(crops(2)).detach().chunk(2)
        cosine = one @ other.T
        return float(cosine[own].mean() - cosine[~own].mean())

    before = gap()
    for step in range(30):
        optimizer.zero_grad()
        method(crops(2) + 0.5 * torch.randn(2 * SONGS, 16, 40))[0].backward()
        optimizer.step()
        method.after_step(step / 30)
    assert gap() > before + 0.05


@pytest.mark.parametrize("name", METHODS)
def test_under_autocast_losses_are_still_measured_in_full(name: str, network: Network) -> None:
    method = made(name, network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, projection = method(crops())
    assert value.dtype == projection.dtype == torch.float32
    assert value.item() == pytest.approx(method(crops())[0].item(), rel=0.2)


def test_a_perceptron_has_norms_and_rectifiers_between_its_layers() -> None:
    kinds = [type(part) for part in perceptron(4, 6, 3)]
    inner = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*inner, *inner, nn.Linear]
    assert [p.in_features for p in perceptron(4, 6, 3) if isinstance(p, nn.Linear)] == [4, 6, 6]


def test_spread_is_none_of_one_point_and_about_one_of_all_directions() -> None:
    rng = np.random.default_rng(0)
    free = torch.from_numpy(rng.normal(size=(500, 32)))
    assert spread(free) == pytest.approx(1, abs=0.02)
    assert spread(free * 1000) == pytest.approx(spread(free))
    assert spread(torch.ones(50, 32) * torch.arange(1, 51)[:, None]) == pytest.approx(0, abs=1e-6)
