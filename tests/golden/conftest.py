"""`--renew`, and synthetic singers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="Write the golden files again.")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--renew", default=False):
        config.option.markexpr = ""  # the slow run too


@pytest.fixture(scope="session")
def sing() -> Callable[..., None]:
    """`sing(folder, "a/b.flac", singer, album, song)`: a song of 6 s, its vocals and backing.

    They lie below `mix/`, `vocals/` and `backing/`; every other song is in stereo at 44.1 kHz.
    Singers differ in pitch and formants, albums in chord and noise; every fourth note is a rest.
    """
    return _sing


def _sing(folder: Path, name: str, singer: int, album: int, song: int) -> None:
    rate = (16000, 44100)[song % 2]
    rng, band = np.random.default_rng([singer, album, song]), np.random.default_rng([9, album])
    time_s = np.arange(6 * rate) / rate
    note = (2.5 * time_s).astype(int)  # 0.4 s each
    steps = rng.choice([0, 2, 4, 5, 7, 9], note[-1] + 1)
    pitches = 110 * 2 ** ((2 * singer + steps) / 12)  # Hz
    vibrato = 1 + 0.01 * np.sin(2 * np.pi * (4 + singer / 2) * time_s)
    phase = 2 * np.pi * np.cumsum(pitches[note] * vibrato) / rate
    formants = np.array([300, 1100, 2500]) + np.array([60, 100, 50]) * singer
    vocals = np.zeros(len(time_s))
    for harmonic in range(1, 25):
        nearness = np.exp(-(((harmonic * pitches[:, None] - formants) / 250) ** 2)).sum(axis=1)
        vocals += (0.05 + nearness[note]) / harmonic**0.5 * np.sin(harmonic * phase)
    vocals *= (note % 4 < 3) * np.minimum(1, 8 * ((2.5 * time_s) % 1)) * 0.12
    chord = 55 * 2 ** ((band.integers(12) + np.array([0, 4, 7, 12, 19])) / 12)
    backing = 0.04 * sum(np.sin(2 * np.pi * tone * time_s + tone) for tone in chord)
    backing += band.uniform(0.01, 0.03) * rng.normal(size=len(time_s)) * ((4 * time_s) % 1 < 0.2)
    for stem, wave in (("vocals", vocals), ("backing", backing), ("mix", vocals + backing)):
        file = folder / stem / name
        file.parent.mkdir(parents=True, exist_ok=True)
        sides = wave if rate == 16000 else np.stack([wave, 0.7 * wave], axis=1)
        soundfile.write(file, np.clip(sides, -1, 1), rate)
