"""Which notes singers sing, and how their voices sound: measured on training and validation songs.

Of each song 20 s are measured, four stretches of 5 s where someone sings, of the vocal stem if
there is one and else of the mixture. Pitch is pYIN's, timbre a few numbers on the spectrum, both of
frames 20 ms apart. What was measured before and is still true is not measured again.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import librosa
import numpy as np
from numpy.typing import NDArray

from embedder.catalogue import Song, read_catalogue
from embedder.config import SAMPLE_RATE
from embedder.data.cache import AudioCache, Progress, available_cores, no_progress
from embedder.data.voice_activity import FRAME, Active, sung, voice_share
from embedder.errors import UserError
from embedder.inference.config import detector_fingerprint
from embedder.measures.records import (
    CEPSTRA,
    QUANTILES,
    SPLITS,
    VoiceRow,
    fresh_rows,
    made_from,
    read_rows,
    write_rows,
)
from embedder.run import Run, prepare_again

if TYPE_CHECKING:
    from embedder.inference.detector import Detector


STRETCH_S = 5
STRETCHES = 4  # of a song
SUNG = 0.7  # share of voice from which a stretch is as good as any
SAVE_S = 5.0  # between two writings of the csv
HOP = 320  # samples: 20 ms
WINDOW = 1024  # samples: 64 ms, four periods of the lowest pitch
LOWEST, HIGHEST = 65.0, 1050.0  # Hz: C2 to C6, from low male to high female voices
STEP = 0.2  # semitones between pitches that can be told apart: at most 0.1 wrong
MELS = 40
TILT = (100.0, 5000.0)  # Hz
QUIET = 1e-6  # a stretch of less power is silence
FindVoice = Callable[[NDArray[np.int16]], Active | None]  # samples of a mixture → where is sung
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra of frames, from which descriptors are taken when all of a song is together."""

    power: Floats  # (bins, frames), of a wave of root mean square 0.1

    def centroid(self) -> Floats:
        """Mean frequency of each frame's magnitudes (frames,), Hz."""
        magnitude = np.sqrt(self.power)
        return np.asarray(librosa.feature.spectral_centroid(S=magnitude, sr=SAMPLE_RATE)[0])

    def flatness(self) -> Floats:
        """Geometric to arithmetic mean of each frame's power (frames,), dB: 0 is noise."""
        found = librosa.feature.spectral_flatness(S=np.sqrt(self.power), power=2.0)[0]
        return np.asarray(10 * np.log10(found))

    def tilt(self) -> float:
        """Slope of the mean spectrum over octaves by least squares, dB an octave."""
        hertz = librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=WINDOW)
        inside = (hertz >= TILT[0]) & (hertz <= TILT[1])
        octaves = np.log2(hertz[inside])
        # Bins are evenly spaced in Hz: without weights the highest octave would count for all.
        level = 10 * np.log10(self.power[inside].mean(axis=1) + 1e-10)
        return float(np.polyfit(octaves, level, 1, w=np.sqrt(1 / hertz[inside]))[0])

    def mfcc(self) -> Floats:
        """Means of the cepstral coefficients of the mel spectrum, without the first (CEPSTRA,)."""
        mel = librosa.feature.melspectrogram(S=self.power, sr=SAMPLE_RATE, n_mels=MELS)
        found = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=CEPSTRA + 1)
        return np.asarray(found[1:].mean(axis=1))


def pitch(wave: NDArray[np.float32]) -> Floats:
    """Fundamental frequency of each frame (1 + samples // 320,), Hz; NaN where there is none.

    pYIN (Mauch & Dixon, ICASSP 2014) as librosa has it, from 65 to 1,050 Hz.
    """
    if not _sounds(wave):
        return np.full(1 + len(wave) // HOP, np.nan)
    f0, voiced, _ = librosa.pyin(
        wave,
        fmin=LOWEST,
        fmax=HIGHEST,
        sr=SAMPLE_RATE,
        frame_length=WINDOW,
        hop_length=HOP,
        resolution=STEP,
    )
    return np.where(voiced, f0, np.nan)


def spectra(wave: NDArray[np.float32]) -> Spectra:
    """Spectra of the frames for which `pitch` gives a value, at one level of the stretch."""
    level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    scale = 0.1 / level if _sounds(wave) else 0.0
    transform = librosa.stft(wave * np.float32(scale), n_fft=WINDOW, hop_length=HOP)
    return Spectra(np.square(np.abs(transform), dtype=np.float64))


def _sounds(wave: NDArray[np.float32]) -> bool:
    return len(wave) > WINDOW and float(np.mean(np.square(wave, dtype=np.float64))) > QUIET


def stretches(active: Active, length: int) -> list[int]:
    """Where the stretches of a song of `length` samples begin, in samples, ascending.

    The song is cut into stretches of 5 s, a rest at its end left out. Of those that are sung for
    70 % or more, four evenly spread over the song; where they are fewer than four, the most sung.
    """
    count = STRETCH_S * SAMPLE_RATE
    starts = np.arange(0, max(1, length - count + 1), count, dtype=np.int64)
    shares = voice_share(active, starts, count)
    good = np.flatnonzero(shares >= SUNG)
    if len(good) < STRETCHES:
        chosen = np.argsort(-shares, kind="stable")[:STRETCHES]
    else:
        chosen = good[np.linspace(0, len(good) - 1, STRETCHES).round().astype(int)]
    return sorted(starts[chosen].tolist())


def measure_song(song: Song, cache: AudioCache, find_voice: FindVoice, detector: str) -> VoiceRow:
    """One song's row. `find_voice` is asked where the song has no vocal stem."""
    stem, key = ("vocals", song.vocals) if song.vocals else ("mix", song.audio)
    samples = cache.samples(key)
    active = sung(samples) if stem == "vocals" else find_voice(samples)
    if active is None:  # there is no detector: everything may be sung
        active = np.ones(-(-len(samples) // FRAME), dtype=bool)
    count = STRETCH_S * SAMPLE_RATE
    starts = stretches(active, len(samples))
    frequencies, powers, sung_frames = [], [], 0
    for start in starts:
        wave = cache.read(key, start, min(count, len(samples) - start))
        f0 = pitch(wave)
        places = (start + HOP * np.arange(len(f0))) // FRAME
        singing = active[np.minimum(places, len(active) - 1)]
        voiced = ~np.isnan(f0) & singing
        frequencies.append(f0[voiced])
        powers.append(spectra(wave).power[:, : len(f0)][:, voiced])
        sung_frames += int(singing.sum())
    f0, seconds = np.concatenate(frequencies), sum(min(count, len(samples) - s) for s in starts)
    origin = made_from(song, detector)
    share = len(f0) / sung_frames if sung_frames else 0.0
    if not len(f0):
        return VoiceRow(song.id, stem, seconds / SAMPLE_RATE, share, made_from=origin)
    sound = Spectra(np.concatenate(powers, axis=1))
    return VoiceRow(
        song.id,
        stem,
        seconds / SAMPLE_RATE,
        share,
        f0=tuple(np.quantile(f0, QUANTILES).tolist()),
        centroid_hz=float(np.median(sound.centroid())),
        flatness_db=float(np.median(sound.flatness())),
        tilt_db=sound.tilt(),
        mfcc=tuple(sound.mfcc().tolist()),
        made_from=origin,
    )


def measure_voices(run: Run, jobs: int | None = None, progress: Progress = no_progress) -> Path:
    """Measure what is not measured yet, on `jobs` processes (all cores if None).

    Returns the csv's path. A measurement that was stopped goes on where it was.

    Raises:
        UserError: there is no training or validation song, or a song's decoded audio is missing.
    """
    catalogue = read_catalogue(run.catalogue)
    songs = [song for split in SPLITS for song in catalogue.of(split)]
    if not songs:
        raise UserError(
            "the run has no training and no validation song; "
            f"{prepare_again('run again', split='album')}"
        )
    detector = detector_fingerprint(run)
    try:
        rows = {row.id: row for row in fresh_rows(songs, read_rows(run), detector)}
    except UserError:  # a csv of another version is written again
        rows = {}
    wanted = [song for song in songs if song.id not in rows]
    saved = time.monotonic()
    try:
        for row in progress(_each(run, wanted, jobs), len(wanted), "measuring voices"):
            rows[row.id] = row
            if time.monotonic() - saved > SAVE_S:
                write_rows(run, _ordered(songs, rows))
                saved = time.monotonic()
    finally:
        path = write_rows(run, _ordered(songs, rows))
    return path


def _ordered(songs: Sequence[Song], rows: dict[str, VoiceRow]) -> list[VoiceRow]:
    return [rows[song.id] for song in songs if song.id in rows]


class Worker:
    """What measures songs of a run; the voice detector is loaded when the first song needs it."""

    def __init__(self, run: Run) -> None:
        self.run, self.cache = run, AudioCache(run.cache)
        self.fingerprint = detector_fingerprint(run)
        self.detector: Detector | None = None

    def __call__(self, song: Song) -> VoiceRow:
        return measure_song(song, self.cache, self._find_voice, self.fingerprint)

    def _find_voice(self, samples: NDArray[np.int16]) -> Active | None:
        if not self.fingerprint:
            return None
        import torch

        from embedder.inference.detector import detected, load_detector

        if self.detector is None:
            torch.set_num_threads(1)
            self.detector = load_detector(self.run)
        return None if self.detector is None else detected(self.detector, samples)


_worker: list[Worker] = []  # of this process


def _begin(run: Run) -> None:
    # Ctrl-C reaches all processes: the first one stops the others, which end what they have begun.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker[:] = [Worker(run)]


def _measure(song: Song) -> VoiceRow:
    return _worker[0](song)


def _each(run: Run, songs: Sequence[Song], jobs: int | None) -> Iterator[VoiceRow]:
    """The songs' rows as they come; a failure or Ctrl-C drops what has not begun."""
    jobs = min(available_cores() if jobs is None else jobs, len(songs))
    if jobs <= 1:
        worker = Worker(run)
        yield from (worker(song) for song in songs)
        return
    # Fresh processes: forked ones would share the locks of threads that are gone.
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(run,)
    ) as pool:
        try:
            futures: list[Future[VoiceRow]] = [pool.submit(_measure, song) for song in songs]
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
