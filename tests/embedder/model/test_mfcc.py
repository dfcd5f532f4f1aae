"""Cepstra: against a cosine transform and a least-squares fit written out, and without the mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from embedder.config import FeatureConfig
from embedder.models.frontends import LogMel
from embedder.models.zoo.ivector import CEPSTRA, Mfcc

PLAIN = FeatureConfig(mel_norm="none")


def noise(seed: int, *shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_slopes(rows: np.ndarray) -> np.ndarray:
    """The slope of the line that fits five frames best; beyond the ends the last frame goes on."""
    padded = np.pad(rows, ((0, 0), (2, 2)), mode="edge")
    steps = np.arange(-2, 3)
    columns = [
        np.polyfit(steps, padded[:, frame : frame + 5].T, 1)[0] for frame in range(rows.shape[1])
    ]
    return np.stack(columns, axis=1)


def test_cepstra_and_slopes_are_those_of_the_definition() -> None:
    wave = noise(0, 1, 8000)
    mel = LogMel(PLAIN)(wave)[0].double().numpy()
    bands = len(mel)
    rows = []
    for k in range(CEPSTRA):
        scale = math.sqrt((1 if k == 0 else 2) / bands)
        angles = [math.cos(math.pi / bands * (m + 0.5) * k) for m in range(bands)]
        rows.append(scale * np.array(angles) @ mel)
    cepstra = np.stack(rows)
    slopes = slow_slopes(cepstra)
    expected = np.concatenate([cepstra, slopes, slow_slopes(slopes)])
    front = Mfcc(PLAIN)
    out = front(wave)[0].numpy()
    assert front.rows == len(out) == 3 * CEPSTRA
    assert front.mel_rows == 0
    np.testing.assert_allclose(out, expected, atol=2e-4)


def test_without_the_mean_a_filter_that_does_not_change_says_nothing() -> None:
    """A gain of each mel band shifts all frames alike; only the mean's removal makes it unheard."""
    front, wave = Mfcc(FeatureConfig(mel_norm="mean")), noise(1, 2, 16000)
    assert front(wave)[:, :CEPSTRA].mean(dim=2).abs().max() < 1e-4
    coloured = torch.nn.functional.conv1d(wave[:, None], torch.tensor([[[-0.7, 1.0]]]))[:, 0]
    change = (front(coloured) - front(wave[:, 1:])).abs().mean()
    plain = (Mfcc(PLAIN)(coloured) - Mfcc(PLAIN)(wave[:, 1:])).abs().mean()
    assert change < 0.25 * plain


@pytest.mark.parametrize("gain", [0.01, 20.0])
def test_loudness_says_nothing(gain: float) -> None:
    wave = noise(2, 2, 8000)
    torch.testing.assert_close(Mfcc(PLAIN)(gain * wave), Mfcc(PLAIN)(wave), atol=1e-3, rtol=1e-3)
