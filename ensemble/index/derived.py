"""FAISS files that are derived from the song table, and how one is known to fit it.

Enters: a stamp, which says what the file must have been made from, and the vectors if they are
needed. Leaves: `Vectors`, read from the file where it fits, else built anew and written.

A file is the faiss index followed by a footer: the stamp, and a digest of a sample of the index's
bytes, `SAMPLES` blocks spread evenly over it with both ends among them (all of it, if it is small).
The stamp hashes the digests that the table keeps of its songs, so that it costs no look at the
vectors themselves. A file of another member, level, kind or table, and one made before songs came
or went, has another stamp; one that was cut short or not written by us has no footer; one whose
bytes were exchanged has another digest. Single bytes that flip between the samples of a large file
stay unnoticed: that is the disk's work to find. The footer travels inside the file, so no half of a
pair can be renewed or copied alone.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from embedder.artifacts import replacing, vectors_of
from ensemble.index.vectors import Floats, Vectors, build_vectors, read_vectors, write_vectors

LEVELS = ("songs", "segments")
MARK = b"singerix"  # the last bytes of a derived file, after the length of the footer
TAIL = struct.Struct("<Q8s")
BLOCK = 64 * 1024  # bytes
SAMPLES = 64
LONGEST_FOOTER = 4096  # bytes


def derived_vectors(
    path: Path, stamp: str, kind: str, vectors: Callable[[], Floats]
) -> tuple[Vectors, Floats | None]:
    """The index over the table's vectors (n, dim), and those vectors if it had to be built.

    A folder that cannot be written is no error: the index is built in memory then.
    """
    if _fits(path, stamp):
        try:
            return read_vectors(path), None
        except (OSError, ValueError):
            pass  # a damaged file is built anew like one that does not fit
    rows = vectors()
    built = build_vectors(rows, kind)
    try:
        with replacing(path) as temporary:
            write_vectors(temporary, built)
            _append_footer(temporary, stamp)
        # Searching the file's pages gives the memory back that building took.
        return read_vectors(path), rows
    except OSError:
        return built, rows


def forget_others(table: Path, members: Iterable[str]) -> None:
    """Take away what was derived from the table for members that are no longer in it."""
    mine = {vectors_of(table, member, level).name for member in members for level in LEVELS}
    for level in LEVELS:
        for path in table.parent.glob(f"*.{level}.faiss"):
            if path.name not in mine:
                with suppress(OSError):  # open elsewhere: it does no harm
                    path.unlink()


def _append_footer(path: Path, stamp: str) -> None:
    length = path.stat().st_size
    with path.open("r+b") as file:
        footer = json.dumps({"stamp": stamp, "sample": _sample(file, length)})
        file.seek(length)
        file.write(footer.encode() + TAIL.pack(len(footer), MARK))


def _fits(path: Path, stamp: str) -> bool:
    """Whether the file says, and its bytes bear out, that it was made from what `stamp` names."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - TAIL.size))
            length, mark = TAIL.unpack(file.read(TAIL.size))
            if mark != MARK or not 0 < length <= min(LONGEST_FOOTER, size - TAIL.size):
                return False
            file.seek(size - TAIL.size - length)
            footer = json.loads(file.read(length))
            body = size - TAIL.size - length
            if footer["stamp"] != stamp:
                return False
            return bool(footer["sample"] == _sample(file, body))
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return False


def _sample(file: BinaryIO, length: int) -> str:
    """Digest of the sampled blocks of the first `length` bytes."""
    starts = np.linspace(0, max(0, length - BLOCK), SAMPLES).astype(np.int64)
    if length <= SAMPLES * BLOCK:
        starts = np.arange(0, length, BLOCK)
    digest = hashlib.sha256()
    for start in starts:
        file.seek(int(start))
        digest.update(file.read(min(BLOCK, length - int(start))))
    return digest.hexdigest()
