"""What a voice detector learns from: labels say where the stem is sung, in items of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.catalogue import Song
from embedder.data import datasets
from embedder.data.cache import AudioCache
from embedder.data.datasets import FRAMES, VoicedRemixes

FRAME, LAG = 800, -1105


def tone(hertz: int, active: np.ndarray, level: float) -> np.ndarray:
    time = np.arange(len(active) * FRAME) / 16000
    wave = level * np.sin(2 * np.pi * hertz * time) * np.repeat(active, FRAME)
    return np.round(wave * 32768).astype(np.int16)


@pytest.fixture
def songs(tmp_path: Path) -> list[Song]:
    """Two songs of 20 s: vocals at 500 Hz, other backings; each mixture lies before its stems."""
    cache, found = AudioCache(tmp_path), []
    for number in range(2):
        active = np.zeros(400, bool)
        for start in range(10 + 20 * number, 400, 60):
            active[start : start + 30] = True
        vocals = tone(500, active, 0.2)
        band = np.random.default_rng(number).normal(0, 300, len(vocals))
        steady = tone(2000 + 1000 * number, np.ones(400, bool), 0.05)
        backing = (steady + np.round(band)).astype(np.int16)
        cache.write(f"v{number}", vocals)
        cache.write(f"b{number}", backing)
        cache.write(f"m{number}", (vocals + backing)[-LAG:])
        names = (f"{stem}{number}" for stem in "mvb")
        found.append(Song(f"{number}.wav", "", "s", "a", "t", "train", 20.0, *names))
    return found


def level_at(wave: np.ndarray, hertz: int) -> np.ndarray:
    """Amplitude at a frequency in each 50 ms: (frames,)."""
    parts = wave.reshape(-1, FRAME) * np.hanning(FRAME)
    return np.abs(np.fft.rfft(parts, axis=1))[:, hertz // 20] / (FRAME / 4)


@pytest.mark.parametrize(
    ("instrumental", "mixture", "own"), [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)]
)
def test_labels_say_where_the_voice_is_heard(
    instrumental: float,
    mixture: float,
    own: float,
    songs: list[Song],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, share in (("INSTRUMENTAL", instrumental), ("MIXTURE", mixture), ("OWN", own)):
        monkeypatch.setattr(datasets, name, share)
    remixes = VoicedRemixes(songs, tmp_path, seed=1)
    remixes.augmenter.chain = []
    seen = []
    for index in range(20):
        wave, labels = (part.numpy() for part in remixes[index])
        assert wave.shape == (FRAMES * FRAME,)
        voice = level_at(wave, 500)
        loud = voice > 0.5 * voice.max()
        if instrumental:
            assert not labels.any()
            assert voice.max() < 0.05
            continue
        # Frames at the edges of a note may be cut by the song's start, nothing else differs.
        assert (loud != (labels == 1)).sum() <= 1, index
        others = [level_at(wave, hertz).max() for hertz in (2000, 3000)]
        seen.append(int(np.argmax(others)))
        spread = np.ptp(np.log10(voice[loud]))
        assert spread < 0.1
    if not instrumental:
        assert set(seen) == {0, 1}


def test_the_ratio_is_drawn_between_its_bounds(
    songs: list[Song], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INSTRUMENTAL", "MIXTURE", "OWN"):
        monkeypatch.setattr(datasets, name, 0)
    remixes = VoicedRemixes(songs, tmp_path, seed=0)
    remixes.augmenter.chain = []
    ratios = []
    for index in range(60):
        wave, labels = (part.numpy() for part in remixes[index])
        if not 30 <= labels.sum() <= 90:
            continue  # too little of one to measure
        frames = wave.reshape(-1, FRAME).astype(np.float64)
        without = np.mean(frames[labels == 0] ** 2)
        power = np.mean(frames[labels == 1] ** 2) - without
        ratios.append(10 * np.log10(max(power, 1e-12) / without))
    assert len(ratios) > 30
    assert -12.5 < min(ratios) < -9
    assert 9 < max(ratios) < 12.5


def test_an_item_depends_on_seed_and_index_alone(songs: list[Song], tmp_path: Path) -> None:
    first, second = (VoicedRemixes(songs, tmp_path, seed=3) for _ in range(2))
    forward = [first[index] for index in range(8)]
    backward = [second[index] for index in reversed(range(8))][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    other_seed = VoicedRemixes(songs, tmp_path, seed=4)
    assert not np.array_equal(forward[0][0], other_seed[0][0])


def test_a_song_shorter_than_an_item_is_silent_after_its_end(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    vocals = tone(500, np.ones(40, bool), 0.2)
    for key in ("m", "v", "b"):
        cache.write(key, vocals)
    song = Song("a.wav", "", "s", "a", "t", "train", 2.0, "m", "v", "b")
    remixes = VoicedRemixes([song], tmp_path, seed=0)
    remixes.augmenter.chain = []
    items = [remixes[index] for index in range(12)]
    assert all(not labels[40:].any() for _, labels in items)
    sung = [wave for wave, labels in items if labels.any()]
    assert sung
    assert all(not wave[40 * FRAME :].any() for wave in sung)
