"""A log-mel spectrogram of three seconds for each singer, mixture and vocals side by side.

The mels are those that members take, of one level and before each band's mean is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from embedder.artifact import fingerprint
from embedder.catalogue import Song, read_catalogue
from embedder.config import SAMPLE_RATE, FeatureConfig
from embedder.data.cache import AudioCache, Progress, no_progress
from embedder.data.voice_activity import voice_share
from embedder.errors import UserError
from embedder.inference.config import detector_fingerprint
from embedder.inference.detector import Voices, load_detector
from embedder.measures.records import (
    SECONDS,
    SPECTROGRAMS_FILE,
    Spectrograms,
    read_spectrograms,
    write_spectrograms,
)
from embedder.models.frontends import LogMel
from embedder.run import Run, prepare_again

LOOKED_AT = 5  # training songs of each singer, the first by id, of which one is drawn
FEATURES = FeatureConfig(mel_norm="none")
DB = 10 / np.log(10)  # of a natural logarithm of power


def measure_spectrograms(run: Run, progress: Progress = no_progress) -> Path:
    """Draw one song of each singer, unless that is done, and return the file's path.

    Raises:
        UserError: there is no training song, or a song's decoded audio is missing.
    """
    songs = read_catalogue(run.catalogue).of("train")
    if not songs:
        raise UserError(
            f"the run has no training song; {prepare_again('run again', split='album')}"
        )
    cache = AudioCache(run.cache)
    singers = tuple(sorted({song.singer for song in songs}))
    candidates = [[s for s in songs if s.singer == singer][:LOOKED_AT] for singer in singers]
    path = run.measure(SPECTROGRAMS_FILE)
    made_from = _made_from(candidates, detector_fingerprint(run))
    if _is_fresh(run, made_from):
        return path
    voices = Voices(load_detector(run), cache)
    places = [
        most_voiced(some, voices, cache)
        for some in progress(candidates, len(candidates), "drawing spectrograms")
    ]
    mixture = [levels(_read(cache, song.audio, start)) for song, start in places]
    vocals = [
        levels(_read(cache, song.vocals, start)) if song.vocals else None for song, start in places
    ]
    there = [one for one in (*mixture, *vocals) if one is not None]
    low = min(float(one.min()) for one in there)
    step = max((max(float(one.max()) for one in there) - low) / 255, 1e-6)
    empty = np.zeros_like(mixture[0])

    def quantised(pictures: Sequence[NDArray[np.float32] | None]) -> NDArray[np.uint8]:
        known = [empty if one is None else ((one - low) / step).round() for one in pictures]
        return np.stack(known).astype(np.uint8)

    found = Spectrograms(
        singers=singers,
        songs=tuple(song.id for song, _ in places),
        keys=tuple((song.audio, song.vocals) for song, _ in places),
        starts_s=tuple(start for _, start in places),
        hertz=tuple(round(one, 1) for one in band_centres(FEATURES)),
        hop_s=FEATURES.hop / SAMPLE_RATE,
        low_db=low,
        step_db=step,
        mixture=quantised(mixture),
        vocals=quantised(vocals),
        made_from=made_from,
    )
    write_spectrograms(run, found)
    return path


def most_voiced(songs: Sequence[Song], voices: Voices, cache: AudioCache) -> tuple[Song, int]:
    """The song, and its second, from which three seconds are sung most; the first of equals."""
    best: tuple[float, Song, int] | None = None
    for song in songs:
        length = cache.length(song.audio)
        active = voices.of_song(song)
        seconds = max(1, (length - SECONDS * SAMPLE_RATE) // SAMPLE_RATE + 1)
        starts = SAMPLE_RATE * np.arange(seconds)
        if active is None:  # there is no detector: the song's middle
            share, second = 0.0, seconds // 2
        else:
            shares = voice_share(active, starts, SECONDS * SAMPLE_RATE)
            second = int(shares.argmax())
            share = float(shares[second])
        if best is None or share > best[0]:
            best = (share, song, second)
    assert best is not None  # a singer has songs
    return best[1:]


def levels(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """`wave (samples,)` → power of each mel band and frame, dB: `(mels, 1 + samples // hop)`."""
    with torch.inference_mode():
        mel = LogMel(FEATURES)(torch.from_numpy(wave)[None])[0]
    return np.asarray(DB * mel.numpy(), dtype=np.float32)


def band_centres(config: FeatureConfig) -> list[float]:
    """Centre frequency of each mel band, Hz, as torchaudio spaces them."""
    bins = torch.linspace(0, SAMPLE_RATE // 2, config.n_fft // 2 + 1)
    filters = torchaudio.functional.melscale_fbanks(
        len(bins), config.f_min, SAMPLE_RATE / 2, config.n_mels, SAMPLE_RATE
    )
    return [float(one) for one in (bins @ filters) / filters.sum(dim=0).clamp(min=1e-9)]


def _read(cache: AudioCache, key: str, second: int) -> NDArray[np.float32]:
    return cache.read(key, second * SAMPLE_RATE, SECONDS * SAMPLE_RATE)


def _made_from(candidates: Sequence[Sequence[Song]], detector: str) -> str:
    """The fingerprint of all that decides what is drawn."""
    keys = (f"{song.id} {song.audio} {song.vocals}" for some in candidates for song in some)
    return fingerprint(detector, *keys)


def _is_fresh(run: Run, made_from: str) -> bool:
    try:
        there = read_spectrograms(run)
    except UserError:  # of another version
        return False
    return there is not None and there.made_from == made_from
