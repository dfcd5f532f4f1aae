"""What was measured, on disk: `voices.csv` with a row a song, and `spectrograms.npz`.

Each record names what it was made from: a row of another recording, another voice detector or
another way to measure is old. Nothing here needs librosa or torch, so that pages need neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import Artifact, fingerprint, write_text
from embedder.catalogue import Song
from embedder.errors import Command, UserError
from embedder.run import Run
from embedder.text import read_csv, to_csv

VOICES_FILE = "voices.csv"
VOICES_FORMAT = "1"  # changes with the way of measuring
MEASURE_VOICES = Command("measure", before="run again", what="voices")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CEPSTRA = 12  # mel-frequency cepstral coefficients, without the first, which is the level
SPLITS = ("train", "validation")  # whose songs are measured
MISSING = math.nan  # what has no value in a song where nobody sings
SPECTROGRAMS_FILE = "spectrograms.npz"
MEASURE_SPECTROGRAMS = Command("measure", before="run again", what="spectrograms")
SECONDS = 3


@dataclass(frozen=True)
class VoiceRow:
    """One song. All but `seconds` and `voiced` is of voiced frames alone, NaN where there is none.

    The fundamental frequency is the voice's if the recording is a vocal stem. In a mixture it is
    mostly that of the bass or of a chord: in 50 synthesised mixtures whose stems are known, a
    song's median was within a semitone of the voice's in 20 % of songs and 10 semitones too low in
    the median; its 5 % quantile 17. Octave errors of pYIN come on top, in stems too.
    """

    id: str
    stem: str  # "vocals" or "mix": what was measured
    seconds: float  # how much of it
    voiced: float  # share of the frames in which someone sings that have a pitch, 0 to 1
    f0: tuple[float, ...] = (MISSING,) * len(QUANTILES)  # Hz; of the fundamental frequency
    centroid_hz: float = MISSING  # median over frames of the spectrum's mean frequency
    flatness_db: float = MISSING  # median; geometric to arithmetic mean of power, 0: noise
    tilt_db: float = MISSING  # fall of the mean spectrum from 100 Hz to 5 kHz, dB an octave
    mfcc: tuple[float, ...] = (MISSING,) * CEPSTRA  # means
    made_from: str = ""


COLUMNS = (
    *("id", "stem", "seconds", "voiced"),
    *(f"f0_{round(100 * share)}" for share in QUANTILES),
    *("centroid_hz", "flatness_db", "tilt_db"),
    *(f"mfcc_{number}" for number in range(1, CEPSTRA + 1)),
    "made_from",
)


def made_from(song: Song, detector: str) -> str:
    """The fingerprint of all that a song's row depends on.

    `detector`: fingerprint of the run's voice detector, which is asked where there is no stem.
    """
    if song.vocals:
        return fingerprint("voices", VOICES_FORMAT, "vocals", song.vocals)
    return fingerprint("voices", VOICES_FORMAT, "mix", song.audio, detector)


def fresh_rows(songs: Iterable[Song], rows: dict[str, VoiceRow], detector: str) -> list[VoiceRow]:
    """The rows of `songs`, in their order, that are still true of them."""
    found = [(song, rows.get(song.id)) for song in songs]
    return [row for song, row in found if row and row.made_from == made_from(song, detector)]


def write_rows(run: Run, rows: Iterable[VoiceRow]) -> Path:
    """Write the csv, atomically, and return its path."""
    path = run.measure(VOICES_FILE)
    write_text(path, to_csv([COLUMNS, *(_cells(row) for row in rows)]))
    return path


def read_rows(run: Run) -> dict[str, VoiceRow]:
    """Song id → row; empty where nothing was measured.

    Raises `UserError` if the file is there, but is no such csv.
    """
    path = run.measure(VOICES_FILE)
    if not path.is_file():
        return {}
    try:
        (_, head), *lines = read_csv(path)
        if tuple(head) != COLUMNS:
            raise ValueError
        rows = [_row(cells) for _, cells in lines]
    except (ValueError, UserError):
        raise UserError(
            f"{path} is no csv of voices as this program writes it; {MEASURE_VOICES}"
        ) from None
    return {row.id: row for row in rows}


def _cells(row: VoiceRow) -> list[str]:
    sound = (*row.f0, row.centroid_hz, row.flatness_db, row.tilt_db, *row.mfcc)
    numbers = (row.seconds, row.voiced, *sound)
    texts = ["" if math.isnan(one) else f"{one:.6g}" for one in numbers]
    return [row.id, row.stem, *texts, row.made_from]


def _row(cells: list[str]) -> VoiceRow:
    if len(cells) != len(COLUMNS):
        raise ValueError("cells are missing")
    name, stem, *texts, origin = cells
    seconds, voiced, *sound = (float(text) if text else MISSING for text in texts)
    f0, mfcc = sound[: len(QUANTILES)], sound[-CEPSTRA:]
    centroid, flatness, tilt = sound[len(QUANTILES) : -CEPSTRA]
    timbre = (centroid, flatness, tilt, tuple(mfcc))
    return VoiceRow(name, stem, seconds, voiced, tuple(f0), *timbre, origin)


@dataclass(frozen=True, eq=False)
class Spectrograms:
    """What was drawn: one song of each singer, its mixture and its vocal stem."""

    singers: tuple[str, ...]
    songs: tuple[str, ...]  # song id of each singer, in their order
    keys: tuple[tuple[str, str], ...]  # hashes of the mixture and of the vocal stem, "": none
    starts_s: tuple[int, ...]  # where the three seconds begin
    hertz: tuple[float, ...]  # centre frequency of each mel band
    hop_s: float  # from one frame to the next
    low_db: float  # level of 0
    step_db: float  # from one level to the next
    mixture: NDArray[np.uint8]  # (singers, mels, frames), lowest band first
    vocals: NDArray[np.uint8]  # likewise, 0 where there is no vocal stem
    made_from: str = ""  # fingerprint of the songs that were looked at, and of the voice detector

    def __post_init__(self) -> None:
        shape = (len(self.singers), len(self.hertz))
        for pictures in (self.mixture, self.vocals):
            if pictures.dtype != np.uint8 or pictures.shape[:2] != shape:
                raise ValueError("pictures are not (singers, mels, frames) of eight bits")


SPECTROGRAMS = Artifact(
    "file of spectrograms", 1, Spectrograms, MEASURE_SPECTROGRAMS, compressed=True
)


def write_spectrograms(run: Run, found: Spectrograms) -> None:
    """Write one `.npz`, atomically. The same pictures give the same bytes."""
    SPECTROGRAMS.write(run.measure(SPECTROGRAMS_FILE), found)


def read_spectrograms(run: Run) -> Spectrograms | None:
    """What `write_spectrograms` wrote, None where nothing is.

    Raises:
        UserError: The file is there, but is none of them.
    """
    path = run.measure(SPECTROGRAMS_FILE)
    return SPECTROGRAMS.read(path) if path.is_file() else None
