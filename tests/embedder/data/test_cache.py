"""Any stretch of any song, broken entries, many songs, other processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from embedder.artifact import file_fingerprint
from embedder.data import cache as cache_module
from embedder.data.audio import decode, read_audio
from embedder.data.cache import AudioCache, Facts, available_cores, decode_files
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


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.wav" for n in range(9)]
    for path in paths:
        soundfile.write(path, 0.1 * generator.standard_normal(8000), 16000)
    return paths


@pytest.fixture
def decoded_paths(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths in the order in which they are decoded."""
    seen: list[Path] = []

    def watched(path: Path) -> Any:
        seen.append(path)
        return read_audio(path)

    monkeypatch.setattr(cache_module, "read_audio", watched)
    return seen


@pytest.mark.parametrize("jobs", [1, 4, None])
def test_every_file_comes_into_the_cache_under_its_hash(
    tmp_path: Path, files: list[Path], jobs: int | None
) -> None:
    cache = AudioCache(tmp_path / "cache")
    found = decode_files(files, cache, jobs)
    assert set(found) == set(files)
    for path, item in found.items():
        assert item.key == file_fingerprint(path)
        assert item.facts == cache.facts(item.key)
        assert np.array_equal(cache.read(item.key, 0, 8000), decode(path) / np.float32(32768))


def test_equal_contents_are_decoded_once_and_known_ones_never_again(
    tmp_path: Path, files: list[Path], decoded_paths: list[Path]
) -> None:
    (tmp_path / "twin.wav").write_bytes(files[3].read_bytes())
    cache = AudioCache(tmp_path / "cache")
    first = decode_files([*files, tmp_path / "twin.wav"], cache, 3)
    assert len(decoded_paths) == 9
    assert first[tmp_path / "twin.wav"] == first[files[3]]
    assert decode_files([*files, tmp_path / "twin.wav"], cache, 3) == first
    assert len(decoded_paths) == 9
    files[0].write_bytes(files[1].read_bytes())  # changed since: now the content of another
    assert decode_files(files, cache, 3)[files[0]] == first[files[1]]
    cache.path(first[files[5]].key).unlink()
    decode_files(files, cache, 3)
    assert decoded_paths[9:] == [files[5]]


def test_files_that_give_no_audio_are_results(tmp_path: Path, files: list[Path]) -> None:
    bad = [tmp_path / name for name in ("empty.wav", "text.mp3", "gone.wav")]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(b"no audio" * 100)
    found = decode_files([*files, *bad], AudioCache(tmp_path / "cache"), 2)
    kinds = [found[path].kind for path in bad]
    assert kinds == ["empty", "unreadable", "unreadable"]
    assert found[bad[0]].reason == "it has no bytes"
    assert all(found[path].facts is None and found[path].reason for path in bad)
    assert not any(found[path].kind for path in files)


def test_after_an_interruption_only_the_rest_is_decoded(
    tmp_path: Path, files: list[Path], decoded_paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = AudioCache(tmp_path / "cache")
    stopped, dropped = threading.Event(), threading.Event()
    shutdown, watched = ThreadPoolExecutor.shutdown, cache_module.read_audio

    def shut(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        shutdown(pool, wait=False, cancel_futures=cancel_futures)
        if stopped.is_set():
            dropped.set()
        shutdown(pool, wait=wait)

    def held(path: Path) -> Any:
        if len(decoded_paths) == 4:  # no faster than the interruption
            assert dropped.wait(60)
        return watched(path)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut)
    monkeypatch.setattr(cache_module, "read_audio", held)

    def interrupted(items: Iterable[Any], _: int, description: str) -> Iterable[Any]:
        for number, item in enumerate(items):
            if description == "decoding" and number == 3:
                stopped.set()
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        decode_files(files, cache, 1, interrupted)
    assert 4 <= len(decoded_paths) <= 5  # what had not begun was dropped
    found = decode_files(files, cache, 1)
    assert sorted(decoded_paths) == files  # nothing twice
    assert all(item.facts for item in found.values())


def test_several_files_are_one_recording_their_sum(
    tmp_path: Path, files: list[Path], decoded_paths: list[Path]
) -> None:
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.full(8000, 0.999), 16000)
    cache = AudioCache(tmp_path / "cache")
    three, clipped = (files[0], files[1], files[2]), (loud, loud, files[0])
    found = decode_files([files[0], (files[0],), three, clipped], cache, 2)
    assert found[(files[0],)] == found[files[0]]
    total = sum(decode(path).astype(int) for path in three)
    assert cache.samples(found[three].key).tolist() == np.asarray(total).tolist()
    assert cache.samples(found[clipped].key).max() == 32767
    assert cache.samples(found[clipped].key).min() > 0  # never wrapped around
    before = len(decoded_paths)
    again = decode_files([(files[2], files[0], files[1]), (files[0], files[1])], cache, 1)
    assert again[(files[2], files[0], files[1])] == found[three]  # in any order
    assert again[(files[0], files[1])].key != found[three].key
    assert len(decoded_paths) == before + 2


def test_a_sum_needs_all_its_files_at_one_length(tmp_path: Path, files: list[Path]) -> None:
    cache = AudioCache(tmp_path / "cache")
    soundfile.write(tmp_path / "short.wav", np.zeros(7999), 16000)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_bytes(b"no audio")
    sums = [(files[0], tmp_path / f"{n}.wav") for n in ("short", "empty", "text", "gone")]
    found = decode_files(sums, cache, 1)
    assert [found[some].kind for some in sums] == ["unreadable", "empty", *["unreadable"] * 2]
    reason = "short.wav does not fit: it has 7999 samples, but 0.wav has 8000"
    assert found[sums[0]].reason == reason
    assert all(item.facts is None for item in found.values())


def test_odd_files_have_a_key_of_their_own_and_notes(
    tmp_path: Path, files: list[Path], decoded_paths: list[Path]
) -> None:
    odd, cut = tmp_path / "odd.wav", tmp_path / "cut.wav"
    soundfile.write(odd, 0.1 * np.random.default_rng(0).normal(size=8000)[:, None] * (1, -1), 16000)
    cut.write_bytes(files[0].read_bytes()[:8000])
    cache = AudioCache(tmp_path / "cache")
    found = decode_files([odd, cut, files[1]], cache, 1)
    assert found[odd].key != file_fingerprint(odd)  # other programs would take the mean
    assert "channels cancel" in found[odd].facts.notes[0]
    assert found[cut].key == file_fingerprint(cut)  # the same samples as ever
    assert "could be decoded" in found[cut].facts.notes[0]
    assert found[files[1]].facts.notes == ()
    assert decode_files([odd, cut, files[1]], cache, 1) == found
    assert len(decoded_paths) == 3


def test_what_an_older_program_decoded_is_decoded_again_under_the_same_key(
    tmp_path: Path, files: list[Path], decoded_paths: list[Path]
) -> None:
    cache = AudioCache(tmp_path / "cache")
    key = file_fingerprint(files[0])
    cache.write(key, decode(files[0])[:4000])  # as if its header had been believed
    assert decode_files([files[0]], cache, 1)[files[0]].key == key
    assert decoded_paths == [files[0]]
    assert len(cache.samples(key)) == 8000


def test_progress_sees_each_step_with_its_total(tmp_path: Path, files: list[Path]) -> None:
    steps: list[tuple[str, int, int]] = []

    def counted(items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
        seen = list(items)
        steps.append((description, total, len(seen)))
        return seen

    for _ in range(2):
        decode_files(files, AudioCache(tmp_path / "cache"), 2, counted)
    assert steps == [("reading files", 9, 9), ("decoding", 9, 9), ("reading files", 9, 9)]


def test_a_cache_that_cannot_be_written_ends_the_work(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write"):
        decode_files(files, AudioCache(tmp_path / "cache"), 2)


def test_jobs_must_be_one_or_more(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jobs = 0 is not legal; it must be 1 or more"):
        decode_files([], AudioCache(tmp_path), 0)
    assert decode_files([], AudioCache(tmp_path)) == {}
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask worth the name")
def test_many_threads_leave_the_umask_alone(tmp_path: Path, files: list[Path]) -> None:
    before = os.umask(0o022)
    try:
        decode_files(files, AudioCache(tmp_path / "cache"), 8)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
