"""A split's songs as a test folder like a course's: numbered files, and who sings them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from embedder.artifact import replacing, write_text
from embedder.catalogue import Catalogue, Song
from embedder.config import SAMPLE_RATE
from embedder.data.audio import FULL_SCALE
from embedder.data.cache import AudioCache
from embedder.errors import UserError
from embedder.run import Run, prepare_again
from embedder.text import counted, to_csv

PLACES = 20  # places looked at for an excerpt in which someone sings
SUNG = 0.7  # share of the song's vocal level from which an excerpt counts as sung


def write_excerpts(
    run: Run,
    catalogue: Catalogue,
    split: str,
    folder: Path,
    seconds: float | None,
    seed: int = 0,
    vocals_db: float | None = None,
) -> Path:
    """Write one excerpt of each song of a split, 16 kHz mono flac, and return `truth.csv`.

    `seconds` None takes whole songs. `vocals_db` remixes the songs, their vocals louder by so many
    dB (negative: quieter). An excerpt starts at random, where the vocal stem (if there is one) is
    at least 0.7 times as loud as over the whole song. The order is shuffled, so that
    a file's number says nothing.

    Raises:
        UserError: the split has no songs, the folder is not empty, `seconds` is below 0.5, or a
            song to be remixed has no stems.
    """
    songs = list(catalogue.of(split))
    if not songs:
        raise UserError(f"the split {split} has no songs")
    if seconds is not None and seconds < 0.5:
        raise UserError(f"--seconds {seconds:g} is too short; it must be 0.5 or more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; choose a new folder")
    if vocals_db is not None and (bare := [s.id for s in songs if not s.vocals or not s.backing]):
        raise UserError(
            f"{counted(len(bare), 'song', ('has', 'have'))} no stems to remix them from, "
            f"{bare[0]} for one; give the "
            f"stems: {prepare_again(stems_dir='STEMS')}"
        )
    cache = AudioCache(run.cache)
    order = np.random.default_rng(seed).permutation(len(songs))
    truth: list[tuple[int, str]] = []
    for number, index in enumerate(order, 1):
        song = songs[index]
        rng = np.random.default_rng((seed, int(index)))
        whole = (
            cache.samples(song.audio)
            if vocals_db is None
            else attenuated_mix(song, cache, vocals_db)
        )
        wave = excerpt(whole, song, cache, seconds, rng)
        with replacing(folder / f"{number:04d}.flac") as temporary:
            soundfile.write(temporary, wave, SAMPLE_RATE, subtype="PCM_16")
        truth.append((number, song.singer))
    path = folder / "truth.csv"
    write_text(path, to_csv(truth))
    return path


def attenuated_mix(song: Song, cache: AudioCache, vocals_db: float) -> NDArray[np.int16]:
    """A song's backing with its vocals, which are `vocals_db` louder than they were, int16."""
    vocals, backing = cache.samples(song.vocals), cache.samples(song.backing)
    length = min(len(vocals), len(backing))
    total = backing[:length] + 10 ** (vocals_db / 20) * vocals[:length].astype(np.float64)
    return np.clip(np.round(total), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def excerpt(
    wave: NDArray[np.int16],
    song: Song,
    cache: AudioCache,
    seconds: float | None,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """A stretch of a song's recording `wave` where someone sings; all of it if `seconds` is None.

    Where, the song's vocal stem says, if there is one; the same generator gives the same place in
    every recording of one length.
    """
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
