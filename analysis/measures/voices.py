"""Each singer's vocal range and timbre, and how far such numbers alone name a singer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embedder.catalogue import Song, read_catalogue
from embedder.errors import UserError
from embedder.inference.config import detector_fingerprint
from embedder.measures.records import (
    MEASURE_VOICES,
    QUANTILES,
    SPLITS,
    VoiceRow,
    fresh_rows,
    read_rows,
)
from embedder.run import Run
from embedder.statistics import Estimate, bootstrap_interval, mean_of

LEAST_VOICED = 0.2  # share of the sung frames with a pitch, from which a song's pitch counts
NOTES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
TIMBRE = ("centroid_hz", "flatness_db", "tilt_db")

Range = tuple[float, float]  # low and high, Hz


@dataclass(frozen=True)
class Voice:
    """One singer. The 5, 25, 50, 75 and 95 % quantiles of each measure, low to high."""

    singer: str
    songs: int
    stem: str  # what was listened to: "vocals", or "mix", where the pitch is mostly the band's
    f0: tuple[float, ...]  # Hz; each the median over songs of the songs' own quantile
    timbre: Mapping[str, tuple[float, ...]]  # name in `TIMBRE` → quantiles over songs

    @property
    def range_hz(self) -> Range:
        """Between the 5 % and the 95 % quantile: nine tenths of what is sung."""
        return self.f0[0], self.f0[-1]


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows that are true of the songs as they are."""

    songs: tuple[Song, ...]  # training and validation songs
    rows: Mapping[str, VoiceRow]  # of those that have one, by song id

    @property
    def missing(self) -> int:
        """Songs that were not measured, or have changed since."""
        return len(self.songs) - len(self.rows)

    def sung(self) -> list[tuple[Song, VoiceRow]]:
        """The songs in which enough is sung, with their rows."""
        pairs = [(song, self.rows[song.id]) for song in self.songs if song.id in self.rows]
        return [
            (song, row)
            for song, row in pairs
            if row.voiced >= LEAST_VOICED and not any(map(math.isnan, row.f0))
        ]


def read_measured(run: Run) -> Measured | str:
    """What was measured in a run's songs, or why there is nothing to show."""
    try:
        rows = read_rows(run)
        if not rows:
            return f"The singers' voices are not measured; {MEASURE_VOICES}"
        catalogue = read_catalogue(run.catalogue)
    except UserError as error:
        return f"The voices cannot be shown: {error}."
    songs = tuple(song for split in SPLITS for song in catalogue.of(split))
    fresh = fresh_rows(songs, rows, detector_fingerprint(run))
    if not fresh:
        said = "The singers' voices were measured in other recordings than the run's"
        return f"{said}; {MEASURE_VOICES}"
    return Measured(songs, {row.id: row for row in fresh})


def voices(measured: Measured) -> dict[str, Voice]:
    """Singer → voice, of those with a song in which someone sings; in order of their names."""
    of: dict[str, list[VoiceRow]] = defaultdict(list)
    for song, row in measured.sung():
        of[song.singer].append(row)
    for singer, rows in of.items():  # a stem says more of a voice than all mixtures together
        of[singer] = [row for row in rows if row.stem == "vocals"] or rows
    return {singer: _voice(singer, of[singer]) for singer in sorted(of)}


def _voice(singer: str, rows: Sequence[VoiceRow]) -> Voice:
    # The median over songs: one song an octave off moves a singer's range hardly.
    f0 = np.median([row.f0 for row in rows], axis=0)
    timbre = {
        name: tuple(np.quantile([getattr(row, name) for row in rows], QUANTILES).tolist())
        for name in TIMBRE
    }
    return Voice(singer, len(rows), rows[0].stem, tuple(f0.tolist()), timbre)


def ranges_of(run: Run) -> dict[str, Range]:
    """Singer → lowest and highest note, Hz: medians over songs of their 5 and 95 % quantiles.

    Of singers whose vocal stems were listened to; empty where voices are not measured, or the
    measurement cannot be read.
    """
    measured = read_measured(run)
    return {} if isinstance(measured, str) else vocal_ranges(voices(measured))


def vocal_ranges(found: Mapping[str, Voice]) -> dict[str, Range]:
    """The ranges that are the voices' own: those from vocal stems."""
    return {singer: voice.range_hz for singer, voice in found.items() if voice.stem == "vocals"}


def overlap(first: Range, second: Range) -> float:
    """Intersection of two ranges by their union, on a scale of pitch: 0 apart, 1 the same."""
    (low, high), (other_low, other_high) = np.log2(first), np.log2(second)
    shared = min(high, other_high) - max(low, other_low)
    whole = max(high, other_high) - min(low, other_low)
    if whole <= 0:  # both are the same single note
        return 1.0
    return float(max(shared, 0.0) / whole)


def note(hz: float) -> str:
    """The nearest note of the tempered scale with A4 at 440 Hz: 261.6 is "C4"."""
    number = round(69 + 12 * math.log2(hz / 440))
    return f"{NOTES[number % 12]}{number // 12 - 1}"


def note_and_hz(hz: float) -> str:
    """`A4 (440 Hz)`."""
    return f"{note(hz)} ({hz:.0f} Hz)"


@dataclass(frozen=True)
class FeatureProbe:
    """What some numbers tell."""

    what: str
    numbers: int  # of a song
    right: Estimate  # share of validation songs
    songs: int
    singers: int


def _pitch(row: VoiceRow) -> list[float]:
    return [float(np.log2(one)) for one in row.f0]


def _timbre(row: VoiceRow) -> list[float]:
    return [*(getattr(row, name) for name in TIMBRE), *row.mfcc]


SETS: dict[str, Callable[[VoiceRow], list[float]]] = {
    "pitch": _pitch,
    "timbre": _timbre,
    "pitch and timbre": lambda row: _pitch(row) + _timbre(row),
}


def feature_probes(measured: Measured) -> list[FeatureProbe]:
    """A row for each of `SETS`; empty where there are too few songs.

    Linear discriminant analysis with shrinkage after Ledoit and Wolf, equal priors.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sung = measured.sung()
    train = [(song.singer, row) for song, row in sung if song.split == "train"]
    singers = sorted({singer for singer, _ in train})
    queries = [
        (song, row) for song, row in sung if song.split == "validation" and song.singer in singers
    ]
    if len(singers) < 2 or len(train) <= len(singers) or not queries:
        return []
    found = []
    for what, numbers in SETS.items():
        known = np.array([numbers(row) for _, row in train])
        classifier = make_pipeline(
            StandardScaler(),
            LinearDiscriminantAnalysis(
                solver="lsqr", shrinkage="auto", priors=np.full(len(singers), 1 / len(singers))
            ),
        )
        classifier.fit(known, [singer for singer, _ in train])
        named = classifier.predict(np.array([numbers(row) for _, row in queries]))
        hits = np.array([one == song.singer for one, (song, _) in zip(named, queries, strict=True)])
        albums = [song.album_id for song, _ in queries]
        right = bootstrap_interval(mean_of(hits), len(queries), groups=albums)
        found.append(FeatureProbe(what, known.shape[1], right, len(queries), len(singers)))
    return found
