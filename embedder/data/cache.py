"""Decoded audio on disk: any stretch of any song, at once and without decoding.

Each entry is `<key>.npy` (int16, mono) with `<key>.json` beside it (length, peak, hash of the
samples); the key is the hash of the file that was decoded. The json is written last, so an entry is
there whole or not at all, and a stopped preparation goes on where it was. `<hash of the
samples>.<version>.words` is an acoustic fingerprint. `decode_files` fills the cache from many files
on threads, which are enough: reading, hashing, decoding and resampling all run outside the
interpreter's lock.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import Artifact, file_fingerprint, fingerprint, replacing
from embedder.config import SAMPLE_RATE
from embedder.data.audio import DECODER, FULL_SCALE, Audio, AudioError, Samples, read_audio
from embedder.errors import Command, UserError
from embedder.run import prepare_again

STALE_S = 3600.0  # age after which a temporary file was left by a killed run, s
T = TypeVar("T")
R = TypeVar("R")
# (items, how many there are, what is being done) → the same items, shown as they pass
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
Source = Path | tuple[Path, ...]  # one file, or several whose sum is meant


@dataclass(frozen=True)
class Facts:
    """What is known about a decoded file without reading it again."""

    samples: int
    peak: int  # largest absolute int16 value
    sound: str  # fingerprint of the samples: equal for files that decode to the same audio
    notes: tuple[str, ...] = ()  # what is to be known of how the file was decoded
    decoder: int = 0  # version of what decoded it; 0: no file was decoded, or by an older program

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE


FACTS = Artifact("entry of decoded audio", 1, Facts, Command("prepare", data_dir="SONGS"))


@dataclass(frozen=True)
class AudioCache:
    """A folder of decoded files. Holds no open file, and may be sent to other processes."""

    folder: Path
    # What `read` knows of each file's header: parsing it takes longer than reading a crop.
    layouts: dict[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)

    def path(self, key: str) -> Path:
        """Where the samples of `key` are, or would be."""
        return self.folder / f"{key}.npy"

    def length(self, key: str) -> int:
        """Number of samples; `UserError` if the entry is missing or broken."""
        return len(self.samples(key))

    def _layout(self, key: str) -> tuple[int, int]:
        """Where the samples begin in the file, in bytes, and how many there are."""
        if key not in self.layouts:
            samples = self.samples(key)
            self.layouts[key] = (samples.offset, len(samples))  # type: ignore[attr-defined]
        return self.layouts[key]

    def read(self, key: str, start: int, count: int) -> NDArray[np.float32]:
        """`count` samples from `start`, in [-1, 1), zeros past the end: (count,) float32.

        Raises `ValueError` for a negative number, `UserError` if the entry is missing or broken.
        """
        if start < 0 or count < 0:
            raise ValueError(f"start and count must be 0 or more, not {start} and {count}")
        offset, length = self._layout(key)
        take = max(0, min(count, length - start))
        piece = np.fromfile(self.path(key), np.int16, take, offset=offset + 2 * start)
        wave = np.zeros(count, dtype=np.float32)
        np.divide(piece, np.float32(FULL_SCALE), out=wave[: len(piece)])
        return wave

    def samples(self, key: str) -> Samples:
        """All int16 samples (n,) as a memory map; `UserError` if the entry is missing or broken."""
        path = self.path(key)
        try:
            samples = np.load(path, mmap_mode="r", allow_pickle=False)
            if samples.dtype == np.int16 and samples.ndim == 1:
                return samples  # type: ignore[no-any-return]
            problem = f"{path} holds {samples.dtype} {samples.shape}, not int16"
        except FileNotFoundError:
            problem = f"no decoded audio at {path}"
        except (OSError, ValueError, EOFError) as error:
            problem = f"{path} is no decoded audio ({error})"
        raise UserError(f"{problem}; {prepare_again('run again')}")

    def facts(self, key: str) -> Facts | None:
        """What is known about an entry; None if it is not there, or not whole."""
        try:
            facts = FACTS.read(self._facts_path(key))
            return facts if self.length(key) == facts.samples else None
        except UserError:
            return None

    def write(
        self, key: str, samples: Samples, notes: tuple[str, ...] = (), decoder: int = 0
    ) -> Facts:
        """Store int16 samples (n,) under `key`, atomically, and return their facts.

        `notes` and `decoder` are for `Facts`.

        Raises `ValueError` for another type or shape or no sample,
        `UserError` if the disk does not take it.
        """
        if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
            raise ValueError(f"need int16 (samples ≥ 1,), not {samples.dtype} {samples.shape}")
        # Not np.abs: it would copy the song, and the absolute value of -32768 does not fit int16.
        peak = max(int(samples.max(initial=0)), -int(samples.min(initial=0)))
        facts = Facts(len(samples), peak, _sound(samples), notes, decoder)
        path = self.path(key)
        self.layouts.pop(key, None)
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, samples, allow_pickle=False)
            FACTS.write(self._facts_path(key), facts)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None
        return facts

    def sweep(self) -> None:
        """Remove temporary files that a killed run left here more than an hour ago."""
        oldest = time.time() - STALE_S
        for file in self.folder.glob(".*"):
            with suppress(FileNotFoundError):  # another process may be done with it meanwhile
                if file.suffix in (".npy", ".json", ".words") and file.stat().st_mtime < oldest:
                    file.unlink()

    def _facts_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _sound(samples: Samples) -> str:
    return hashlib.sha256(np.ascontiguousarray(samples).data).hexdigest()[:16]


@dataclass(frozen=True)
class Decoded:
    """What came of one source: facts under a key, or a kind of failure and its reason."""

    key: str = ""
    facts: Facts | None = None
    kind: str = ""  # "", "unreadable" or "empty"
    reason: str = ""


def no_progress(items: Iterable[T], total: int, description: str) -> Iterable[T]:
    """Show nothing."""
    del total, description
    return items


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decode_files(
    sources: Sequence[Source],
    cache: AudioCache,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> dict[Source, Decoded]:
    """Bring every source into the cache, unless its content is already there.

    `jobs` is the number of threads (all cores if None). A file that gives no audio is part of the
    result, not an error. Raises `UserError` if `jobs` is below 1 or the cache cannot be written.
    """
    jobs = available_cores() if jobs is None else jobs
    if jobs < 1:
        raise UserError(f"jobs = {jobs} is not legal; it must be 1 or more")
    cache.sweep()
    found = dict(_each(sources, lambda some: _look(some, cache), jobs, progress, "reading files"))
    new = {item.key: some for some, item in found.items() if item.key and item.facts is None}
    work = _each(list(new), lambda key: _decode(new[key], key, cache), jobs, progress, "decoding")
    made = dict(work)
    return {source: made.get(item.key, item) for source, item in found.items()}


def _files(source: Source) -> tuple[Path, ...]:
    return source if isinstance(source, tuple) else (source,)


def _look(source: Source, cache: AudioCache) -> Decoded:
    try:
        if any(path.stat().st_size == 0 for path in _files(source)):
            return Decoded(kind="empty", reason="it has no bytes")
        keys = [file_fingerprint(path) for path in _files(source)]
    except OSError as error:
        return Decoded(kind="unreadable", reason=error.strerror or str(error))
    key = keys[0] if len(keys) == 1 else fingerprint("sum", *sorted(keys))
    for one in (_odd(key), key):
        facts = cache.facts(one)
        if facts is not None and facts.decoder == DECODER:
            return Decoded(one, facts)
    return Decoded(key)


def _odd(key: str) -> str:
    """The key of what other decoders, or other versions of this one, might decode otherwise."""
    return fingerprint("decoded", str(DECODER), key)


def _decode(source: Source, key: str, cache: AudioCache) -> Decoded:
    try:
        parts = [read_audio(path) for path in _files(source)]
        samples = _sum(_files(source), parts)
    except AudioError as error:
        return Decoded(key, kind=error.kind, reason=error.reason)
    key = key if all(part.plain for part in parts) else _odd(key)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return Decoded(key, cache.write(key, samples, tuple(notes), DECODER))


def _sum(paths: Sequence[Path], parts: Sequence[Audio]) -> Samples:
    """The files' samples added up, clipped to the int16 range; `AudioError` if lengths differ."""
    first = parts[0].samples
    if len(paths) == 1:
        return first
    total = first.astype(np.int32)
    for path, audio in zip(paths[1:], parts[1:], strict=True):
        part = audio.samples
        if len(part) != len(total):
            reason = f"it has {len(part)} samples, but {paths[0].name} has {len(total)}"
            raise AudioError(path, "unreadable", f"{path.name} does not fit: {reason}")
        total += part
    limits = np.iinfo(np.int16)
    return np.clip(total, limits.min, limits.max).astype(np.int16)


def _each(
    items: Sequence[T],
    work: Callable[[T], R],
    jobs: int,
    progress: Progress,
    description: str,
) -> Iterator[tuple[T, R]]:
    """(item, work(item)) as they come; a failure or Ctrl-C drops what has not begun."""
    if not items:
        return
    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = {pool.submit(work, item): item for item in items}
            for future in progress(as_completed(futures), len(futures), description):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
