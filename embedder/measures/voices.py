"""Which notes singers sing, and how their voices sound: measured on training and validation songs.

Enters: a prepared run. Leaves: `voices.csv`, a row a song (`voice_rows`). Of each song 20 s are
listened to, four stretches of 5 s where someone sings, of the vocal stem if there is one and else
of the mixture. What was measured before and is still true is not measured again.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedder.catalogue import Song, read_catalogue
from embedder.config import SAMPLE_RATE
from embedder.data.activity import FRAME, Active, sung, voice_share
from embedder.data.cache import AudioCache
from embedder.data.decoding import Progress, available_cores, no_progress
from embedder.errors import UserError
from embedder.inference.config import detector_fingerprint
from embedder.measures.singing import HOP, Spectra, pitch, spectra
from embedder.measures.voice_rows import (
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
    from embedder.voice.detect import Detector

STRETCH_S = 5
STRETCHES = 4  # of a song
SUNG = 0.7  # share of voice from which a stretch is as good as any
SAVE_S = 5.0  # between two writings of the csv
Listen = Callable[[NDArray[np.int16]], Active | None]  # samples of a mixture → where is sung


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
    except UserError:  # a csv of another version is written anew
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


def measure_song(song: Song, cache: AudioCache, listen: Listen, detector: str) -> VoiceRow:
    """One song's row. `listen` is asked where the song has no vocal stem."""
    stem, key = ("vocals", song.vocals) if song.vocals else ("mix", song.audio)
    samples = cache.samples(key)
    active = sung(samples) if stem == "vocals" else listen(samples)
    if active is None:  # nobody listens for voice: everything may be sung
        active = np.ones(-(-len(samples) // FRAME), dtype=bool)
    count = STRETCH_S * SAMPLE_RATE
    starts = stretches(active, len(samples))
    frequencies, powers, heard = [], [], 0
    for start in starts:
        wave = cache.read(key, start, min(count, len(samples) - start))
        f0 = pitch(wave)
        places = (start + HOP * np.arange(len(f0))) // FRAME
        singing = active[np.minimum(places, len(active) - 1)]
        voiced = ~np.isnan(f0) & singing
        frequencies.append(f0[voiced])
        powers.append(spectra(wave).power[:, : len(f0)][:, voiced])
        heard += int(singing.sum())
    f0, seconds = np.concatenate(frequencies), sum(min(count, len(samples) - s) for s in starts)
    origin = made_from(song, detector)
    share = len(f0) / heard if heard else 0.0
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


def _ordered(songs: Sequence[Song], rows: dict[str, VoiceRow]) -> list[VoiceRow]:
    return [rows[song.id] for song in songs if song.id in rows]


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


class Worker:
    """What measures songs of a run; the voice detector is loaded when the first song needs it."""

    def __init__(self, run: Run) -> None:
        self.run, self.cache = run, AudioCache(run.cache)
        self.fingerprint = detector_fingerprint(run)
        self.detector: Detector | None = None

    def __call__(self, song: Song) -> VoiceRow:
        return measure_song(song, self.cache, self._listen, self.fingerprint)

    def _listen(self, samples: NDArray[np.int16]) -> Active | None:
        if not self.fingerprint:
            return None
        import torch

        from embedder.voice.detect import detected, load_detector

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
