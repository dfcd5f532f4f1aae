"""Voices that were measured, as far as a run knows: a catalogue and rows, without any audio."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from embedder.artifacts import Run
from embedder.catalogue import Catalogue, Song, write_catalogue
from embedder.inference.store import read_store
from embedder.measures.voice_rows import VoiceRow, made_from, write_rows

Change = Callable[[VoiceRow], VoiceRow]


def song_of(song_id: str, split: str, vocals: bool = True) -> Song:
    singer, _, rest = song_id.partition("/")
    album, _, file = rest.rpartition("/")
    stem = f"vocals of {song_id}" if vocals else ""
    return Song(song_id, f"/{file}", singer, album, file, split, 30.0, f"mix of {song_id}", stem)


def row_of(song: Song, middle: float, width: float = 6.0) -> VoiceRow:
    """A song whose notes lie `width` semitones to either side of `middle` Hz."""
    steps = (-width, -width / 3, 0.0, width / 3, width)
    return VoiceRow(
        song.id,
        "vocals" if song.vocals else "mix",
        20.0,
        0.9,
        tuple(middle * 2 ** (step / 12) for step in steps),
        centroid_hz=4 * middle,
        flatness_db=-40.0 + middle / 100,
        tilt_db=-9.0 + middle / 200,
        mfcc=tuple(middle / 100 * (-1) ** number for number in range(12)),
        made_from=made_from(song, ""),
    )


@pytest.fixture(scope="session")
def song() -> Callable[..., Song]:
    return song_of


@pytest.fixture(scope="session")
def row() -> Callable[..., VoiceRow]:
    return row_of


@pytest.fixture(scope="session")
def measure() -> Callable[..., Run]:
    """`measure(run, {"Ada": 200.0})`: gives a run a catalogue, and rows for these singers."""

    def give(
        run: Run, middles: Mapping[str, float], vocals: bool = True, change: Change | None = None
    ) -> Run:
        member = sorted(path.name for path in run.members.iterdir())[0]
        songs = [
            song_of(song_id, split, vocals)
            for split in ("train", "validation")
            for song_id in read_store(run.store(member, split)).song_ids
        ]
        write_catalogue(run.catalogue, Catalogue(tuple(songs)))
        # Songs differ a little, as songs do.
        rows = [
            row_of(song, middles[song.singer] * (1 + 0.002 * (number % 3)))
            for number, song in enumerate(songs)
            if song.singer in middles
        ]
        write_rows(run, [change(one) if change else one for one in rows])
        return run

    return give


@pytest.fixture
def measured_run(build_run: Callable[..., Run], measure: Callable[..., Run]) -> Run:
    return measure(build_run(), {"Ada": 180.0, "Ben & Co": 200.0, "Cem": 120.0, "Dörte": 400.0})
