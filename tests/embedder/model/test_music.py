"""Chroma, dissonance, onsets: against loops, and against what notes and intervals are known for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio

from embedder.models.zoo import descriptors

RATE, BINS = 16000, 1025
HERTZ = np.arange(BINS) * RATE / (2 * (BINS - 1))


@pytest.fixture(scope="module")
def harmony() -> descriptors.Harmony:
    return descriptors.Harmony(BINS)


def spectrum(*frequencies: float) -> torch.Tensor:
    """Sines of amplitude 0.1, 1 s, without the frames at the ends."""
    time = np.arange(RATE) / RATE
    wave = sum(0.1 * np.sin(2 * np.pi * f * time) for f in frequencies)
    transform = torchaudio.transforms.Spectrogram(n_fft=2048, hop_length=512, power=1.0)
    magnitude: torch.Tensor = transform(torch.from_numpy(wave.astype(np.float32))[None])
    return magnitude[:, :, 3:-3]


@pytest.mark.parametrize(
    ("frequency", "pitch_class"),
    [(440.0, 9), (880.0, 9), (261.63, 0), (1046.5, 0), (311.13, 3), (493.88, 11), (1479.98, 6)],
)
def test_a_note_is_its_pitch_class(
    harmony: descriptors.Harmony, frequency: float, pitch_class: int
) -> None:
    chroma, _ = harmony(spectrum(frequency))
    assert (chroma.argmax(dim=1) == pitch_class).all()
    torch.testing.assert_close(chroma.sum(dim=1), torch.ones_like(chroma[:, 0]), atol=1e-3, rtol=0)


def test_each_bin_weighs_by_its_distance_in_semitones() -> None:
    weights = descriptors.pitch_classes(BINS)
    for bin_, note in ((20, 0), (57, 9), (113, 9), (200, 4), (260, 11)):
        semitones = 12 * math.log2(HERTZ[bin_] / 261.6255653)  # above middle C
        away = min(abs(semitones - note + 12 * octave) for octave in range(-5, 6))
        expected = math.exp(-0.5 * (away / 0.5) ** 2)
        assert float(weights[note, bin_]) == pytest.approx(expected, abs=1e-3)
    outside = (HERTZ < 130) | (HERTZ > 2100)
    assert (weights.numpy()[:, outside] == 0).all()


def test_roughness_is_the_curve_of_sethares() -> None:
    pairs = descriptors.roughness(BINS)
    assert pairs.shape == (513, 513)  # up to 4 kHz
    assert torch.equal(pairs, pairs.T)
    assert (pairs.diagonal() == 0).all()
    for one, other in ((20, 23), (100, 130), (400, 512)):
        low, high = HERTZ[one], HERTZ[other]
        scale = 0.24 / (0.021 * low + 19)
        expected = math.exp(-3.5 * scale * (high - low)) - math.exp(-5.75 * scale * (high - low))
        assert float(pairs[one, other]) == pytest.approx(expected, abs=1e-5)
        assert float(pairs[other, one]) == pytest.approx(expected, abs=1e-5)


def test_a_semitone_is_rougher_than_a_fifth_and_one_tone_is_smooth(
    harmony: descriptors.Harmony,
) -> None:
    def dissonance(*frequencies: float) -> float:
        return float(harmony(spectrum(*frequencies))[1].mean())

    assert dissonance(523.25, 554.37) > 3 * dissonance(523.25, 783.99)
    assert dissonance(523.25, 783.99) > dissonance(523.25, 1046.5) > dissonance(523.25)


def test_dissonance_is_summed_over_pairs_of_peaks(harmony: descriptors.Harmony) -> None:
    magnitude = np.random.default_rng(0).uniform(0, 1, (2, BINS, 2)).astype(np.float32)
    _, dissonance = harmony(torch.from_numpy(magnitude))
    for item, frame in np.ndindex(2, 2):
        row = magnitude[item, :, frame]
        peaks = [b for b in range(513) if (b == 0 or row[b] > row[b - 1]) and row[b] > row[b + 1]]
        total = 0.0
        for n, a in enumerate(peaks):
            for b in peaks[n + 1 :]:
                total += row[a] * row[b] * float(harmony.pairs[a, b])
        expected = total / (sum(row[b] ** 2 for b in peaks) + descriptors.FLOOR)
        assert float(dissonance[item, frame]) == pytest.approx(expected, rel=1e-3)


def test_onsets_count_what_rises() -> None:
    mel = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 5, 7)).astype(np.float32))
    rise = descriptors.onsets(mel)
    for item, frame in np.ndindex(2, 7):
        now, before = mel[item, :, frame], mel[item, :, max(0, frame - 1)]
        expected = sum(max(0.0, float(a - b)) for a, b in zip(now, before, strict=True)) / 5
        assert float(rise[item, frame]) == pytest.approx(expected, abs=1e-6)
    assert (descriptors.onsets(mel.sort(dim=2, descending=True).values) == 0).all()


def test_octaves_are_counted_from_250_hz() -> None:
    torch.testing.assert_close(
        descriptors.octaves(torch.tensor([125.0, 250.0, 1000.0])), torch.tensor([-1.0, 0.0, 2.0])
    )


def test_silence_has_neither_chroma_nor_dissonance(harmony: descriptors.Harmony) -> None:
    chroma, dissonance = harmony(torch.zeros(1, BINS, 2))
    assert (chroma == 0).all()
    assert (dissonance == 0).all()
