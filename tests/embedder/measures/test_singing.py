"""Pitch of tones and glides that are known, and descriptors computed again by hand."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from embedder.measures.voices import CEPSTRA, HOP, MELS, Spectra, pitch, spectra

RATE = 16000


def sung(f0: np.ndarray, tilt_db: float = 12.0) -> np.ndarray:
    """A voice of harmonics that fall by `tilt_db` an octave, `f0 (samples,)` Hz."""
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    wave = np.zeros(len(f0))
    for number in range(1, 40):
        level = 10 ** (-tilt_db * np.log2(number) / 20)
        wave += np.where(number * f0 < 7500, level * np.sin(number * phase), 0)
    return (0.2 * wave / np.abs(wave).max()).astype(np.float32)


def semitones(found: float, true: float) -> float:
    return abs(12 * float(np.log2(found / true)))


@pytest.mark.parametrize("hz", [82.4, 220.0, 700.0])
def test_a_note_is_found_within_a_tenth_of_a_semitone(hz: float) -> None:
    found = pitch(sung(np.full(RATE, hz)))
    assert len(found) == 1 + RATE // HOP
    inside = found[4:-4]
    assert not np.isnan(inside).any()
    assert max(semitones(one, hz) for one in inside) < 0.15


def test_a_glide_has_the_quantiles_of_its_notes() -> None:
    """Two octaves evenly on a scale of pitch, so that each quantile is known."""
    samples = 3 * RATE
    f0 = 110 * 2 ** (2 * np.arange(samples) / samples)
    found = pitch(sung(f0))
    found = found[~np.isnan(found)]
    assert len(found) > 140
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert semitones(float(np.quantile(found, share)), 110 * 2 ** (2 * share)) < 0.5
    assert semitones(float(np.median(found)), 220) < 0.2


def test_noise_and_silence_have_no_pitch() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.1, size=RATE).astype(np.float32)
    assert np.isnan(pitch(noise)).mean() > 0.8
    silent = pitch(np.zeros(RATE, np.float32))
    assert len(silent) == 1 + RATE // HOP
    assert np.isnan(silent).all()
    assert np.isnan(pitch(np.zeros(500, np.float32))).all()  # shorter than a window


def test_frames_of_pitch_and_spectra_are_the_same() -> None:
    wave = sung(np.full(12345, 200.0))
    assert spectra(wave).power.shape[1] == len(pitch(wave))


def test_descriptors_by_hand() -> None:
    power = np.random.default_rng(1).gamma(0.5, size=(513, 7))
    sound = Spectra(power)
    hertz = np.arange(513) * RATE / 1024
    for frame in range(7):
        one = power[:, frame]
        assert sound.centroid()[frame] == pytest.approx((hertz * one**0.5).sum() / (one**0.5).sum())
        flat = np.exp(np.log(one.clip(1e-10)).mean()) / one.clip(1e-10).mean()
        assert sound.flatness()[frame] == pytest.approx(10 * np.log10(flat), abs=1e-6)
    bands = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=MELS) @ power
    cosines = np.cos(np.pi / MELS * np.outer(np.arange(MELS), np.arange(MELS) + 0.5))
    cepstrum = (2 / MELS) ** 0.5 * cosines @ (10 * np.log10(bands))
    np.testing.assert_allclose(sound.mfcc(), cepstrum[1 : CEPSTRA + 1].mean(axis=1), atol=1e-3)


@pytest.mark.parametrize("slope", [-12.0, -6.0, 3.0])
def test_tilt_is_the_slope_of_a_straight_spectrum(slope: float) -> None:
    hertz = np.maximum(np.arange(513) * RATE / 1024, 1.0)
    power = 10 ** (slope * np.log2(hertz / 1000) / 10)
    assert Spectra(np.stack([power, 3 * power], axis=1)).tilt() == pytest.approx(slope, abs=1e-3)


def test_loudness_changes_nothing_and_brightness_shows() -> None:
    dark, bright = (sung(np.full(RATE, 200.0), tilt) for tilt in (18.0, 6.0))
    quiet = spectra(0.02 * bright)  # an absolute floor in librosa would show
    loud = spectra(bright)
    assert np.median(quiet.centroid()) == pytest.approx(np.median(loud.centroid()), rel=1e-3)
    np.testing.assert_allclose(quiet.mfcc(), loud.mfcc(), atol=1e-2)
    np.testing.assert_allclose(quiet.flatness(), loud.flatness(), atol=0.01)
    assert np.median(loud.centroid()) > 2 * np.median(spectra(dark).centroid())
    assert loud.tilt() > spectra(dark).tilt() + 4
