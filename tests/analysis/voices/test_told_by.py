"""What few numbers tell: all, where they differ, and chance, where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.voices.ranges import Measured
from analysis.voices.told_by import told_by
from embedder.catalogue import Song
from embedder.measures.voice_rows import VoiceRow

Make = Callable[..., Measured]


@pytest.fixture
def make(song: Callable[..., Song], row: Callable[..., VoiceRow]) -> Make:
    """Four singers; their pitch differs by `apart` semitones, their timbre not at all."""

    def made(apart: float, train: int = 8, validation: int = 10) -> Measured:
        rng = np.random.default_rng(0)
        songs, rows = [], {}
        for singer in range(4):
            for number in range(train + validation):
                split = "train" if number < train else "validation"
                one = song(f"S{singer}/{split}/{number}.mp3", split)
                hz = 200 * 2 ** ((apart * singer + rng.normal()) / 12)
                noise = rng.normal(size=15)
                rows[one.id] = replace(
                    row(one, hz),
                    centroid_hz=1000 + 100 * noise[0],
                    flatness_db=noise[1],
                    tilt_db=noise[2],
                    mfcc=tuple(noise[3:]),
                )
                songs.append(one)
        return Measured(tuple(songs), rows)

    return made


def test_pitch_tells_what_timbre_does_not(make: Make) -> None:
    pitch, timbre, both = told_by(make(8.0))
    assert [one.what for one in (pitch, timbre, both)] == ["pitch", "timbre", "pitch and timbre"]
    assert [one.numbers for one in (pitch, timbre, both)] == [5, 15, 20]
    assert (pitch.songs, pitch.singers) == (40, 4)
    assert pitch.right.value > 0.95
    assert timbre.right.value < 0.5
    assert both.right.value > 0.9
    assert pitch.right.groups == 4  # albums, one a singer


def test_singers_of_one_pitch_are_not_told_by_it(make: Make) -> None:
    assert told_by(make(0.0))[0].right.value < 0.5


def test_too_few_songs(make: Make) -> None:
    assert told_by(make(8.0, train=1)) == []
    assert told_by(make(8.0, validation=0)) == []
