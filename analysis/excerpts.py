"""Short excerpts of songs beside the pages, for players.

They are cut from songs as they were decoded, and from files placed on the map, and lie as small mp3
files in the run's folder of pages, under the hash of what they were cut from. What is there is not
cut again.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.run_data import RunData
from embedder.artifact import file_fingerprint, replacing
from embedder.catalogue import read_catalogue
from embedder.config import SAMPLE_RATE
from embedder.inference.store import Store
from embedder.run import Run

LENGTH_S = 10.0
QUALITY = 0.6  # of the mp3, variable rate: 0 is best and largest, 1 smallest


@dataclass(frozen=True)
class Excerpt:
    """Where an excerpt lies, and which part of the song it is."""

    source: str  # path as pages name it, relative to their folder
    start_s: float


@dataclass(frozen=True)
class Wanted:
    """A file that is to be played."""

    path: Path
    key: str  # hash of the file's bytes, under which it may lie decoded
    start_s: float
    length_s: float = LENGTH_S


def song_players(run_data: RunData) -> list[Excerpt | None]:
    """An excerpt of every song, from where most is sung, as members get it."""
    catalogue = {song.id: song for song in read_catalogue(run_data.run.catalogue).songs}
    starts = [start for store in run_data.stores(run_data.members[0]) for start in sung(store)]
    there = [row for row, song in enumerate(run_data.songs.ids) if song in catalogue]
    songs = [catalogue[run_data.songs.ids[row]] for row in there]
    wanted = [
        Wanted(Path(song.path), song.audio, starts[row])
        for row, song in zip(there, songs, strict=True)
    ]
    found: list[Excerpt | None] = [None] * len(starts)
    for row, excerpt in zip(there, excerpts(run_data.run, wanted), strict=True):
        found[row] = excerpt
    return found


def file_players(run_data: RunData) -> list[Excerpt | None]:
    """An excerpt of every placed file."""
    if run_data.placed is None:
        return []
    starts = [start for batch in run_data.placed.batches for start in sung(batch[0])]
    pairs = zip(run_data.placed.paths, starts, strict=True)
    return excerpts(
        run_data.run, [Wanted(path, file_fingerprint(path), start) for path, start in pairs]
    )


def sung(store: Store) -> list[float]:
    """Where each song's segment with most voice begins, in seconds; of equal ones the middle."""
    found = []
    for song in range(len(store.song_ids)):
        part = store.segments_of(song)
        weights = store.segment_weight[part]
        most = np.flatnonzero(weights == weights.max())
        found.append(float(store.segment_start_s[part][most[len(most) // 2]]))
    return found


def excerpts(run: Run, wanted: Iterable[Wanted]) -> list[Excerpt | None]:
    """An excerpt of each file, in the order given; None where it is gone or cannot be read."""
    with ThreadPoolExecutor() as pool:  # reading and encoding run outside the interpreter's lock
        return list(pool.map(lambda one: _excerpt(run, one), wanted))


def _excerpt(run: Run, wanted: Wanted) -> Excerpt | None:
    start = int(wanted.start_s)
    length = "" if wanted.length_s == LENGTH_S else f"-{wanted.length_s:g}s"
    target = run.page_audio / f"{wanted.key}-{start}{length}.mp3"
    found = Excerpt(target.relative_to(run.pages).as_posix(), float(start))
    if target.is_file():
        return found
    data = excerpt_of(run, wanted)
    if data is None:
        return None
    with replacing(target) as temporary:
        temporary.write_bytes(data)
    return found


def excerpt_of(run: Run, wanted: Wanted) -> bytes | None:
    """An excerpt (mp3) in memory; None where the file is gone or cannot be read."""
    import soundfile

    try:
        wave = _wave(run, wanted, int(wanted.start_s))
    except (OSError, ValueError, soundfile.LibsndfileError):
        return None
    if not len(wave):
        return None
    made = BytesIO()
    soundfile.write(
        made,
        np.clip(wave, -1, 1),
        SAMPLE_RATE,
        format="MP3",
        bitrate_mode="VARIABLE",
        compression_level=QUALITY,
    )
    return made.getvalue()


def _wave(run: Run, wanted: Wanted, start: int) -> NDArray[np.float32]:
    """Mono samples (n,) at 16 kHz, −1 to 1, from `start` seconds on."""
    import soundfile
    import soxr

    decoded = run.decoded(wanted.key)
    if decoded.is_file():
        samples = np.load(decoded, mmap_mode="r", allow_pickle=False)
        part = samples[start * SAMPLE_RATE : int((start + wanted.length_s) * SAMPLE_RATE)]
        return np.asarray(part, dtype=np.float32) / np.float32(2**15)
    with wanted.path.open("rb") as opened, soundfile.SoundFile(opened) as file:
        # From the beginning: an mp3 entered in its middle begins with a crack.
        wave = file.read(
            int((start + wanted.length_s) * file.samplerate), dtype="float32", always_2d=True
        )[start * file.samplerate :]
        rate = file.samplerate
    return np.asarray(soxr.resample(wave.mean(axis=1), rate, SAMPLE_RATE), dtype=np.float32)
