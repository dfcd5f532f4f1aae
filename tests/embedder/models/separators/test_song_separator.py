"""Songs of any length, in chunks, at another rate and back, with nothing lost at the seams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from embedder.models.separators.song_separator import (
    MIN_S,
    Floats,
    SongSeparator,
    Split,
    chunk_starts,
    resample,
    separate,
)

RATE = 16000


def separator(
    split: Split,
    rate: int = RATE,
    chunk_s: float = 2.0,
    overlap_s: float = 0.5,
    standardise: bool = False,
    weights: tuple[Path, ...] = (),
) -> SongSeparator:
    return SongSeparator("fake", weights, rate, split, chunk_s, overlap_s, standardise)


def noise(seconds: float, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def halves(wave: Tensor) -> tuple[Tensor, Tensor]:
    return 0.25 * wave, 0.75 * wave


@given(
    samples=st.integers(1, 500), length=st.integers(1, 60), part=st.floats(0, 1, exclude_max=True)
)
def test_pieces_cover_the_song_with_the_fewest_that_share_enough(
    samples: int, length: int, part: float
) -> None:
    overlap = int(part * length)
    starts = chunk_starts(samples, length, overlap)
    if samples <= length:
        assert starts == [0]
        return
    assert (starts[0], starts[-1]) == (0, samples - length)
    steps = np.diff(starts)
    assert steps.max() <= length - overlap
    assert steps.max() - steps.min() <= 1
    assert (len(starts) - 2) * (length - overlap) + length < samples  # one less would not reach


def test_an_overlap_must_be_shorter_than_a_piece() -> None:
    for overlap in (-1, 10, 11):
        with pytest.raises(ValueError, match=f"0 or more and below 10, not {overlap}"):
            chunk_starts(100, 10, overlap)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0, 2.1, 3.6, 9.77])
def test_what_is_split_without_change_comes_back_whole(seconds: float) -> None:
    wave = noise(seconds)
    vocals, backing = separate(separator(halves), wave)
    assert backing is not None
    np.testing.assert_allclose(vocals, 0.25 * wave, atol=1e-7)
    np.testing.assert_allclose(backing, 0.75 * wave, atol=1e-7)


def test_a_backing_that_is_the_rest_is_not_made() -> None:
    vocals, backing = separate(separator(lambda wave: (0.5 * wave, None)), noise(3))
    assert backing is None
    np.testing.assert_allclose(vocals, 0.5 * noise(3), atol=1e-7)


def test_pieces_fade_linearly_into_each_other() -> None:
    """Each chunk answers with a constant of its own: the song shows how they are weighed."""
    answers = iter([1.0, 3.0])

    def constant(wave: Tensor) -> tuple[Tensor, None]:
        return torch.full_like(wave, next(answers)), None

    vocals, _ = separate(separator(constant), noise(3.5))  # 0 to 2 s and 1.5 to 3.5 s
    np.testing.assert_array_equal(vocals[:24000], 1)
    np.testing.assert_allclose(vocals[24000:32000], np.linspace(1, 3, 8001)[:-1] + 1 / 8000, 1e-5)
    np.testing.assert_array_equal(vocals[32000:], 3)


def test_no_more_than_a_piece_is_heard_at_once_however_long_the_song() -> None:
    heard: list[int] = []

    def watched(wave: Tensor) -> tuple[Tensor, None]:
        heard.append(len(wave))
        return wave, None

    separate(separator(watched), noise(60))
    assert set(heard) == {2 * RATE}
    assert len(heard) == 40  # (60 - 0.5) / (2 - 0.5), rounded up


@pytest.mark.parametrize("rate", [44100, 48000, 22050, RATE])
def test_a_tone_comes_back_with_the_same_phase_and_level(rate: int) -> None:
    time = np.arange(5 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time + 0.7)).astype(np.float32)
    vocals, backing = separate(separator(halves, rate=rate), tone)
    assert backing is not None
    for stem, share in ((vocals, 0.25), (backing, 0.75)):
        assert len(stem) == len(tone)
        inside = slice(1600, -1600)  # the tone begins and ends with a step
        np.testing.assert_allclose(stem[inside], share * tone[inside], atol=2e-4)


@pytest.mark.parametrize("rate", [44100, 7999])
def test_a_network_hears_the_song_at_its_own_rate(rate: int) -> None:
    heard: list[Floats] = []

    def watched(wave: Tensor) -> tuple[Tensor, None]:
        heard.append(wave.numpy().copy())
        return wave, None

    for samples in (RATE + 1, RATE + 7, 30001):
        wave = noise(2)[:samples]
        vocals, _ = separate(separator(watched, rate=rate), wave)
        assert len(vocals) == samples
        assert abs(len(heard[-1]) - samples * rate / RATE) <= 1
        np.testing.assert_array_equal(heard[-1], resample(wave, RATE, rate))


def test_a_song_is_heard_at_mean_0_and_deviation_1_where_that_is_wanted() -> None:
    """Statistics are the song's, not the chunk's; the constant offset stays with the backing."""
    heard: list[Floats] = []

    def watched(wave: Tensor) -> tuple[Tensor, Tensor]:
        heard.append(wave.numpy().copy())
        return 0.25 * wave, 0.75 * wave

    wave = noise(3.5) * np.repeat([1, 5], 28000).astype(np.float32) + 0.1
    vocals, backing = separate(separator(watched, standardise=True), wave)
    standard = (wave - wave.mean()) / wave.std()
    np.testing.assert_allclose(heard[0], standard[: 2 * RATE], atol=1e-4)
    np.testing.assert_allclose(heard[1], standard[-2 * RATE :], atol=1e-4)
    assert backing is not None
    np.testing.assert_allclose(vocals, 0.25 * (wave - wave.mean()), atol=1e-5)
    np.testing.assert_allclose(vocals + backing, wave, atol=1e-5)


def test_silence_stays_silence() -> None:
    for standardise in (False, True):
        some = separator(halves, rate=44100, standardise=standardise)
        vocals, backing = separate(some, np.zeros(3 * RATE, np.float32))
        assert not vocals.any()
        assert backing is not None
        assert not backing.any()


def test_short_songs_are_filled_up_for_the_network_alone() -> None:
    heard: list[int] = []

    def watched(wave: Tensor) -> tuple[Tensor, Tensor]:
        heard.append(len(wave))
        return wave, wave

    wave = noise(0.1)
    for stem in separate(separator(watched), wave):
        np.testing.assert_array_equal(stem, wave)
    assert heard == [round(MIN_S * RATE)]


def test_a_wave_must_have_one_axis_and_a_sample() -> None:
    for shape in ((0,), (2, 16000)):
        with pytest.raises(ValueError, match=r"must be \(samples ≥ 1,\), not"):
            separate(separator(halves), np.zeros(shape, np.float32))


def test_the_fingerprint_is_that_of_method_and_weights(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(b"weights")
    first = separator(halves, weights=(files[0],)).fingerprint()
    assert separator(halves, weights=(files[1],)).fingerprint() == first  # wherever they lie
    assert separator(halves, weights=tuple(files)).fingerprint() != first
    other = SongSeparator("other", (files[0],), RATE, halves, 2.0, 0.5)
    assert other.fingerprint() != first
    files[0].write_bytes(b"others")
    assert separator(halves, weights=(files[0],)).fingerprint() != first
