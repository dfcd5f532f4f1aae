"""One audio file becomes mono samples at one rate.

Enters: the path of a wav, flac, ogg or mp3 file, any rate, any number of channels, any length.
Leaves: int16 samples; or `AudioError`, a `UserError` that names the file and what is wrong.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from embedder.config import SAMPLE_RATE
from embedder.errors import UserError

FULL_SCALE = 32768  # int16 value of amplitude 1.0
BLOCK = 1 << 18  # frames decoded at a time, of a file with two channels or one
RATES = (1000, 768000)  # sample rates that a file may have, Hz; anything else is a broken header

Floats = NDArray[np.float32]
Samples = NDArray[np.int16]


class AudioError(UserError):
    """A file that gives no audio. `kind` is "unreadable" or "empty", `reason` says why."""

    def __init__(self, path: Path | str, kind: str, reason: str) -> None:
        super().__init__(f"{path} is {kind}: {reason}")
        self.kind = kind
        self.reason = reason


def decode(path: Path, rate: int = SAMPLE_RATE) -> Samples:
    """Mono int16 samples (samples,) of a file at `rate` Hz; 32768 is amplitude 1.0.

    Channels are averaged, then resampled (soxr, HQ), rounded, and clipped to the int16 range.
    Reading goes block by block: what is held is the int16 result, never the whole file in float.
    Threads may decode at the same time: soundfile and soxr both release the interpreter's lock.
    Raises `AudioError` if the file cannot be read, holds no sample, or holds NaN or infinity.
    """
    try:
        if path.stat().st_size == 0:
            raise AudioError(path, "empty", "it has no bytes")
        kept = bytearray()  # grows in place, where a list of blocks would be joined by a copy
        with quiet(), soundfile.SoundFile(path) as file:
            for block in resampled(path, mono_blocks(path, file), file.samplerate, rate):
                kept += to_int16(block).tobytes()
    except soundfile.LibsndfileError as error:
        # Of an mp3 without any frame, libsndfile says that the file is not there.
        misled = path.is_file() and "does not exist" in error.error_string
        reason = "it holds no audio in a known format" if misled else error.error_string.rstrip(".")
        raise AudioError(path, "unreadable", reason) from None
    except (OSError, RuntimeError) as error:  # soundfile, soxr
        raise AudioError(path, "unreadable", str(error)) from None
    if not kept:
        raise AudioError(path, "empty", "it holds no sample")
    return np.frombuffer(kept, dtype=np.int16)


def to_int16(wave: Floats) -> Samples:
    """Float amplitude to int16: times 32768, rounded, clipped; never wrapped around."""
    return np.clip(np.rint(wave * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def mono_blocks(path: Path | str, file: soundfile.SoundFile) -> Iterator[Floats]:
    """The mean of an open file's channels (n,), some thousand samples after the other.

    Raises `AudioError` where a sample is NaN or infinite.
    """
    frames = max(1, 2 * BLOCK // max(2, file.channels))
    while len(block := file.read(frames, dtype="float32", always_2d=True)):
        mono: Floats = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise AudioError(path, "unreadable", "it holds samples that are not finite numbers")
        yield mono


def resampled(
    path: Path | str, blocks: Iterable[Floats], found: int, rate: int
) -> Iterator[Floats]:
    """Mono blocks (n,) of a file at `found` Hz, one after the other, at `rate` Hz.

    Raises `AudioError` for a sample rate that no file has.
    """
    low, high = RATES
    if not low <= found <= high:
        reason = f"its sample rate of {found} Hz is not between {low} and {high}"
        raise AudioError(path, "unreadable", reason)
    if found == rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(found, rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


# libmpg123 inside soundfile prints on stderr about every odd frame of an mp3: thousands of lines
# for a folder of songs that decode well, and there is no setting against it. So stderr's file
# descriptor goes to a scratch file while any thread decodes, and what others wrote is handed on.
class _Stderr:
    """Standard error with the mp3 decoder's chatter taken out, while anyone is inside."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.held: tuple[int, IO[bytes]] | None = None  # the real descriptor, the scratch file

    @contextmanager
    def quiet(self) -> Iterator[None]:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self._hold()
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    self._put_back()

    def _hold(self) -> None:
        try:
            real = os.dup(2)
        except OSError:  # a process without standard error
            return
        scratch = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _put_back
        os.dup2(scratch.fileno(), 2)
        self.held = real, scratch

    def _put_back(self) -> None:
        if self.held is None:
            return
        real, scratch = self.held
        self.held = None
        os.dup2(real, 2)
        os.close(real)
        with scratch:
            scratch.seek(0)
            for line in scratch:
                if not _chatter(line):
                    os.write(2, line)


def _chatter(line: bytes) -> bool:
    """Whether libmpg123 wrote this; its notes on broken headers come without its name."""
    return b"libmpg123" in line or line.startswith((b"Note: ", b"Warning: ")) or not line.strip()


quiet = _Stderr().quiet
