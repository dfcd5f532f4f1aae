"""Many files are decoded into the cache at the same time, each content once.

Enters: files, a cache, a number of threads. Leaves: for each file its cache key and facts, or why
it has none. Several files may be one recording, their sum. Threads are enough: reading, hashing,
decoding and resampling all run outside the interpreter's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from embedder.artifact import file_fingerprint, fingerprint
from embedder.data.audio import DECODER, Audio, AudioError, Samples, read_audio
from embedder.data.cache import AudioCache, Facts
from embedder.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
# (items, how many there are, what is being done) → the same items, shown as they pass
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
Source = Path | tuple[Path, ...]  # one file, or several whose sum is meant


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
