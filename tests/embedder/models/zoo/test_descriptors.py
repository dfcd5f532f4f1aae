"""Descriptors of timbre, harmony and rhythm: against loops, and on tones, notes and intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torchaudio

from embedder.models.zoo import descriptors

RATE, WINDOW, HOP = 16000, 2048, 512
BINS = WINDOW // 2 + 1
HERTZ = np.arange(WINDOW // 2 + 1) * RATE / WINDOW


def spectrum(wave: torch.Tensor) -> torch.Tensor:
    transform = torchaudio.transforms.Spectrogram(n_fft=WINDOW, hop_length=HOP, power=1.0)
    magnitude: torch.Tensor = transform(wave)
    return magnitude


def noises(seed: int, batch: int = 2, samples: int = 8000) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(batch, samples)) * rng.uniform(0.05, 0.2, (batch, 1))
    white[0] = np.convolve(white[0], [0.5, 0.3, 0.2], mode="same")  # one darker than the other
    return torch.from_numpy(white.astype(np.float32))


def tone(f0: float, amplitudes: list[float], samples: int = 8000) -> torch.Tensor:
    time = np.arange(samples) / RATE
    wave = sum(a * np.sin(2 * np.pi * f0 * (k + 1) * time) for k, a in enumerate(amplitudes))
    return torch.from_numpy(np.asarray(wave, dtype=np.float32))[None]


def slow_shape(magnitude: np.ndarray) -> list[float]:
    """The definitions, for one frame."""
    magnitude = magnitude.astype(np.float64) + descriptors.FLOOR
    share = magnitude / magnitude.sum()
    centroid = sum(share * HERTZ)
    spread = math.sqrt(sum(share * (HERTZ - centroid) ** 2))
    power = magnitude**2
    so_far, rolled = 0.0, 0
    while so_far + power[rolled] < 0.85 * power.sum():
        so_far += power[rolled]
        rolled += 1
    formant = power[(HERTZ >= 2000) & (HERTZ < 4000)].max()
    return [
        math.log2(centroid / 1000),
        math.log2(spread / 1000),
        sum(share * ((HERTZ - centroid) / spread) ** 3),
        math.log(sum(share * ((HERTZ - centroid) / spread) ** 4)),
        math.log(np.exp(np.log(power).mean()) / power.mean()),
        math.log(power.max() / power.mean()),
        math.log2(HERTZ[max(rolled, 1)] / 1000),
        math.log(formant / power[HERTZ < 2000].max()),
    ]


def test_shapes_are_those_of_their_definitions() -> None:
    magnitude = spectrum(torch.cat([noises(0), tone(300, [1, 0.5, 0.25, 0.1])]))
    rows = descriptors.spectral_shape(magnitude)
    assert rows.shape == (3, descriptors.SHAPE_ROWS, magnitude.shape[2])
    for item in range(3):
        for frame in (0, 7, 15):
            expected = slow_shape(magnitude[item, :, frame].numpy())
            np.testing.assert_allclose(rows[item, :, frame].numpy(), expected, atol=2e-3)


def test_the_contrast_is_peaks_to_valleys_in_octaves() -> None:
    magnitude = spectrum(noises(2))
    rows = descriptors.spectral_contrast(magnitude)
    edges = (0, 200, 400, 800, 1600, 3200, 8001)
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = (low <= HERTZ) & (high > HERTZ)
        for item, frame in ((0, 3), (1, 11)):
            band = sorted(magnitude[item, :, frame].numpy()[inside])
            count = max(1, round(0.02 * len(band)))
            expected = math.log(np.mean(band[-count:]) + descriptors.FLOOR)
            expected -= math.log(np.mean(band[:count]) + descriptors.FLOOR)
            assert float(rows[item, number, frame]) == pytest.approx(expected, abs=1e-4)
    assert (
        descriptors.spectral_contrast(spectrum(tone(1000, [1.0])))[0, 3].mean()
        > rows[:, 3].mean() + 3
    )


def test_harmonics_are_the_levels_of_the_tone() -> None:
    amplitudes = [0.4, 0.8, 0.1, 0.2, 0.05, 0.1, 0.02, 0.3]
    f0 = 32 * RATE / WINDOW  # on a bin, 250 Hz
    magnitude = spectrum(tone(f0, amplitudes))
    rows = descriptors.harmonic_levels(magnitude, torch.full((1, magnitude.shape[2]), f0))[
        0, :, 4:-4
    ]
    power = np.square(amplitudes) / np.square(amplitudes).sum()
    np.testing.assert_allclose(rows.mean(dim=1).numpy(), np.log(power), atol=0.02)
    torch.testing.assert_close(rows.exp().sum(dim=0), torch.ones(rows.shape[1]))


def test_harmonics_follow_the_pitch_of_each_frame() -> None:
    magnitude = torch.zeros(1, 1025, 2)
    magnitude[0, 64, 0] = magnitude[0, 3 * 90 + 2, 1] = 1  # a fundamental; a third harmonic, near
    rows = descriptors.harmonic_levels(magnitude, torch.tensor([[64, 90]]) * RATE / WINDOW)
    assert rows[0, :, 0].argmax() == 0
    assert rows[0, :, 1].argmax() == 2
    assert descriptors.harmonic_levels(magnitude, torch.full((1, 2), 1000.0)).isfinite().all()


@pytest.mark.parametrize("samples", [8000, 8100])
def test_zero_crossings_are_counted_in_each_window(samples: int) -> None:
    wave = noises(3, samples=samples)
    rows = descriptors.zero_crossings(wave, WINDOW, HOP)
    assert rows.shape == (2, 1 + samples // HOP)
    for item in range(2):
        padded = np.pad(wave[item].numpy(), WINDOW // 2, mode="reflect")
        for frame in (0, 5, samples // HOP):
            piece = padded[HOP * frame :][:WINDOW]
            count = sum(a * b < 0 for a, b in itertools.pairwise(piece))
            expected = math.log(WINDOW * count / (WINDOW - 1) + 1)
            assert float(rows[item, frame]) == pytest.approx(expected, abs=1e-4)


def test_silence_and_a_single_line_have_finite_descriptors() -> None:
    magnitude = torch.zeros(2, 1025, 3)
    magnitude[1, 0] = 100.0  # all of it at 0 Hz
    for rows in (descriptors.spectral_shape(magnitude), descriptors.spectral_contrast(magnitude)):
        assert rows.isfinite().all()
        assert rows.abs().max() < 50
    assert (descriptors.spectral_contrast(magnitude)[0] == 0).all()
    assert (descriptors.zero_crossings(torch.zeros(1, 4096), WINDOW, HOP) == 0).all()


# Harmony and rhythm ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harmony() -> descriptors.Harmony:
    return descriptors.Harmony(BINS)


def sines(*frequencies: float) -> torch.Tensor:
    """Sines of amplitude 0.1, 1 s, without the frames at the ends."""
    time = np.arange(RATE) / RATE
    wave = sum(0.1 * np.sin(2 * np.pi * f * time) for f in frequencies)
    return spectrum(torch.from_numpy(wave.astype(np.float32))[None])[:, :, 3:-3]


@pytest.mark.parametrize(
    ("frequency", "pitch_class"),
    [(440.0, 9), (880.0, 9), (261.63, 0), (1046.5, 0), (311.13, 3), (493.88, 11), (1479.98, 6)],
)
def test_a_note_is_its_pitch_class(
    harmony: descriptors.Harmony, frequency: float, pitch_class: int
) -> None:
    chroma, _ = harmony(sines(frequency))
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
