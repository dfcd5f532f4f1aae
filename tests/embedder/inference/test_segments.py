"""The grid on which a song is heard: covered, inside, ascending; and short songs repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.config import SAMPLE_RATE
from embedder.inference.segments import cut, grid, more_starts

LENGTHS = st.integers(1, 5000)


@given(LENGTHS, st.integers(1, 600), st.data())
def test_a_grid_covers_the_song_and_stays_inside(
    samples: int, segment: int, data: st.DataObject
) -> None:
    hop = data.draw(st.integers(1, segment))
    starts = grid(samples, segment, hop)
    assert starts.dtype == np.int64
    assert starts[0] == 0
    if samples <= segment:
        assert starts.tolist() == [0]
        return
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= hop).all()  # no gap: a hop is no longer than a segment
    assert starts[-1] + segment <= samples
    assert samples - (starts[-1] + segment) < max(1, hop / 2)  # less than half a hop is unheard
    inner = starts if starts[-1] % hop == 0 else starts[:-1]
    np.testing.assert_array_equal(inner, hop * np.arange(len(inner)))
    if len(inner) < len(starts):
        assert starts[-1] == samples - segment


@given(LENGTHS, st.integers(1, 600), st.integers(1, 900))
def test_no_segment_is_missing_or_needless(samples: int, segment: int, hop: int) -> None:
    starts = set(grid(samples, segment, hop).tolist())
    expected = {0}
    position = hop
    while position + segment <= samples:
        expected.add(position)
        position += hop
    rest = samples - (max(expected) + segment)
    if rest >= max(1, hop // 2):
        expected.add(samples - segment)
    assert starts == expected


@pytest.mark.parametrize(
    ("samples", "starts"),
    [
        (48000, [0]),
        (48001, [0]),
        (59999, [0]),
        (60000, [0, 12000]),
        (72000, [0, 24000]),
        (100000, [0, 24000, 48000]),
        (120000, [0, 24000, 48000, 72000]),
        (140000, [0, 24000, 48000, 72000, 92000]),
    ],
)
def test_three_seconds_by_one_and_a_half(samples: int, starts: list[int]) -> None:
    wave = (np.arange(samples) % 30011).astype(np.int16)
    found, segments = cut(wave, 3.0, 1.5)
    assert found.tolist() == starts
    assert segments.dtype == np.int16
    np.testing.assert_array_equal(segments, [wave[start : start + 48000] for start in starts])


@given(st.integers(1, 7999))
def test_a_song_shorter_than_a_segment_is_repeated(samples: int) -> None:
    wave = np.arange(1, samples + 1, dtype=np.int16)
    starts, segments = cut(wave, 0.5, 0.25)
    assert starts.tolist() == [0]
    np.testing.assert_array_equal(segments, [[wave[i % samples] for i in range(8000)]])


def test_a_song_as_long_as_a_segment_is_heard_as_it_is() -> None:
    wave = np.arange(8000, dtype=np.int16)
    starts, segments = cut(wave, 0.5, 0.25)
    assert starts.tolist() == [0]
    np.testing.assert_array_equal(segments, wave[None])


def test_a_memory_map_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "song.npy"
    wave = np.random.default_rng(0).integers(-32768, 32767, 5 * SAMPLE_RATE).astype(np.int16)
    np.save(path, wave)
    mapped = np.load(path, mmap_mode="r")
    for of_map, of_array in zip(cut(mapped, 2.0, 0.7), cut(wave, 2.0, 0.7), strict=True):
        np.testing.assert_array_equal(of_map, of_array)


def test_what_is_heard_does_not_change_the_song() -> None:
    wave = np.arange(20000, dtype=np.int16)
    _, segments = cut(wave, 0.5, 0.25)
    segments[:] = 0
    np.testing.assert_array_equal(wave, np.arange(20000, dtype=np.int16))


# Random segments more ---------------------------------------------------------------------------


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-999, 999, samples).astype(np.int16)


def test_more_segments_stand_beside_the_grid_in_the_order_of_their_starts() -> None:
    wave = noise(5 * SAMPLE_RATE)
    plain, _ = cut(wave, 1.0, 0.5)
    starts, segments = cut(wave, 1.0, 0.5, more=20)
    assert len(starts) == len(plain) + 20
    assert (np.diff(starts) >= 0).all()
    rest = sorted(starts.tolist())
    for start in plain.tolist():
        rest.remove(start)
    assert rest == sorted(more_starts(wave, SAMPLE_RATE, 20).tolist())
    assert len(set(rest)) > 15
    assert min(rest) >= 0
    assert max(rest) <= 4 * SAMPLE_RATE
    assert max(rest) - min(rest) > 2 * SAMPLE_RATE
    np.testing.assert_array_equal(segments, [wave[s : s + SAMPLE_RATE] for s in starts])


def test_where_they_lie_is_decided_by_the_audio_alone() -> None:
    wave = noise(5 * SAMPLE_RATE)
    np.random.seed(1)  # noqa: NPY002
    first = more_starts(wave, 8000, 9)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(more_starts(wave.copy(), 8000, 9), first)
    strided = np.repeat(wave, 2)[::2]
    np.testing.assert_array_equal(more_starts(strided, 8000, 9), first)
    changed = wave.copy()
    changed[-1] += 1
    assert not np.array_equal(more_starts(changed, 8000, 9), first)


def test_a_song_no_longer_than_a_segment_has_no_more() -> None:
    for samples in (8000, 7999, 1):
        starts, _ = cut(noise(samples), 0.5, 0.25, more=5)
        assert starts.tolist() == [0]
    assert set(more_starts(noise(8001), 8000, 30).tolist()) == {0, 1}
