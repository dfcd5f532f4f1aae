"""Ranges: medians over songs, what is old or silent left out, and overlap on a scale of pitch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.measures.voices import (
    Measured,
    feature_probes,
    note,
    note_and_hz,
    overlap,
    ranges_of,
    read_measured,
    voices,
)
from embedder.catalogue import Catalogue, Song, read_catalogue, write_catalogue
from embedder.measures.records import VOICES_FILE, VoiceRow, read_rows, write_rows
from embedder.run import Run

MIDDLES = {"Ada": 180.0, "Ben & Co": 200.0, "Cem": 120.0, "Dörte": 400.0}


def test_a_singers_range_is_the_median_of_the_songs(
    song: Callable[..., Song], row: Callable[..., VoiceRow]
) -> None:
    songs = tuple(song(f"A/x/{number}.mp3", "train") for number in range(5))
    middles = (190.0, 200.0, 210.0, 400.0, 205.0)  # one is an octave off
    widths = (6, 6, 5, 6, 7)
    rows = {
        one.id: row(one, hz, width) for one, hz, width in zip(songs, middles, widths, strict=True)
    }
    voice = voices(Measured(songs, rows))["A"]
    assert (voice.songs, voice.stem) == (5, "vocals")
    for place in range(5):
        assert voice.f0[place] == pytest.approx(sorted(one.f0[place] for one in rows.values())[2])
    assert voice.range_hz == (voice.f0[0], voice.f0[4])
    centroids = [one.centroid_hz for one in rows.values()]
    assert voice.timbre["centroid_hz"][1] == pytest.approx(np.quantile(centroids, 0.25))


def test_songs_without_a_voice_do_not_count(
    song: Callable[..., Song], row: Callable[..., VoiceRow]
) -> None:
    songs = tuple(song(f"{singer}/x/1.mp3", "train") for singer in "ABC")
    rows = {one.id: row(one, 200.0) for one in songs}
    rows[songs[0].id] = replace(rows[songs[0].id], voiced=0.1)
    rows[songs[1].id] = VoiceRow(songs[1].id, "mix", 20.0, 0.9)
    assert list(voices(Measured(songs, rows))) == ["C"]


def test_ranges_of_a_run(measured_run: Run) -> None:
    found = ranges_of(measured_run)
    assert list(found) == sorted(MIDDLES)
    for singer, middle in MIDDLES.items():
        low, high = found[singer]
        assert low == pytest.approx(middle * 1.002 / 2**0.5, rel=1e-4)
        assert high == pytest.approx(middle * 1.002 * 2**0.5, rel=1e-4)


def test_what_is_missing_or_old_is_said(measured_run: Run) -> None:
    catalogue = read_catalogue(measured_run.catalogue)
    changed = [
        replace(song, vocals="another") if song.singer == "Ada" else song
        for song in catalogue.songs
    ]
    write_catalogue(measured_run.catalogue, Catalogue(tuple(changed)))
    found = read_measured(measured_run)
    assert isinstance(found, Measured)
    assert found.missing == 9
    assert list(ranges_of(measured_run)) == ["Ben & Co", "Cem", "Dörte"]

    everything = tuple(replace(song, vocals="another") for song in catalogue.songs)
    write_catalogue(measured_run.catalogue, Catalogue(everything))
    assert "in other recordings than the run's; run again" in str(read_measured(measured_run))
    assert ranges_of(measured_run) == {}
    write_rows(measured_run, [])
    assert str(read_measured(measured_run)).startswith("The singers' voices are not measured; run")
    measured_run.measure(VOICES_FILE).write_text("something else")
    assert "no csv of voices" in str(read_measured(measured_run))
    assert ranges_of(measured_run) == {}


def test_another_detector_makes_rows_of_mixtures_old(
    build_run: Callable[..., Run], measure: Callable[..., Run]
) -> None:
    run = measure(build_run(), MIDDLES, vocals=False)
    assert {one.stem for one in read_rows(run).values()} == {"mix"}
    found = read_measured(run)
    assert isinstance(found, Measured)
    assert len(voices(found)) == 4
    assert ranges_of(run) == {}  # the pitch of a mixture is no voice's
    run.detector.mkdir()
    run.detector_weights.write_bytes(b"another ear")
    assert "in other recordings" in str(read_measured(run))


def test_stems_go_before_mixtures(song: Callable[..., Song], row: Callable[..., VoiceRow]) -> None:
    songs = [song(f"A/x/{number}.mp3", "train", vocals=number == 0) for number in range(3)]
    rows = {one.id: row(one, hz) for one, hz in zip(songs, (300.0, 70.0, 80.0), strict=True)}
    voice = voices(Measured(tuple(songs), rows))["A"]
    assert (voice.songs, voice.stem) == (1, "vocals")
    assert voice.f0[2] == 300.0


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ((100, 200), (100, 200), 1.0),
        ((100, 200), (200, 400), 0.0),
        ((100, 200), (300, 400), 0.0),
        ((100, 400), (200, 800), 1 / 3),  # of three octaves one is shared
        ((100, 400), (100, 200), 0.5),
        ((100, 100), (100, 100), 1.0),
    ],
)
def test_overlap(first: tuple[float, float], second: tuple[float, float], share: float) -> None:
    assert overlap(first, second) == pytest.approx(share)
    assert overlap(second, first) == pytest.approx(share)


@pytest.mark.parametrize(
    ("hz", "name"), [(440, "A4"), (261.63, "C4"), (116.5, "B♭2"), (65.4, "C2"), (987.8, "B5")]
)
def test_notes(hz: float, name: str) -> None:
    assert note(hz) == name
    assert note_and_hz(hz) == f"{name} ({hz:.0f} Hz)"


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
    pitch, timbre, both = feature_probes(make(8.0))
    assert [one.what for one in (pitch, timbre, both)] == ["pitch", "timbre", "pitch and timbre"]
    assert [one.numbers for one in (pitch, timbre, both)] == [5, 15, 20]
    assert (pitch.songs, pitch.singers) == (40, 4)
    assert pitch.right.value > 0.95
    assert timbre.right.value < 0.5
    assert both.right.value > 0.9
    assert pitch.right.groups == 4  # albums, one a singer


def test_singers_of_one_pitch_are_not_told_by_it(make: Make) -> None:
    assert feature_probes(make(0.0))[0].right.value < 0.5


def test_too_few_songs(make: Make) -> None:
    assert feature_probes(make(8.0, train=1)) == []
    assert feature_probes(make(8.0, validation=0)) == []
