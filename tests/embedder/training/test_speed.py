"""Speeds: what is timed is the training's own step and the program's own embedding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from embedder.config import MemberConfig
from embedder.inference.embed import CHUNK
from embedder.models.network import Network
from embedder.training import speed
from embedder.training.speed import measure_speed, seconds_each

Tiny = Callable[..., MemberConfig]
CPU = torch.device("cpu")


def clock(monkeypatch: pytest.MonkeyPatch, taken: list[float]) -> None:
    """A clock on which the calls that are timed take these seconds, one after the other."""
    ends = list(itertools.accumulate(taken))
    ticks = iter([t for pair in zip([0.0, *ends], ends, strict=False) for t in pair])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(ticks))


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([1.9, 0.5, 0.7, 0.6, 0.3], (0.5 + 0.7 + 0.6 + 0.3) / 4),  # the first makes ready
        ([0.1, 3.0], 3.0),
        ([2.5], 2.5),  # no time for another
    ],
)
def test_calls_are_timed_for_as_long_as_asked(
    taken: list[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, taken)
    calls: list[int] = []
    assert seconds_each(lambda: calls.append(1), 2.0, CPU) == pytest.approx(expected)
    assert len(calls) == len(taken)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each forward pass of any network was, and one call of each work that is timed: 4 s."""
    found: list[dict[str, Any]] = []
    hear = Network.extract_features

    def listen(network: Network, wave: Tensor) -> Tensor:
        found.append(
            {
                "network": network,
                "shape": tuple(wave.shape),
                "training": network.training,
                "half": torch.is_autocast_enabled("cpu"),
                "learns": torch.is_grad_enabled(),
                "weights": [p.detach().clone() for p in network.parameters()],
            }
        )
        return hear(network, wave)

    def each(work: Callable[[], object], _: float, __: torch.device) -> float:
        work()
        return 4.0

    monkeypatch.setattr(Network, "extract_features", listen)
    monkeypatch.setattr(speed, "seconds_each", each)
    return found


@pytest.mark.parametrize("loss", ["aam", "triplet"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_training_and_embedding_are_what_is_timed(
    precision: str, loss: str, heard: list[dict[str, Any]], tiny: Tiny
) -> None:
    config = tiny(precision=precision, loss=loss, batch_singers=3, batch_crops=2, segment_s=1.5)
    found = measure_speed(config, "cpu")
    step, embedding = heard  # no chunk more, no chunk less
    assert step["shape"] == (6, 24000)
    assert (step["training"], step["half"], step["learns"]) == (True, precision == "bf16", True)
    moved = [
        bool((old != new).any())
        for old, new in zip(step["weights"], embedding["weights"], strict=True)
    ]
    assert np.mean(moved) > 0.9  # the optimiser has taken a step
    assert embedding["shape"] == (CHUNK, 32000)
    assert not embedding["training"]
    assert not embedding["half"]
    assert not embedding["learns"]
    assert found.training == 6 * 1.5 / 4
    assert found.embedding == CHUNK * 2.0 / 4


def test_what_is_fitted_hears_its_crops_without_a_gradient(
    heard: list[dict[str, Any]], tiny: Tiny
) -> None:
    config = tiny(backbone="ivector", ivector_components=16, ivector_dim=10)
    found = measure_speed(config, "cpu")
    crops, embedding = heard
    assert crops["shape"] == (6, 16000)
    assert not crops["training"]
    assert not crops["learns"]
    assert embedding["shape"] == (CHUNK, 32000)
    assert found.training == 6 * 1.0 / 4


def test_measuring_leaves_no_trace(heard: list[dict[str, Any]], tiny: Tiny) -> None:
    state = torch.get_rng_state()
    measure_speed(tiny(), "cpu")
    assert heard
    assert torch.equal(torch.get_rng_state(), state)
    assert np.float64(5e-324) * 1 > 0  # small numbers are flushed to 0 in training, not after it


def test_both_speeds_are_measured_in_earnest(tiny: Tiny) -> None:
    found = measure_speed(tiny(), "cpu", seconds=0.02)
    assert 0.1 < found.training < 1e6
    assert 0.1 < found.embedding < 1e6
