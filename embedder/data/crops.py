"""Training crops, drawn from the decoded cache without decoding anything again.

Enters: training songs, the cache, draws `(song, seed)`. Leaves: `wave (batch, samples)` and
`labels (batch,)`. A crop depends on its draw alone, so a resumed epoch hears the same crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.data.augment import QUIET, Augmenter, Wave, remix, rms
from embedder.data.cache import AudioCache
from embedder.data.voiceless import Voiceless

TRIES = 3  # places looked at for a crop in which someone sings
SUNG = 0.3  # share of the song's vocal level from which a crop counts as sung

Draw = tuple[int, int]  # index of the song, seed of everything random about its crop


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches of crops: item `[draw, draw, …]` is `(wave, labels)`."""

    def __init__(
        self, songs: Sequence[Song], labels: Sequence[int], cache: Path, config: MemberConfig
    ) -> None:
        self.songs = tuple(songs)
        self.labels = tuple(labels)
        self.cache = AudioCache(cache)
        self.samples = round(config.train.segment_s * SAMPLE_RATE)
        self.augment = config.augment
        self.augmenter = Augmenter(config.augment)
        self.stem = config.train.stem
        self.backings = [song.backing for song in self.songs if song.backing]
        self.levels: dict[str, float] = {}
        self.lengths: dict[str, int] = {}
        bare = [song for song in self.songs if not song.vocals]
        self.voiceless = Voiceless(bare, self.cache, self._length, config.augment)

    def __getitem__(self, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
        waves = [self.crop(*draw) for draw in draws]
        labels = [self.labels[song] for song, _ in draws]
        return torch.from_numpy(np.stack(waves)), torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.songs)

    def crop(self, song: int, seed: int) -> Wave:
        """One augmented crop of a song, `(samples,)`, float32."""
        rng = np.random.default_rng(seed)
        return self.augmenter(self._heard(self.songs[song], rng), rng)

    def _heard(self, song: Song, rng: np.random.Generator) -> Wave:
        stem = self.stem
        if stem == "both":
            stem = "vocals" if song.vocals and rng.random() < 0.5 else "mix"
        if stem == "vocals":
            if not song.vocals:
                raise ValueError(f"{song.id} has no vocal stem")
            return self._sung(song, rng)[1]
        return self._remixed(song, rng) if song.vocals else self._overlaid(song, rng)

    def _remixed(self, song: Song, rng: np.random.Generator) -> Wave:
        """The mixture, or the song's vocals over another song's backing."""
        start, vocals = self._sung(song, rng)
        if not self.backings or rng.random() >= self.augment.remix:
            return self._read(song.audio, start)
        ratio_db = rng.uniform(self.augment.remix_low_db, self.augment.remix_high_db)
        level = max(rms(vocals), self._level(song.vocals))
        return remix(vocals, self._backing(rng), level, ratio_db)

    def _overlaid(self, song: Song, rng: np.random.Generator) -> Wave:
        """The mixture of a song without stems, most often with another band laid over it."""
        first, last = self.voiceless.sung(song.audio, self.samples)
        wave = self._read(song.audio, int(rng.integers(first, last + 1)))
        if rng.random() >= self.augment.overlay:
            return wave
        ratio_db = rng.uniform(self.augment.overlay_low_db, self.augment.overlay_high_db)
        if self.backings:
            return remix(wave, self._backing(rng), rms(wave), ratio_db)
        if not self.voiceless:
            return wave
        return remix(wave, self.voiceless.draw(self.samples, rng), rms(wave), ratio_db)

    def _backing(self, rng: np.random.Generator) -> Wave:
        """A crop of any song's backing."""
        key = self.backings[int(rng.integers(len(self.backings)))]
        return self._read(key, self._start(key, rng))

    def _sung(self, song: Song, rng: np.random.Generator) -> tuple[int, Wave]:
        """A place where someone sings: the first of a few that is loud enough, or the loudest."""
        best: tuple[float, int, Wave] | None = None
        for _ in range(TRIES):
            start = self._start(song.vocals, rng)
            wave = self._read(song.vocals, start)
            loudness = rms(wave)
            if best is None or loudness > best[0]:
                best = loudness, start, wave
            if loudness >= max(QUIET, SUNG * self._level(song.vocals)):
                break
        assert best is not None  # TRIES is positive
        return best[1], best[2]

    def _level(self, key: str) -> float:
        """Root mean square of a whole stem, computed once."""
        if key not in self.levels:
            self.levels[key] = rms(self.cache.read(key, 0, self._length(key)))
        return self.levels[key]

    def _length(self, key: str) -> int:
        if key not in self.lengths:
            self.lengths[key] = self.cache.length(key)
        return self.lengths[key]

    def _start(self, key: str, rng: np.random.Generator) -> int:
        return int(rng.integers(max(1, self._length(key) - self.samples + 1)))

    def _read(self, key: str, start: int) -> Wave:
        """`samples` from `start`; a recording that is too short is repeated to fill the crop."""
        length = self._length(key)
        if length < self.samples:
            return np.resize(self.cache.read(key, 0, length), self.samples)
        return self.cache.read(key, start, self.samples)
