"""The non-local block against loops over positions, channels and rolls; then the network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from embedder.models.crnn import convolutions, recurrence, steps_of
from embedder.models.fgnl import FullyGeneralisedNonLocal, gaussian
from tests.embedder.models.reference import backbone, noise


@pytest.fixture
def block() -> FullyGeneralisedNonLocal:
    """64 and 96 channels, so three of its own; weights that make attention sharp."""
    torch.manual_seed(0)
    block = FullyGeneralisedNonLocal((64, 96))
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return block.eval()


def test_the_gaussian_is_that_of_its_formula() -> None:
    kernel = gaussian().numpy()
    assert kernel.shape == (5, 5)
    assert kernel.sum() == pytest.approx(1)
    for i, j in np.ndindex(5, 5):
        away = (i - 2) ** 2 + (j - 2) ** 2
        assert kernel[i, j] / kernel[2, 2] == pytest.approx(math.exp(-away / (2 * 0.707**2)))


def slow(block: FullyGeneralisedNonLocal, *layers: np.ndarray) -> np.ndarray:
    """Eqs. 2 to 9 for the maps `(channels, bands, steps)` of one item."""
    weights = {k: v.detach().double().numpy() for k, v in block.state_dict().items()}
    kernel = gaussian().double().numpy()

    def project(name: str, maps: np.ndarray) -> list[list[float]]:
        """For each position in a row, its smoothed channels."""
        weight, bias = weights[f"{name}.conv.weight"][:, :, 0, 0], weights[f"{name}.conv.bias"]
        reduced = np.einsum("oc,cij->oij", weight, maps) + bias[:, None, None]
        padded = np.pad(reduced, ((0, 0), (2, 2), (2, 2)))
        return [
            [float((padded[c, i : i + 5, j : j + 5] * kernel).sum()) for c in range(len(reduced))]
            for i in range(maps.shape[1])
            for j in range(maps.shape[2])
        ]

    asking = project("theta", layers[-1])
    phi = [p for n, maps in enumerate(layers) for p in project(f"phi.{n}", maps)]
    g = [p for n, maps in enumerate(layers) for p in project(f"g.{n}", maps)]
    own = len(g[0])
    rolls = []
    for k in range(own):
        answers = []
        for theta in asking:
            likeness = [sum(theta[c] * p[(c - k) % own] for c in range(own)) for p in phi]
            scores = np.exp(np.array(likeness) - max(likeness))
            scores /= scores.sum()
            answers.append(
                [sum(s * p[c] for s, p in zip(scores, g, strict=True)) for c in range(own)]
            )
        rolls.append(answers)  # rolls × positions × channels
    w1, b1 = weights["gate.layers.0.weight"][:, 0], weights["gate.layers.0.bias"]
    w2 = weights["gate.layers.2.weight"][0]
    excited = [float(w2 @ np.maximum(w1 * np.mean(roll) + b1, 0)) for roll in rolls]
    shares = np.exp(excited) / np.exp(excited).sum()
    out, bias = weights["out.weight"][:, :, 0, 0], weights["out.bias"]
    result = layers[-1].copy()
    steps = result.shape[2]
    for position in range(len(asking)):
        joined = [shares[k] * rolls[k][position][c] for k in range(own) for c in range(own)]
        result[:, position // steps, position % steps] += out @ np.array(joined) + bias
    return result


def test_the_block_is_that_of_its_equations(block: FullyGeneralisedNonLocal) -> None:
    earlier, last = noise(0, 2, 64, 6, 5), noise(1, 2, 96, 3, 2)
    out = block(earlier, last)
    assert out.shape == last.shape
    for row in range(2):
        expected = slow(block, earlier[row].double().numpy(), last[row].double().numpy())
        np.testing.assert_allclose(out[row].detach().numpy(), expected, atol=2e-4)


def test_with_nothing_to_add_it_is_a_crnn_with_other_poolings() -> None:
    network = backbone("fgnl").eval()
    nn.init.zeros_(network.nonlocal_block.out.weight)
    nn.init.zeros_(network.nonlocal_block.out.bias)
    blocks, gru = convolutions(((2, 2),) * 4).eval(), recurrence(8 * 128)
    blocks.load_state_dict(network.blocks.state_dict())
    gru.load_state_dict(network.gru.state_dict())
    mel = noise(5, 2, 128, 48)
    maps = blocks(network.norm(mel)[:, None])
    assert maps.shape == (2, 128, 8, 3)
    torch.testing.assert_close(network(mel), gru(steps_of(maps))[0][:, -1])


def test_the_block_hears_the_last_two_layers_of_the_network() -> None:
    network = backbone("fgnl").eval()
    seen: list[tuple[int, ...]] = []
    network.nonlocal_block.register_forward_hook(
        lambda _, inputs, __: seen.extend(tuple(maps.shape) for maps in inputs)
    )
    network(noise(6, 2, 128, 94))
    assert seen == [(2, 128, 16, 11), (2, 128, 8, 5)]
