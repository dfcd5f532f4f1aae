"""Songs are measured once, in the right places, and again when their recording changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest

from embedder.catalogue import Catalogue, Song, read_catalogue, write_catalogue
from embedder.data.cache import AudioCache
from embedder.data.synth import song_path
from embedder.data.synth_music import draw_voice
from embedder.errors import UserError
from embedder.measures import voices
from embedder.measures.records import VOICES_FILE, made_from, read_rows, write_rows
from embedder.measures.voices import (
    CEPSTRA,
    HOP,
    MELS,
    Spectra,
    measure_song,
    measure_voices,
    pitch,
    spectra,
    stretches,
)
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


def sung(f0: np.ndarray, tilt_db: float = 12.0) -> np.ndarray:
    """A voice of harmonics that fall by `tilt_db` an octave, `f0 (samples,)` Hz."""
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    wave = np.zeros(len(f0))
    for number in range(1, 40):
        level = 10 ** (-tilt_db * np.log2(number) / 20)
        wave += np.where(number * f0 < 7500, level * np.sin(number * phase), 0)
    return (0.2 * wave / np.abs(wave).max()).astype(np.float32)


def semitones(found: float, true: float) -> float:
    return abs(12 * float(np.log2(found / true)))


@pytest.mark.parametrize("hz", [82.4, 220.0, 700.0])
def test_a_note_is_found_within_a_tenth_of_a_semitone(hz: float) -> None:
    found = pitch(sung(np.full(RATE, hz)))
    assert len(found) == 1 + RATE // HOP
    inside = found[4:-4]
    assert not np.isnan(inside).any()
    assert max(semitones(one, hz) for one in inside) < 0.15


def test_a_glide_has_the_quantiles_of_its_notes() -> None:
    """Two octaves evenly on a scale of pitch, so that each quantile is known."""
    samples = 3 * RATE
    f0 = 110 * 2 ** (2 * np.arange(samples) / samples)
    found = pitch(sung(f0))
    found = found[~np.isnan(found)]
    assert len(found) > 140
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert semitones(float(np.quantile(found, share)), 110 * 2 ** (2 * share)) < 0.5
    assert semitones(float(np.median(found)), 220) < 0.2


def test_noise_and_silence_have_no_pitch() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.1, size=RATE).astype(np.float32)
    assert np.isnan(pitch(noise)).mean() > 0.8
    silent = pitch(np.zeros(RATE, np.float32))
    assert len(silent) == 1 + RATE // HOP
    assert np.isnan(silent).all()
    assert np.isnan(pitch(np.zeros(500, np.float32))).all()  # shorter than a window


def test_frames_of_pitch_and_spectra_are_the_same() -> None:
    wave = sung(np.full(12345, 200.0))
    assert spectra(wave).power.shape[1] == len(pitch(wave))


def test_descriptors_by_hand() -> None:
    power = np.random.default_rng(1).gamma(0.5, size=(513, 7))
    sound = Spectra(power)
    hertz = np.arange(513) * RATE / 1024
    for frame in range(7):
        one = power[:, frame]
        assert sound.centroid()[frame] == pytest.approx((hertz * one**0.5).sum() / (one**0.5).sum())
        flat = np.exp(np.log(one.clip(1e-10)).mean()) / one.clip(1e-10).mean()
        assert sound.flatness()[frame] == pytest.approx(10 * np.log10(flat), abs=1e-6)
    bands = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=MELS) @ power
    cosines = np.cos(np.pi / MELS * np.outer(np.arange(MELS), np.arange(MELS) + 0.5))
    cepstrum = (2 / MELS) ** 0.5 * cosines @ (10 * np.log10(bands))
    np.testing.assert_allclose(sound.mfcc(), cepstrum[1 : CEPSTRA + 1].mean(axis=1), atol=1e-3)


@pytest.mark.parametrize("slope", [-12.0, -6.0, 3.0])
def test_tilt_is_the_slope_of_a_straight_spectrum(slope: float) -> None:
    hertz = np.maximum(np.arange(513) * RATE / 1024, 1.0)
    power = 10 ** (slope * np.log2(hertz / 1000) / 10)
    assert Spectra(np.stack([power, 3 * power], axis=1)).tilt() == pytest.approx(slope, abs=1e-3)


def test_loudness_changes_nothing_and_brightness_shows() -> None:
    dark, bright = (sung(np.full(RATE, 200.0), tilt) for tilt in (18.0, 6.0))
    quiet = spectra(0.02 * bright)  # an absolute floor in librosa would show
    loud = spectra(bright)
    assert np.median(quiet.centroid()) == pytest.approx(np.median(loud.centroid()), rel=1e-3)
    np.testing.assert_allclose(quiet.mfcc(), loud.mfcc(), atol=1e-2)
    np.testing.assert_allclose(quiet.flatness(), loud.flatness(), atol=0.01)
    assert np.median(loud.centroid()) > 2 * np.median(spectra(dark).centroid())
    assert loud.tilt() > spectra(dark).tilt() + 4
