"""Stretches of songs in which nobody sings, found without any stem.

Enters: songs without stems, the cache, a generator. Leaves: where their singer may be heard, and
waves of other songs' bands alone. Laid over a crop they make a song's own band a poor witness: two
bands play, and only the voice tells whose song it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE, AugmentConfig
from embedder.data.augment import Wave
from embedder.data.cache import AudioCache


class Voiceless:
    """The first and last seconds of songs, where a band mostly plays by itself.

    How long these are is a setting, not a measurement: a song that begins with the voice lends a
    voice to some overlays, which then has no say in their label.
    """

    def __init__(
        self,
        songs: Sequence[Song],
        cache: AudioCache,
        length: Callable[[str], int],
        config: AugmentConfig,
    ) -> None:
        self.keys = [song.audio for song in songs]
        self.cache = cache
        self.length = length  # of a recording by its key, in samples
        self.opening = round(config.opening_s * SAMPLE_RATE)
        self.ending = round(config.ending_s * SAMPLE_RATE)

    def __bool__(self) -> bool:
        return bool(self.keys) and self.opening + self.ending > 0

    def sung(self, key: str, samples: int) -> tuple[int, int]:
        """The first and last start of a crop of `samples` that keeps clear of both ends.

        A song that is too short for that is taken whole.
        """
        length = self.length(key)
        first, last = self.opening, length - self.ending - samples
        return (first, last) if first <= last else (0, max(0, length - samples))

    def draw(self, samples: int, rng: np.random.Generator) -> Wave:
        """An opening or ending of any song, repeated from a random point to fill `(samples,)`."""
        key = self.keys[int(rng.integers(len(self.keys)))]
        length = self.length(key)
        opening, ending = min(self.opening, length), min(self.ending, length)
        at_start = rng.random() * (opening + ending) < opening
        start, count = (0, opening) if at_start else (length - ending, ending)
        stretch = self.cache.read(key, start, count)
        return np.resize(np.roll(stretch, -int(rng.integers(count))), samples)
