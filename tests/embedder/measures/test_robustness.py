"""Degradations do to a wave what their level says, measured with other means than made them."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

from embedder.config import SAMPLE_RATE
from embedder.measures.robustness import (
    DEGRADATIONS,
    EXCERPT,
    degrade,
    impulse_response,
    severity_levels,
)

SECONDS = 2


def sine(hz: float, level: float = 0.3, seconds: float = SECONDS) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def hissing(seconds: float = SECONDS) -> np.ndarray:
    rng = np.random.default_rng(5)
    return (0.1 * rng.normal(size=round(seconds * SAMPLE_RATE))).astype(np.float32)


def degraded(wave: np.ndarray, name: str, level: float, seed: int = 0) -> np.ndarray:
    return degrade(wave, name, level, np.random.default_rng(seed))


def energy(wave: np.ndarray) -> float:
    return float(np.mean(wave.astype(np.float64) ** 2))


def loudest_hz(wave: np.ndarray) -> float:
    middle = wave[len(wave) // 4 : 3 * len(wave) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    return float(spectrum.argmax() * SAMPLE_RATE / (1 << 18))


@pytest.mark.parametrize("level", DEGRADATIONS["noise"].levels)
def test_noise_lies_as_far_below_as_asked(level: float) -> None:
    wave = hissing(10)
    added = degraded(wave, "noise", level) - wave
    assert 10 * np.log10(energy(wave) / energy(added)) == pytest.approx(level, abs=0.1)
    halves = np.abs(np.fft.rfft(added)) ** 2
    middle = len(halves) // 2
    assert halves[:middle].mean() == pytest.approx(halves[middle:].mean(), rel=0.05)  # white


@pytest.mark.parametrize("cutoff", DEGRADATIONS["low_pass"].levels)
def test_energy_above_the_cutoff_falls_by_the_slope(cutoff: float) -> None:
    levels = []
    for hz in (cutoff / 4, cutoff, 1.5 * cutoff):
        wave = sine(hz)
        levels.append(10 * np.log10(energy(degraded(wave, "low_pass", cutoff)) / energy(wave)))
    below, at, above = levels
    # Butterworth of order 4: 24 dB an octave; the bilinear transform only makes it steeper.
    assert below == pytest.approx(0, abs=0.1)
    assert at == pytest.approx(-3, abs=0.2)
    assert above <= -10 * np.log10(1 + 1.5**8) + 0.3
    if cutoff <= 1000:
        assert above == pytest.approx(-10 * np.log10(1 + 1.5**8), abs=2)


@pytest.mark.parametrize("percent", DEGRADATIONS["clipping"].levels)
def test_the_share_asked_for_is_clipped(percent: float) -> None:
    wave = hissing()
    clipped = degraded(wave, "clipping", percent)
    changed = clipped != wave
    assert changed.mean() == pytest.approx(percent / 100, abs=0.002)
    assert np.abs(clipped[changed]).min() >= np.abs(clipped[~changed]).max() * 0.95
    assert len(np.unique(clipped[changed])) == 2


@pytest.mark.parametrize("level", DEGRADATIONS["gain"].levels)
def test_gain_is_in_decibels(level: float) -> None:
    wave = hissing()
    louder = degraded(wave, "gain", level)
    assert 10 * np.log10(energy(louder) / energy(wave)) == pytest.approx(level, abs=1e-3)
    np.testing.assert_allclose(louder / wave, 10 ** (level / 20), rtol=1e-5)


@pytest.mark.parametrize("level", DEGRADATIONS["pitch"].levels)
def test_pitch_moves_by_semitones_and_the_length_stays(level: float) -> None:
    wave = sine(440)
    shifted = degraded(wave, "pitch", level)
    assert len(shifted) == len(wave)
    assert 12 * np.log2(loudest_hz(shifted) / 440) == pytest.approx(level, abs=0.05)


@pytest.mark.parametrize("level", DEGRADATIONS["speed"].levels)
def test_speed_moves_pitch_and_length(level: float) -> None:
    wave = sine(440)
    faster = degraded(wave, "speed", level)
    assert len(faster) == pytest.approx(len(wave) / level, abs=2)
    assert loudest_hz(faster) == pytest.approx(440 * level, rel=1e-3)


@pytest.mark.parametrize("level", DEGRADATIONS["tempo"].levels)
def test_tempo_moves_length_alone(level: float) -> None:
    wave = sine(440)
    faster = degraded(wave, "tempo", level)
    assert len(faster) == pytest.approx(len(wave) / level, abs=2)
    assert loudest_hz(faster) == pytest.approx(440, rel=3e-3)


@pytest.mark.parametrize("level", DEGRADATIONS["mp3"].levels)
def test_mp3_keeps_length_and_place(level: float) -> None:
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    wave = (0.3 * np.sin(2 * np.pi * (200 + 200 * time) * time)).astype(np.float32)  # a sweep
    coded = degraded(wave, "mp3", level)
    assert coded.shape == wave.shape
    lags = range(-1500, 1501)
    inner = wave[2000:-2000]
    match = [float(inner @ coded[2000 + lag : len(coded) - 2000 + lag]) for lag in lags]
    assert lags[int(np.argmax(match))] == 0


def test_a_lower_bitrate_loses_more() -> None:
    wave = sine(300) + sine(1234, 0.1) + 0.3 * hissing()
    lost = [energy(degraded(wave, "mp3", level) - wave) for level in DEGRADATIONS["mp3"].levels]
    assert lost == sorted(lost)
    assert lost[0] > 0


@pytest.mark.parametrize("rt60", DEGRADATIONS["reverb"].levels)
def test_sound_dies_away_by_60_db_in_rt60(rt60: float) -> None:
    response = impulse_response(rt60, np.random.default_rng(3))
    tail = response[1:] ** 2
    left = 10 * np.log10(tail[::-1].cumsum()[::-1] / tail.sum())  # Schroeder's integral
    fitted = (left < -5) & (left > -25)
    slope, _ = np.polyfit(np.flatnonzero(fitted) / SAMPLE_RATE, left[fitted], 1)
    assert -60 / slope == pytest.approx(rt60, rel=0.1)
    assert tail.sum() == pytest.approx(response[0] ** 2)


def test_reverberation_is_as_loud_as_before_and_outlasts_the_sound() -> None:
    wave = sine(440)
    wave[len(wave) // 2 :] = 0
    wet = degraded(wave, "reverb", 1.2)
    assert wet.shape == wave.shape
    assert energy(wet) == pytest.approx(energy(wave), rel=1e-4)
    assert energy(wet[len(wave) // 2 :]) > 0.02 * energy(wet)
    np.testing.assert_array_equal(degraded(0 * wave, "reverb", 1.2), 0 * wave)


@pytest.mark.parametrize("name", [name for name in DEGRADATIONS if name != EXCERPT])
def test_the_same_generator_gives_the_same_wave(name: str) -> None:
    wave, level = hissing(0.5), DEGRADATIONS[name].levels[0]
    before = wave.copy()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    undisturbed = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = degraded(wave, name, level)
    assert (random.random(), np.random.random()) == undisturbed  # noqa: NPY002
    np.testing.assert_array_equal(wave, before)
    np.testing.assert_array_equal(degraded(wave, name, level), first)
    assert first.dtype == np.float32
    if name in ("noise", "reverb"):
        assert (degraded(wave, name, level, seed=1) != first).any()


def test_every_ladder_has_a_degradation_and_leaves_out_the_clean_level() -> None:
    assert [n for n, kind in DEGRADATIONS.items() if kind.apply is None] == [EXCERPT]
    for ladder in DEGRADATIONS.values():
        assert ladder.neutral not in ladder.levels
        if ladder.neutral is not None:
            assert list(ladder.levels) == sorted(ladder.levels)
    assert len(set(severity_levels())) == len(severity_levels())
    assert DEGRADATIONS[EXCERPT].text(0.0) == "full"
    assert DEGRADATIONS["pitch"].text(-4.0) == "−4"
    assert DEGRADATIONS["pitch"].text(1.0) == "+1"
    assert DEGRADATIONS["noise"].text(0.0) == "0"


def test_what_cannot_be_degraded_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot degrade \(32000,\) by 'echo'.*noise.*mp3"):
        degraded(sine(440), "echo", 1.0)
    with pytest.raises(ValueError, match=r"cannot degrade \(0,\)"):
        degraded(np.zeros(0, np.float32), "noise", 1.0)


def test_the_program_loads_no_degradation_before_it_degrades() -> None:
    code = (
        "import sys, app, ensemble.cli.measure; "
        "print({'audiomentations', 'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
