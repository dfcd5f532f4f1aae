"""How far a few numbers on pitch and timbre alone tell singers apart.

Enters: measured songs. Leaves: the share of validation songs that a linear discriminant fitted on
training songs gives to the right singer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.voices.ranges import TIMBRE, Measured
from embedder.measures.voice_rows import VoiceRow
from embedder.metrics import Estimate, bootstrap_interval, mean_of


@dataclass(frozen=True)
class ToldBy:
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


def told_by(measured: Measured) -> list[ToldBy]:
    """A row for each of `SETS`; empty where there are too few songs.

    Linear discriminant analysis with shrinkage after Ledoit and Wolf, equal priors.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sung = measured.sung()
    train = [(song.singer, row) for song, row in sung if song.split == "train"]
    singers = sorted({singer for singer, _ in train})
    asked = [
        (song, row) for song, row in sung if song.split == "validation" and song.singer in singers
    ]
    if len(singers) < 2 or len(train) <= len(singers) or not asked:
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
        named = classifier.predict(np.array([numbers(row) for _, row in asked]))
        hits = np.array([one == song.singer for one, (song, _) in zip(named, asked, strict=True)])
        albums = [song.album_id for song, _ in asked]
        right = bootstrap_interval(mean_of(hits), len(asked), groups=albums)
        found.append(ToldBy(what, known.shape[1], right, len(asked), len(singers)))
    return found
