"""A mixture that lies apart from its stems: found to the sample, and moved."""

from __future__ import annotations

import numpy as np
import pytest

from embedder.data.stems import FURTHEST, lag_of, moved


@pytest.mark.parametrize("lag", [-1105, -1, 0, 529, FURTHEST])
@pytest.mark.parametrize("seconds", [2, 25])
def test_a_lag_is_found_to_the_sample(lag: int, seconds: int) -> None:
    rng = np.random.default_rng(0)
    stems = rng.normal(0, 3000, seconds * 16000).astype(np.int16)
    mixture = moved(stems, lag, len(stems) + 1105)
    noisy = mixture + rng.normal(0, 2000, len(mixture))
    assert lag_of(noisy, stems) == lag


def test_a_loud_bass_does_not_hide_the_lag() -> None:
    rng = np.random.default_rng(1)
    bass = np.cumsum(rng.normal(0, 30, 20 * 16000))
    tone = 8000 * np.sin(2 * np.pi * 500 * np.arange(20 * 16000) / 16000)
    stems = (np.clip(bass, -9000, 9000) + tone + rng.normal(0, 100, 20 * 16000)).astype(np.int16)
    assert lag_of(stems[1105:], stems) == -1105


def test_silence_has_no_lag() -> None:
    some = np.random.default_rng(0).normal(size=16000)
    assert lag_of(np.zeros(16000), some) == 0
    assert lag_of(some, np.zeros(16000)) == 0


def test_moving_by_hand() -> None:
    samples = np.array([1, 2, 3], dtype=np.int16)
    assert moved(samples, 1, 5).tolist() == [0, 1, 2, 3, 0]
    assert moved(samples, -1, 3).tolist() == [2, 3, 0]
    assert moved(samples, 1, 2).tolist() == [0, 1]
    assert moved(samples, -9, 2).tolist() == moved(samples, 9, 2).tolist() == [0, 0]
