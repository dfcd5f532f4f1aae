"""Spectrograms as `measure` leaves them, made of a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embedder.measures.spectrogram_file import Spectrograms


@pytest.fixture
def drawn() -> Callable[..., Spectrograms]:
    """Three singers; the vocals of the second are its mixture with noise, the third has none."""

    def make(singers: tuple[str, ...] = ("Ada", "Ben & Co", "Cem"), **changes: Any) -> Spectrograms:
        rng = np.random.default_rng(0)
        mixture = rng.integers(0, 256, (len(singers), 8, 12)).astype(np.uint8)
        vocals = rng.integers(0, 256, mixture.shape).astype(np.uint8)
        vocals[1] = (0.8 * mixture[1] + 0.2 * vocals[1]).astype(np.uint8)
        vocals[2] = 0
        values: dict[str, Any] = {
            "singers": singers,
            "songs": tuple(f"{singer}/First/0 tune.mp3" for singer in singers),
            "keys": tuple((f"mix{n}", f"vocals{n}" if n < 2 else "") for n in range(len(singers))),
            "starts_s": (1, 2, 0)[: len(singers)],
            "hertz": tuple(float(hertz) for hertz in range(500, 8500, 1000)),
            "hop_s": 0.02,
            "low_db": -50.0,
            "step_db": 0.3,
            "mixture": mixture,
            "vocals": vocals,
        }
        return Spectrograms(**{**values, **changes})

    return make
