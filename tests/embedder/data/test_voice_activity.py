"""Voice activity by energy: the song's own level, pauses and bursts, shares of stretches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from embedder.data.voice_activity import (
    BELOW_DB,
    BURST,
    FRAME,
    GAP,
    frame_levels,
    smoothed,
    sung,
    voice_share,
)

S = 16000
MASKS = arrays(np.bool_, st.integers(0, 60))


def voice(*seconds: float, level: float = 0.2) -> np.ndarray:
    """A tone and silence in turn, beginning with the tone, of these lengths: float (samples,)."""
    parts = []
    for number, length in enumerate(seconds):
        time = np.arange(round(length * S)) / S
        parts.append((number % 2 == 0) * level * np.sin(2 * np.pi * 200 * time))
    return np.concatenate(parts).astype(np.float32)


def runs(active: np.ndarray) -> list[tuple[bool, int]]:
    """Lengths of equal values, the slow way."""
    found: list[tuple[bool, int]] = []
    for value in active.tolist():
        if found and found[-1][0] == value:
            found[-1] = value, found[-1][1] + 1
        else:
            found.append((value, 1))
    return found


def test_levels_are_root_mean_squares_of_50_ms() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 2 * FRAME + 300).astype(np.float32)
    slow = [np.sqrt(np.mean(wave[a : a + FRAME].astype(float) ** 2)) for a in (0, 800, 1600)]
    np.testing.assert_allclose(frame_levels(wave), slow, rtol=1e-5)
    loud = np.round(wave * 32768).astype(np.int16)
    np.testing.assert_allclose(frame_levels(loud), slow, rtol=1e-3)
    # The largest int16 must not overflow when it is squared.
    np.testing.assert_allclose(frame_levels(np.full(900, -32768, np.int16)), [1, 1])
    assert frame_levels(np.zeros(0, np.int16)).shape == (0,)


def test_voice_is_found_where_it_is() -> None:
    found = sung(voice(2, 1, 3, 2, 1))
    assert runs(found) == [(True, 40), (False, 20), (True, 60), (False, 40), (True, 20)]


@pytest.mark.parametrize("gain", [0.01, 0.1, 3.0])
def test_a_gain_changes_nothing(gain: float) -> None:
    quiet_part = voice(1, 1, 1) + 0.1 * np.roll(voice(1, 1, 1), S)
    assert np.array_equal(sung(quiet_part), sung((gain * quiet_part).astype(np.float32)))


def test_the_threshold_is_relative_to_the_loudest_second() -> None:
    wave = voice(2, 2, 2)
    for above_db, expected in ((1.0, True), (-1.0, False)):
        residue = voice(6, level=0.2 * 10 ** ((BELOW_DB + above_db) / 20))
        assert sung(wave + np.where(wave == 0, residue, 0))[50] == expected


def test_a_song_with_little_voice_is_judged_like_any_other() -> None:
    residue = 0.001 * np.sin(np.arange(120 * S)).astype(np.float32)  # -43 dB under the voice
    residue[60 * S : 62 * S] += voice(2)
    assert runs(sung(residue)) == [(False, 1200), (True, 40), (False, 1160)]


def test_silence_and_noise_floors_hold_no_voice() -> None:
    assert not sung(np.zeros(5 * S, np.int16)).any()
    dither = np.random.default_rng(0).integers(-1, 2, 5 * S).astype(np.int16)
    assert not sung(dither).any()
    assert sung(np.zeros(0, np.int16)).shape == (0,)
    assert sung(voice(0.3)).tolist() == [True] * 6  # shorter than the second that is looked for


def test_pauses_are_filled_and_bursts_dropped() -> None:
    def mask(*lengths: int) -> np.ndarray:
        return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)  # begins with silence

    assert runs(smoothed(mask(9, 4, GAP, 4, 9))) == [(False, 9), (True, 8 + GAP), (False, 9)]
    assert runs(smoothed(mask(9, 4, GAP + 1, 4, 9)))[2] == (False, GAP + 1)
    assert not smoothed(mask(9, BURST, 9)).any()
    assert runs(smoothed(mask(9, BURST + 1, 9)))[1] == (True, BURST + 1)
    # A burst that is near others is part of them: pauses are filled first.
    assert runs(smoothed(mask(9, 1, 2, 1, 2, 1, 9)))[1] == (True, 7)
    # Silence at the ends is no pause, however short.
    assert runs(smoothed(mask(2, 5, 2))) == [(False, 2), (True, 5), (False, 2)]


@given(MASKS)
def test_what_is_smoothed_once_stays(mask: np.ndarray) -> None:
    once = smoothed(mask)
    assert np.array_equal(once, smoothed(once))
    inside = runs(once)[1:-1]
    assert all(length > (BURST if value else GAP) for value, length in inside)


def test_shares_by_hand() -> None:
    active = np.array([1, 1, 0, 0, 1, 0, 0, 0], dtype=bool)
    starts = np.array([0, 800, 400, 2000, 4800])
    found = voice_share(active, starts, 1600)
    # 2000 samples are frame 2.5: half of frame 2, frame 3, half of frame 4.
    np.testing.assert_allclose(found, [1, 0.5, 0.75, 0.25, 0], atol=1e-6)
    assert found.dtype == np.float32


def test_what_lies_past_the_end_does_not_count() -> None:
    active = np.array([0, 0, 1, 1], dtype=bool)
    np.testing.assert_allclose(voice_share(active, np.array([1600, 0, 9000]), 8000), [1, 0.5, 0])
    assert voice_share(np.zeros(0, bool), np.array([0]), 800).tolist() == [0]


@given(arrays(np.bool_, st.integers(1, 50)), st.integers(0, 40000), st.integers(1, 30000))
def test_a_share_is_the_mean_over_the_samples(active: np.ndarray, start: int, samples: int) -> None:
    there = np.repeat(active, FRAME)[start : start + samples]
    expected = there.mean() if len(there) else 0
    found = voice_share(active, np.array([start]), samples)[0]
    assert found == pytest.approx(expected, abs=1e-5)
