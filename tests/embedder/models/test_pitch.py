"""The sung pitch: combs and path against brute force, tones of known pitch, a loud bass."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from embedder.models import pitch
from embedder.models.pitch import GLIDE, HIGHEST, JUMP, LOWEST, N_FFT, REACH, STEP, Pitch

RATE = 16000


@pytest.fixture(scope="module")
def tracker() -> Pitch:
    return Pitch(512)


def tone(
    f0: np.ndarray | float, seconds: float = 1.0, tilt: float = 1.0, first: int = 1
) -> np.ndarray:
    """Harmonics from the `first` on up to 7 kHz, amplitudes falling as k**−tilt."""
    samples = round(seconds * RATE)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0, samples)) / RATE
    numbers = range(first, int(7000 / np.max(f0)) + 1)
    return sum(0.1 * k**-tilt * np.sin(k * phase) for k in numbers)


def wave_of(*rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def cents(f0: Tensor, truth: float | np.ndarray) -> np.ndarray:
    """Distance to the truth, without the frames whose window reaches beyond the ends."""
    away = 1200 * np.log2(f0.double().numpy() / truth)
    return np.abs(away[..., 2:-2])


def test_candidates_go_from_80_to_1000_hz_in_steps_of_20_cents() -> None:
    pitches = pitch.candidates().numpy()
    np.testing.assert_allclose(1200 * np.log2(pitches[1:] / pitches[:-1]), STEP)
    assert pitches[0] == LOWEST
    assert pitches[-1] <= HIGHEST < pitches[-1] * 2 ** (STEP / 1200)


@pytest.mark.parametrize("f0", [80.0, 333.3, 1000.0])
def test_a_comb_has_teeth_at_harmonics_and_gaps_halfway(f0: float) -> None:
    weights = np.zeros(N_FFT // 2 + 2)
    for number in range(1, 9):
        for place, share in ((number * f0, 1.0), ((number - 0.5) * f0, -0.3)):
            low, part = divmod(place * N_FFT / RATE, 1)
            weights[int(low)] += share * 0.8 ** (number - 1) * (1 - part)
            weights[int(low) + 1] += share * 0.8 ** (number - 1) * part
    comb = pitch.comb(torch.tensor([f0], dtype=torch.float64))
    np.testing.assert_allclose(comb[0].numpy(), weights[:-1], atol=1e-9)


@pytest.mark.parametrize("tilt", [0.5, 1.5])
def test_tones_have_the_pitch_that_they_were_given(tracker: Pitch, tilt: float) -> None:
    truths = (82.0, 110.0, 196.0, 330.0, 523.0, 980.0)
    f0, strength = tracker(wave_of(*(tone(truth, tilt=tilt) for truth in truths)))
    assert f0.shape == strength.shape == (6, 1 + RATE // 512)
    for row, truth in enumerate(truths):
        assert cents(f0[row], truth).max() < STEP
        assert strength[row, 2:-2].min() > 0.35


def test_a_pitch_is_heard_without_its_fundamental(tracker: Pitch) -> None:
    f0, _ = tracker(wave_of(tone(220.0, first=2)))
    assert cents(f0, 220.0).max() < STEP


def test_a_bass_of_twice_the_amplitude_is_not_the_voice(tracker: Pitch) -> None:
    voice = tone(392.0, tilt=1.0)
    bass = 2 * 0.1 * np.sin(2 * np.pi * 98.0 * np.arange(len(voice)) / RATE)
    f0, _ = tracker(wave_of(voice + bass))
    assert cents(f0, 392.0).max() < STEP


def test_a_vibrato_is_followed(tracker: Pitch) -> None:
    seconds = np.arange(2 * RATE) / RATE
    truth = 300 * 2 ** (np.sin(2 * np.pi * 5.5 * seconds) / 12)
    f0, _ = tracker(wave_of(tone(truth, 2.0)))
    frames = truth[np.minimum(512 * np.arange(f0.shape[1]), len(truth) - 1)]
    assert np.median(cents(f0, frames)) < 25
    assert cents(f0, frames).max() < 80


def test_the_strength_is_the_cosine_between_comb_and_spectrum(tracker: Pitch) -> None:
    rng = np.random.default_rng(0)
    wave = tone(250.0) + 0.02 * rng.normal(size=RATE)
    f0, strength = tracker(wave_of(wave))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    padded = np.pad(wave, N_FFT // 2, mode="reflect")
    hertz = np.arange(N_FFT // 2 + 1) * RATE / N_FFT
    for frame in (5, 17):
        spectrum = np.abs(np.fft.rfft(window * padded[512 * frame :][:N_FFT]))
        spectrum *= hertz / (hertz + 200)
        comb = pitch.comb(f0[:, frame].double())[0].numpy()
        cosine = comb @ spectrum / np.linalg.norm(comb) / np.linalg.norm(spectrum)
        assert float(strength[0, frame]) == pytest.approx(cosine, abs=1e-4)


def test_noise_is_weak_and_silence_has_no_strength(tracker: Pitch) -> None:
    noise = 0.1 * np.random.default_rng(1).normal(size=RATE)
    f0, strength = tracker(wave_of(tone(250.0), noise, np.zeros(RATE)))
    assert strength[1].mean() < 0.5 * strength[0].mean()
    assert (strength[2] == 0).all()
    assert ((f0 >= LOWEST) & (f0 <= HIGHEST)).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_path_is_the_best_of_all_paths(tracker: Pitch, seed: int) -> None:
    """Every path through 30 pitches and three frames, whose scores are worth a jump or not."""
    score = np.random.default_rng(seed).normal(0, 1, (2, 30, 3)) * np.array([[[8.0]], [[3.0]]])
    steps = np.abs(np.subtract.outer(np.arange(30), np.arange(30))) * STEP
    costs = np.where(steps <= REACH, steps / GLIDE, JUMP)
    for row in range(2):
        totals = {
            (a, b, c): score[row, a, 0] + score[row, b, 1] + score[row, c, 2] - costs[a, b] - cost
            for a, b in itertools.product(range(30), repeat=2)
            for c, cost in enumerate(costs[b])
        }
        found = tracker.path(torch.from_numpy(score).float())[row].tolist()
        assert found == list(max(totals, key=totals.__getitem__))


def test_more_frames_a_second_find_the_same_pitches() -> None:
    """Short notes in noise, where the weight of a frame decides whether a jump is worth it."""
    rng = np.random.default_rng(2)
    tunes = [np.concatenate([tone(f, 0.15) for f in rng.uniform(150, 700, 12)]) for _ in range(3)]
    wave = wave_of(*(tune + 0.12 * rng.normal(size=len(tune)) for tune in tunes))
    coarse, fine = Pitch(512)(wave)[0], Pitch(256)(wave)[0]
    away = 1200 * (fine[:, ::2] / coarse).log2().abs()
    assert (away < 50).float().mean() > 0.88


def test_neither_loudness_nor_precision_nor_company_matters(tracker: Pitch) -> None:
    wave = wave_of(tone(300.0), tone(150.0), 0.1 * np.random.default_rng(2).normal(size=RATE))
    f0, strength = tracker(wave)
    louder = tracker(8 * wave)
    torch.testing.assert_close(louder[0], f0)
    torch.testing.assert_close(louder[1], strength, atol=1e-5, rtol=0)
    torch.testing.assert_close(tracker(wave[1:2])[0], f0[1:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = tracker(wave)
    assert torch.equal(half[0], f0)
    assert torch.equal(half[1], strength)
    assert math.isfinite(float(strength.sum()))
