"""A split's songs as a test folder like a course's: numbered files, and who sings them apart.

Enters: a prepared run and a split. Leaves: `0001.flac`, `0002.flac`, … and `truth.csv`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from embedder.artifacts import Run, replacing, write_text
from embedder.catalogue import Catalogue, Song
from embedder.config import SAMPLE_RATE
from embedder.data.cache import AudioCache
from embedder.errors import UserError

PLACES = 20  # places looked at for an excerpt in which someone sings
SUNG = 0.7  # share of the song's vocal level from which an excerpt counts as sung


def write_excerpts(
    run: Run, catalogue: Catalogue, split: str, folder: Path, seconds: float | None, seed: int = 0
) -> Path:
    """Write one excerpt of each song of a split, 16 kHz mono flac, and return `truth.csv`.

    `seconds` None takes whole songs. An excerpt starts at random, where the vocal stem (if there
    is one) is at least 0.7 times as loud as over the whole song. The order is shuffled, so that
    a file's number says nothing.

    Raises:
        UserError: the split has no songs, the folder is not empty, or `seconds` is below 0.5.
    """
    songs = list(catalogue.of(split))
    if not songs:
        raise UserError(f"the split {split} has no songs")
    if seconds is not None and seconds < 0.5:
        raise UserError(f"--seconds {seconds:g} is too short; it must be 0.5 or more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; choose a new folder")
    cache = AudioCache(run.cache)
    order = np.random.default_rng(seed).permutation(len(songs))
    truth = io.StringIO()
    writer = csv.writer(truth, lineterminator="\n")
    for number, index in enumerate(order, 1):
        song = songs[index]
        wave = excerpt(song, cache, seconds, np.random.default_rng((seed, int(index))))
        with replacing(folder / f"{number:04d}.flac") as temporary:
            soundfile.write(temporary, wave, SAMPLE_RATE, subtype="PCM_16")
        writer.writerow([number, song.singer])
    path = folder / "truth.csv"
    write_text(path, truth.getvalue())
    return path


def excerpt(
    song: Song,
    cache: AudioCache,
    seconds: float | None,
    rng: np.random.Generator,
    recording: str = "mix",
) -> NDArray[np.int16]:
    """A stretch of a song where someone sings, int16, all of it if `seconds` is None or more.

    `recording`: "mix", or "vocals" for the same stretch of the vocal stem.
    """
    wave = cache.samples(song.vocals if recording == "vocals" else song.audio)
    length = len(wave) if seconds is None else round(seconds * SAMPLE_RATE)
    if length >= len(wave):
        return np.array(wave)
    starts = rng.integers(len(wave) - length + 1, size=PLACES)
    start = int(starts[0])
    if song.vocals:
        vocals = np.square(cache.samples(song.vocals), dtype=np.float32)
        levels = [float(np.sqrt(vocals[place : place + length].mean())) for place in starts]
        wanted = SUNG * float(np.sqrt(vocals.mean()))
        sung = [place for place, level in zip(starts, levels, strict=True) if level >= wanted]
        start = int(sung[0] if sung else starts[int(np.argmax(levels))])
    return np.array(wave[start : start + length])
