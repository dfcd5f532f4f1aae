"""Any stretch of any song, broken entries, many songs, other processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.data.cache import AudioCache, Facts
from embedder.errors import UserError

SONG = np.random.default_rng(2).integers(-32768, 32768, 5000).astype(np.int16)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> AudioCache:
    cache = AudioCache(tmp_path_factory.mktemp("cache"))
    cache.write("song", SONG)
    return cache


@given(start=st.integers(0, 7000), count=st.integers(0, 7000))
def test_a_stretch_is_the_song_with_zeros_past_its_end(
    cache: AudioCache, start: int, count: int
) -> None:
    expected = [SONG[i] / 32768 if i < len(SONG) else 0.0 for i in range(start, start + count)]
    found = cache.read("song", start, count)
    assert found.dtype == np.float32
    assert found.tolist() == expected  # exact: 16 bits fit the mantissa of float32


def test_amplitudes_lie_from_minus_one_to_below_one(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    cache.write("x", np.array([-32768, 32767, 0], dtype=np.int16))
    assert cache.read("x", 0, 3).tolist() == [-1.0, 32767 / 32768, 0.0]


@pytest.mark.parametrize(("start", "count"), [(-1, 5), (0, -1)])
def test_negative_stretches_are_refused(cache: AudioCache, start: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"0 or more, not {start} and {count}"):
        cache.read("song", start, count)


def test_facts_are_those_of_the_samples(cache: AudioCache, tmp_path: Path) -> None:
    facts = cache.facts("song")
    assert facts is not None
    assert (facts.samples, cache.length("song"), facts.seconds) == (5000, 5000, 5000 / 16000)
    assert facts.peak == max(abs(int(x)) for x in SONG)
    other = AudioCache(tmp_path)
    assert other.write("other", SONG.copy()[::-1][::-1]) == facts  # same sound, same fingerprint
    changed = SONG.copy()
    changed[77] ^= 1
    assert other.write("changed", changed).sound != facts.sound
    assert other.write("deep", np.array([-32768, 5], dtype=np.int16)).peak == 32768
    assert other.write("high", np.array([-1, 5], dtype=np.int16)).peak == 5


def test_an_entry_that_is_not_whole_is_not_there(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    assert cache.facts("x") is None
    facts = cache.write("x", SONG)
    assert cache.facts("x") == facts
    whole, json_file = cache.path("x").read_bytes(), tmp_path / "x.json"
    text = json_file.read_text(encoding="utf-8")
    cache.path("x").write_bytes(whole[:-2])
    assert cache.facts("x") is None
    cache.path("x").write_bytes(whole)
    for broken in ("{", "[]", "{}", text.replace('"format": 1', '"format": 0'), '{"format": 1}'):
        json_file.write_text(broken, encoding="utf-8")
        assert cache.facts("x") is None
    json_file.write_text(text.replace("5000", "4999"), encoding="utf-8")
    assert cache.facts("x") is None
    json_file.write_text(text, encoding="utf-8")
    assert cache.facts("x") == facts
    cache.path("x").unlink()
    assert cache.facts("x") is None


def test_missing_and_broken_entries_name_the_file_and_the_command(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    for action in (lambda: cache.read("x", 0, 1), lambda: cache.length("x")):
        with pytest.raises(UserError, match=r"no decoded audio at .*x\.npy; run again: .* prepare"):
            action()
    for content in (b"", b"junk", b"\x93NUMPY\x01\x00"):
        cache.path("x").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.npy is no decoded audio"):
            cache.read("x", 0, 1)
    np.save(cache.path("x"), np.zeros(5, dtype=np.float32))
    with pytest.raises(UserError, match=r"x\.npy holds float32 \(5,\), not int16"):
        cache.read("x", 0, 1)
    np.save(cache.path("x"), np.array([{"pickled": 1}], dtype=object))
    with pytest.raises(UserError, match="is no decoded audio"):
        cache.read("x", 0, 1)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(5, dtype=np.float32), np.zeros((5, 2), dtype=np.int16), np.zeros(0, dtype=np.int16)],
)
def test_only_mono_int16_goes_in(tmp_path: Path, samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="need int16"):
        AudioCache(tmp_path).write("x", samples)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot write .*x\.npy"):
        AudioCache(tmp_path / "file").write("x", SONG)


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_more_songs_than_a_process_may_open_files(tmp_path: Path) -> None:
    import resource

    cache = AudioCache(tmp_path)
    keys = [f"{n}" for n in range(80)]
    for key in keys:
        cache.write(key, SONG)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
    try:
        stretches = [cache.read(key, 10, 20) for key in keys]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(stretches) == 80
    assert all(np.array_equal(s, stretches[0]) for s in stretches)


def test_what_was_read_survives_the_entry(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    cache.write("x", SONG)
    wave = cache.read("x", 0, 100)
    cache.write("x", -SONG // 2)  # on Windows this fails while a map is open
    assert wave.tolist() == (SONG[:100] / 32768).tolist()


def test_spawned_processes_read_the_same(cache: AudioCache) -> None:
    assert pickle.loads(pickle.dumps(cache)) == cache
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(cache.read, ("song", 100, 50))
    assert np.array_equal(found, cache.read("song", 100, 50))


def test_only_old_temporary_files_are_swept(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    assert isinstance(cache.write("x", SONG), Facts)
    for name in (".a.npy.1.npy", ".b.npy.2.npy", ".keep", "y.npy", ".c.json.3.json"):
        (tmp_path / name).write_bytes(b"x")
    old = time.time() - 4000
    for name in (".a.npy.1.npy", ".c.json.3.json", ".keep", "y.npy", "x.npy"):
        os.utime(tmp_path / name, (old, old))
    cache.sweep()
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [".b.npy.2.npy", ".keep", "x.json", "x.npy", "y.npy"]
    AudioCache(tmp_path / "none").sweep()
