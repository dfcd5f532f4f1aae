"""Decoded audio on disk: any stretch of any song, at once and without decoding.

Enters: decoded int16 samples under the hash of the file they came from. Leaves: float32 stretches.
Each entry is `<key>.npy` (int16, mono) with `<key>.json` beside it (length, peak, hash of the
samples). The json is written last, so an entry is there whole or not at all, and a stopped
preparation goes on where it was. `<hash of the samples>.<version>.words` is an acoustic
fingerprint.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import read_json, replacing, write_json
from embedder.config import SAMPLE_RATE
from embedder.data.audio import FULL_SCALE, Samples
from embedder.errors import UserError
from embedder.run import FORMAT, prepare_again

STALE_S = 3600.0  # age after which a temporary file was left by a killed run, s


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
            found = read_json(self._facts_path(key))
            if found.pop("format") != FORMAT:
                return None
            facts = Facts(**{**found, "notes": tuple(found.get("notes", ()))})
            return facts if self.length(key) == facts.samples else None
        except (OSError, UserError, TypeError, KeyError, AttributeError):
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
            write_json(self._facts_path(key), {"format": FORMAT, **asdict(facts)})
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
