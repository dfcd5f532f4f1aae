"""What a separator is trained on: random remixes beside the vocals that are in them.

Enters: training songs with both stems, the cache, an index. Leaves: `(mixture, vocals)`,
`(samples,)` float32 each. An item depends on (seed, index) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE, SeparatorTrainConfig
from embedder.data.augment import QUIET, Wave, remix, rms
from embedder.data.cache import AudioCache


class Mixtures(Dataset[tuple[Tensor, Tensor]]):
    """Vocals of one song over the backing of another, or over its own at the same place.

    The place is drawn at random, sung or not: where nobody sings, the answer is silence. A song's
    own backing keeps its time and key and is what separation meets later; another song's says
    nothing about the voice (random mixing of songs' sources: Uhlich et al., Improving music source
    separation based on deep neural networks, ICASSP 2017).
    """

    def __init__(self, songs: Sequence[Song], cache: Path, config: SeparatorTrainConfig) -> None:
        self.songs = tuple(songs)
        self.cache = AudioCache(cache)
        self.config = config
        self.samples = round(config.crop_s * SAMPLE_RATE)
        self.levels: dict[str, float] = {}

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.config.seed, index))
        song = self.songs[int(rng.integers(len(self.songs)))]
        start = self._start(song.vocals, rng)
        vocals = self.cache.read(song.vocals, start, self.samples)
        if rng.random() < self.config.own_backing:
            backing = self.cache.read(song.backing, start, self.samples)
        else:
            other = self.songs[int(rng.integers(len(self.songs)))].backing
            backing = self.cache.read(other, self._start(other, rng), self.samples)
        ratio_db = rng.uniform(self.config.low_db, self.config.high_db)
        level = max(rms(vocals), self._level(song.vocals))
        mixture = remix(vocals, backing, level, ratio_db) if level >= QUIET else backing
        return torch.from_numpy(mixture), torch.from_numpy(vocals)

    def _level(self, key: str) -> float:
        """Root mean square of a whole stem, computed once."""
        if key not in self.levels:
            self.levels[key] = rms(self.cache.read(key, 0, self.cache.length(key)))
        return self.levels[key]

    def _start(self, key: str, rng: np.random.Generator) -> int:
        return int(rng.integers(max(1, self.cache.length(key) - self.samples + 1)))


def own_mixture(song: Song, cache: AudioCache) -> tuple[Wave, Wave]:
    """A whole song from its own stems: mixture and vocals, `(samples,)` each."""
    vocals, backing = _whole(cache, song.vocals, song.backing)
    return vocals + backing, vocals


def remade(song: Song, other: Song, cache: AudioCache, ratio_db: float = 0.0) -> tuple[Wave, Wave]:
    """A whole song's vocals `ratio_db` over another song's backing: mixture and vocals."""
    vocals, backing = _whole(cache, song.vocals, other.backing)
    return remix(vocals, backing, rms(vocals), ratio_db), vocals


def _whole(cache: AudioCache, vocals: str, backing: str) -> tuple[Wave, Wave]:
    """Both stems as long as the shorter one."""
    samples = min(cache.length(vocals), cache.length(backing))
    return cache.read(vocals, 0, samples), cache.read(backing, 0, samples)
