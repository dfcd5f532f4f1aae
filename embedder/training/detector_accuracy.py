"""How well a voice detector finds where someone sings: accuracy, precision, recall, F1 and the area
under the ROC curve of frames, with bootstrap intervals over albums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE
from embedder.data.audio import FULL_SCALE, to_int16
from embedder.data.cache import AudioCache, Progress, no_progress
from embedder.data.stems import lag_of, moved
from embedder.data.voice_activity import FRAME, Active, smoothed, sung
from embedder.inference.detector import THRESHOLD, voice_probability
from embedder.models.detector import VoiceDetector
from embedder.statistics import Estimate, bootstrap_interval

LEVELS = 1000  # steps of probability that the area under the curve tells apart
LOWER_DB = -8.0  # of the vocals in the hard condition
MOST_SONGS = 100  # songs that are measured; of more, these many spread evenly

Frames = tuple[NDArray[np.floating[Any]], Active]  # probabilities and truth of one song, (frames,)


@dataclass(frozen=True)
class Accuracy:
    """One row: a condition and what was measured under it, over all frames of all songs."""

    condition: str
    songs: int
    frames: int
    sung: float  # share of frames in which someone sings: the accuracy of always saying so
    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    auc: Estimate


def accuracy_of(
    condition: str, songs: Sequence[Frames], seed: int = 0, albums: Sequence[str] | None = None
) -> Accuracy:
    """Measure detected frames (thresholded and smoothed) and, for the AUC, bare probabilities.

    All frames of the resampled `albums` (songs,), or songs, are counted together. F1 is that of the
    sung frames. Raises `ValueError` if no frame is sung, or every one.
    """
    counts = np.array([_counts(*frames) for frames in songs], dtype=np.float64)  # (songs, 4)
    hits, alarms, misses, rests = counts.sum(axis=0)
    total = counts.sum()
    if not hits + misses or not alarms + rests:
        raise ValueError("accuracy needs frames with and frames without voice")
    histograms = np.array([_histograms(*frames) for frames in songs])  # (songs, 2, LEVELS)

    def share(top: Sequence[float], bottom: Sequence[float]) -> Estimate:
        """top · counts / bottom · counts, counts being hits, false alarms, misses and rests."""

        def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            sums = weights @ counts
            return np.asarray((sums @ np.array(top)) / np.maximum(sums @ np.array(bottom), 1))

        return bootstrap_interval(statistic, len(songs), seed, albums)

    def area(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _areas(np.tensordot(weights, histograms, axes=1))

    return Accuracy(
        condition=condition,
        songs=len(songs),
        frames=int(total),
        sung=float((hits + misses) / total),
        accuracy=share((1, 0, 0, 1), (1, 1, 1, 1)),
        precision=share((1, 0, 0, 0), (1, 1, 0, 0)),
        recall=share((1, 0, 0, 0), (1, 0, 1, 0)),
        f1=share((2, 0, 0, 0), (2, 1, 1, 0)),
        auc=bootstrap_interval(area, len(songs), seed, albums),
    )


def _counts(probability: NDArray[np.floating[Any]], truth: Active) -> tuple[int, int, int, int]:
    """Hits, false alarms, misses and right rests."""
    said = smoothed(probability >= THRESHOLD)
    pairs = ((said & truth), (said & ~truth), (~said & truth), (~said & ~truth))
    return tuple(int(pair.sum()) for pair in pairs)  # type: ignore[return-value]


def _histograms(probability: NDArray[np.floating[Any]], truth: Active) -> NDArray[np.float64]:
    """How many frames without and with voice have each level of probability: (2, LEVELS)."""
    level = np.minimum((probability * LEVELS).astype(np.int64), LEVELS - 1)
    parts = [np.bincount(level[truth == voice], minlength=LEVELS) for voice in (False, True)]
    return np.stack(parts).astype(np.float64)


def _areas(histograms: NDArray[np.float64]) -> NDArray[np.float64]:
    """The chance that a sung frame has the higher level than one that is not, ties half.

    `histograms (resamples, 2, LEVELS)` → (resamples,): the Mann–Whitney form of the area under the
    ROC curve (Hanley & McNeil 1982). Where one kind of frame is missing, 0.5.
    """
    without, sung_frames = histograms[:, 0], histograms[:, 1]
    below = np.cumsum(without, axis=1) - without / 2
    pairs = without.sum(axis=1) * sung_frames.sum(axis=1)
    won = (sung_frames * below).sum(axis=1)
    return np.asarray(np.where(pairs > 0, won / np.maximum(pairs, 1), 0.5))


def measure_detection(
    network: VoiceDetector,
    songs: Sequence[Song],
    cache: AudioCache,
    progress: Progress = no_progress,
) -> list[Accuracy]:
    """Rows for songs with both stems: their sum, the vocals 8 dB lower in it, and the mixture.

    No row where all frames are sung, or none. Truth is where the vocal stem is sung by its energy.
    The mixture's own file may lie apart from its stems (an mp3 decoder's delay); the truth is moved
    by the lag of the best correlation.
    """
    if len(songs) > MOST_SONGS:
        songs = [songs[i] for i in np.linspace(0, len(songs) - 1, MOST_SONGS).round().astype(int)]
    found: dict[str, list[Frames]] = {}
    for song in progress(songs, len(songs), "measuring the voice detector"):
        for condition, wave, truth in _conditions(song, cache):
            probability = voice_probability(network, wave)
            frames = min(len(probability), len(truth))
            found.setdefault(condition, []).append((probability[:frames], truth[:frames]))
    albums = [song.album_id for song in songs]
    return [
        accuracy_of(condition, frames, albums=albums)
        for condition, frames in found.items()
        if len(np.unique(np.concatenate([truth for _, truth in frames]))) == 2
    ]


def _conditions(song: Song, cache: AudioCache) -> Iterator[tuple[str, NDArray[np.int16], Active]]:
    vocals, backing = (cache.samples(key) for key in (song.vocals, song.backing))
    length = min(len(vocals), len(backing))
    voice, band = (_wave(part[:length]) for part in (vocals, backing))
    truth = sung(vocals[:length])
    yield "vocals + backing", to_int16(voice + band), truth
    lower = np.float32(10 ** (LOWER_DB / 20))
    yield f"vocals {-LOWER_DB:g} dB lower", to_int16(lower * voice + band), truth
    mixture = np.asarray(cache.samples(song.audio))
    lag = lag_of(mixture, voice + band)
    yield "mixture", mixture, sung(moved(vocals, lag, len(mixture)))


def _wave(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(FULL_SCALE)


def rows_of(accuracies: Sequence[Accuracy]) -> list[dict[str, Any]]:
    """The rows as plain values, for JSON."""
    return [{**asdict(row), "frame_s": FRAME / SAMPLE_RATE} for row in accuracies]
