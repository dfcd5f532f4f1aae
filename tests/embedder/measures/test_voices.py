"""Songs are measured once, in the right places, and again when their recording changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.catalogue import Catalogue, Song, read_catalogue, write_catalogue
from embedder.data.cache import AudioCache
from embedder.data.synth import song_path
from embedder.data.synth_voice import draw_voice
from embedder.errors import UserError
from embedder.measures import voices
from embedder.measures.records import VOICES_FILE, made_from, read_rows, write_rows
from embedder.measures.voices import measure_song, measure_voices, stretches
from embedder.run import Run

RATE = 16000
FRAMES = 100  # of 50 ms in a stretch of 5 s
SONG = Song("A/x/1.mp3", "/a", "A", "x", "1", "train", 40.0, "mix", "stem", "")


def nobody(samples: Any) -> None:
    raise AssertionError(f"asked of {samples}, but the vocal stem says where someone sings")


def tone(hz: float, seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * hz * n * time) / n for n in range(1, 8))
    return (6000 * np.asarray(wave)).astype(np.int16)


def test_stretches_are_sung_and_spread() -> None:
    length = 40 * RATE
    assert stretches(np.ones(8 * FRAMES, bool), length) == [0, 10 * RATE, 25 * RATE, 35 * RATE]
    active = np.zeros(8 * FRAMES, bool)
    for stretch, share in ((1, 0.1), (3, 0.9), (4, 0.8), (6, 0.5), (7, 0.2)):
        active[stretch * FRAMES : stretch * FRAMES + round(share * FRAMES)] = True
    assert stretches(active, length) == [place * RATE for place in (15, 20, 30, 35)]
    assert stretches(np.ones(50, bool), 40000) == [0]  # shorter than a stretch
    assert stretches(np.ones(2 * FRAMES, bool), 10 * RATE) == [0, 5 * RATE]


def test_a_songs_row_has_the_notes_that_are_sung(tmp_path: Path) -> None:
    """A quarter 200 Hz, three quarters 300 Hz; the rest of the song is silent."""
    cache = AudioCache(tmp_path)
    parts = [tone(200, 5), np.zeros(20 * RATE, np.int16), tone(300, 15)]
    cache.write("stem", np.concatenate(parts))
    row = measure_song(SONG, cache, nobody, "")
    assert (row.id, row.stem, row.seconds) == (SONG.id, "vocals", 20.0)
    assert row.made_from == made_from(SONG, "")
    assert row.voiced > 0.95
    for found, true in zip(row.f0, (200, 300, 300, 300, 300), strict=True):
        # the 25 % quantile lies where one note gives way to the other
        assert abs(12 * np.log2(found / true)) < 0.15 or (true == 300 and 200 <= found <= 303)
    assert abs(12 * np.log2(row.f0[2] / 300)) < 0.15
    assert row.tilt_db < -3
    cache.write("stem", np.zeros(10 * RATE, np.int16))
    silent = measure_song(SONG, cache, nobody, "")
    assert silent.voiced == 0
    assert np.isnan([*silent.f0, silent.centroid_hz, *silent.mfcc]).all()


def test_without_a_stem_the_mixture_is_heard_where_the_detector_hears_voice(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    cache.write("mix", np.concatenate([tone(400, 2.5), tone(150, 2.5)]))
    bare = replace(SONG, vocals="")
    second_half = np.arange(FRAMES) >= FRAMES // 2
    row = measure_song(bare, cache, lambda _: second_half, "ear")
    assert row.stem == "mix"
    assert row.made_from == made_from(bare, "ear") != made_from(bare, "")
    assert abs(12 * np.log2(row.f0[2] / 150)) < 0.15
    assert row.f0[3] < 200
    everywhere = measure_song(bare, cache, lambda _: None, "")
    assert everywhere.f0[4] > 390


def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Songs are noted instead of being measured."""
    done: list[str] = []
    real = voices.VoiceRow

    def note(song: Song, cache: AudioCache, listen: Any, detector: str) -> Any:
        assert cache
        assert listen
        done.append(song.id)
        return real(song.id, "vocals", 20.0, 1.0, made_from=made_from(song, detector))

    monkeypatch.setattr(voices, "measure_song", note)
    return done


def test_a_song_is_not_measured_twice(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = quick(monkeypatch)
    catalogue = read_catalogue(prepared.catalogue)
    wanted = [song.id for split in ("train", "validation") for song in catalogue.of(split)]
    path = measure_voices(prepared, jobs=1)
    assert done == list(read_rows(prepared)) == wanted
    first = path.read_bytes()
    measure_voices(prepared, jobs=1)
    assert len(done) == len(wanted)
    assert path.read_bytes() == first

    changed = [
        replace(song, vocals="another recording") if song.id == wanted[3] else song
        for song in catalogue.songs
    ]
    write_catalogue(prepared.catalogue, Catalogue(tuple(changed)))
    measure_voices(prepared, jobs=1)
    assert done[len(wanted) :] == [wanted[3]]

    gone = [song for song in catalogue.songs if song.id != wanted[1]]
    write_catalogue(prepared.catalogue, Catalogue(tuple(gone)))
    measure_voices(prepared, jobs=1)
    assert wanted[1] not in read_rows(prepared)

    prepared.measure(VOICES_FILE).write_text("of another version")
    count = len(done)
    measure_voices(prepared, jobs=1)
    assert len(done) == count + len(wanted) - 1


def test_a_stopped_measurement_goes_on_where_it_was(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = quick(monkeypatch)

    def stops(items: Any, total: int, title: str) -> Any:
        assert (total, title) == (8, "measuring voices")
        for number, item in enumerate(items):
            yield item
            if number == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_voices(prepared, jobs=1, progress=stops)
    kept = list(read_rows(prepared))
    assert kept == done[:3]
    measure_voices(prepared, jobs=1)
    assert len(read_rows(prepared)) == len(done) == len(set(done)) == 8


def test_synthesised_singers_sing_in_their_register(prepared: Run) -> None:
    """Singers of the built-in demo keep within seven semitones around their register."""
    catalogue = read_catalogue(prepared.catalogue)
    few = [song for song in catalogue.songs if song.split == "validation"]
    write_catalogue(prepared.catalogue, Catalogue(tuple(few)))
    measure_voices(prepared, jobs=1)
    voices_of = {song_path(place, 0, 0).parts[0]: draw_voice(0, place) for place in range(4)}
    rows = read_rows(prepared)
    assert len(rows) == 4
    for song in few:
        row = rows[song.id]
        assert row.voiced > 0.3
        voice = voices_of[song.singer]
        low, high = (69 + 12 * np.log2(row.f0[place] / 440) for place in (0, -1))
        assert voice.register - voice.span - 1 < low < high < voice.register + voice.span + 1


@pytest.mark.slow
def test_processes_measure_what_one_does(prepared: Run, command: Callable[..., Any]) -> None:
    """As a user runs it; two songs are left to measure."""
    measure_voices(prepared, jobs=1)
    rows = read_rows(prepared)
    write_rows(prepared, list(rows.values())[:-2])
    outcome = command("measure", "--what", "voices", "--run_dir", prepared.root)
    assert outcome.code == 0, outcome
    assert "measuring voices: 2 in" in outcome.out
    assert read_rows(prepared) == rows


def test_a_run_without_songs_is_refused(prepared: Run) -> None:
    catalogue = read_catalogue(prepared.catalogue)
    write_catalogue(prepared.catalogue, Catalogue(catalogue.of("test")))
    with pytest.raises(UserError, match="no training and no validation song"):
        measure_voices(prepared)
