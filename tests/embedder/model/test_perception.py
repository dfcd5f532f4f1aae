"""Mid-level features: against slow definitions, and in the direction in which people rate them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from embedder.models.zoo.midlevel import (
    MAJOR,
    MID_LEVEL,
    MINOR,
    key,
    melodiousness,
    mid_level,
    rhythm,
)

HOP, RATE = 512, 16000 / 512


def rows(seed: int, *shape: int) -> torch.Tensor:
    values = np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)
    return torch.from_numpy(values)


def test_keys_are_correlations_with_krumhansl_s_profiles() -> None:
    chroma = rows(0, 5, 12)
    stability, minorness = key(chroma)
    for row in range(5):
        best = {}
        for name, profile in (("major", MAJOR), ("minor", MINOR)):
            best[name] = max(
                np.corrcoef(chroma[row].numpy(), np.roll(profile, tonic))[0, 1]
                for tonic in range(12)
            )
        assert float(stability[row]) == pytest.approx(max(best.values()), abs=1e-5)
        assert float(minorness[row]) == pytest.approx(best["minor"] - best["major"], abs=1e-5)


@pytest.mark.parametrize("tonic", [0, 5, 11])
def test_chords_are_major_or_minor_in_any_key_and_a_cluster_is_in_none(tonic: int) -> None:
    chords = torch.zeros(3, 12)
    chords[0, [0, 4, 7]] = chords[1, [0, 3, 7]] = chords[2, ::2] = 1  # the last: whole tones
    stability, minorness = key(chords.roll(tonic, dims=1))
    assert minorness[0] < -0.05
    assert minorness[1] > 0.05
    assert stability[:2].min() > stability[2] + 0.3


def test_rhythm_is_that_of_its_definitions() -> None:
    onsets = rows(1, 3, 94)
    complexity, stability = rhythm(onsets, RATE)
    for row in range(3):
        flux = onsets[row].double().numpy()
        flux = flux - flux.mean()
        lags = [sum(flux[lag:] * flux[: len(flux) - lag]) for lag in range(len(flux))]
        expected = max(lags[round(0.2 * RATE) : round(1.5 * RATE) + 1]) / lags[0]
        assert float(stability[row]) == pytest.approx(expected, abs=1e-4)
        spectrum = np.abs(np.fft.rfft(flux, 2 * len(flux))) ** 2
        rates = np.fft.rfftfreq(2 * len(flux), 1 / RATE)
        share = spectrum[(rates >= 0.5) & (rates <= 10)]
        share = share / share.sum()
        entropy = -sum(share * np.log(share)) / math.log(len(share))
        assert float(complexity[row]) == pytest.approx(entropy, abs=1e-4)


def test_a_steady_beat_is_stable_and_simple() -> None:
    beat = torch.zeros(1, 94)
    beat[:, 5::15] = 1  # 2.1 a second
    smooth = 1 + torch.sin(2 * torch.pi * 2 * torch.arange(94) / RATE)[None]
    random = rows(2, 1, 94) ** 4
    steady, wave, chance = (rhythm(onsets, RATE) for onsets in (beat, smooth, random))
    assert steady[1] > 0.75
    assert wave[1] > 0.75
    assert chance[1] < 0.45
    assert wave[0] < 0.6 < chance[0]


@pytest.mark.parametrize(("frames", "rate"), [(3, 3.9), (16, 3.9), (16, RATE), (251, 500.0)])
def test_half_a_second_has_a_rhythm_too(frames: int, rate: float) -> None:
    for values in rhythm(rows(3, 2, frames), rate):
        assert values.isfinite().all()
        assert values.max() <= 1 + 1e-5


def test_a_clear_pitch_that_moves_by_steps_is_melodious() -> None:
    strength = torch.full((4, 9), 0.8)
    f0 = torch.full((4, 9), 300.0)
    f0[1] = 300 * 2 ** (torch.arange(9) / 12)  # semitones up
    f0[2] = torch.tensor([300.0, 450.0] * 4 + [300.0])  # fifths up and down
    strength[3, 4] = 0
    expected = torch.tensor([0.8, 0.8, 0, 0.8 * 6 / 8])
    torch.testing.assert_close(melodiousness(f0, strength), expected)


def test_the_seven_numbers_stand_in_their_order() -> None:
    chroma, onsets, dissonance = rows(4, 2, 12, 94), rows(5, 2, 94), rows(6, 2, 94)
    f0, strength = 200 + 20 * rows(7, 2, 94), rows(8, 2, 94)
    found = mid_level(chroma, onsets, dissonance, f0, strength, HOP)
    assert found.shape == (2, len(MID_LEVEL)) == (2, 7)
    named = dict(zip(MID_LEVEL, found.T, strict=True))
    torch.testing.assert_close(named["melodiousness"], melodiousness(f0, strength))
    torch.testing.assert_close(named["articulation"], (RATE * onsets.mean(dim=1)).log())
    torch.testing.assert_close(named["rhythmic complexity"], rhythm(onsets, RATE)[0])
    torch.testing.assert_close(named["rhythmic stability"], rhythm(onsets, RATE)[1])
    torch.testing.assert_close(named["dissonance"], dissonance.mean(dim=1))
    torch.testing.assert_close(named["tonal stability"], key(chroma.mean(dim=2))[0])
    torch.testing.assert_close(named["minorness"], key(chroma.mean(dim=2))[1])


def test_silence_has_finite_numbers() -> None:
    nothing = torch.zeros(1, 94)
    found = mid_level(torch.zeros(1, 12, 94), nothing, nothing, nothing + 80, nothing, HOP)
    assert found.isfinite().all()
    assert found.abs().max() < 20
