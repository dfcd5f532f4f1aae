"""What a voice detector is trained on: random remixes, with the vocal stem saying who sings when.

Enters: training songs with both stems, the cache, an index. Leaves: `wave (samples,)` float32 and
`labels (frames,)`, 1 where someone sings. An item depends on (seed, index) alone, so a resumed
training hears what an undisturbed one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from embedder.catalogue import Song
from embedder.config import AugmentConfig
from embedder.data.augment import Augmenter, Wave, remix
from embedder.data.cache import AudioCache
from embedder.data.stems import lag_of
from embedder.data.voice_activity import FRAME, Active, frame_levels, sung

FRAMES = 120  # of an item: 6 s
LOW_DB, HIGH_DB = -12.0, 12.0  # level of sung frames to the backing
# Share of the items of each kind; the rest are vocals over another song's backing.
INSTRUMENTAL = 0.1  # backing alone
MIXTURE = 0.35  # the song's own mixture as it is
OWN = 0.15  # vocals over the song's own backing, at another level


class VoicedRemixes(Dataset[tuple[Tensor, Tensor]]):
    """Item i: one song's vocals over another's backing, or one of the other kinds above.

    There are as many items as are asked for. The place in a song is drawn at random, sung or not,
    so that the network meets pauses as often as songs have them. Another song's backing says
    nothing about the voice; a song's own one stops for the singer or plays the melody along; and
    the mixture has been through the encoder as a whole, which stems added up have not: trained
    without it, a detector took a 32 kbit/s encoder's artefacts for voice.
    """

    def __init__(self, songs: Sequence[Song], cache: Path, seed: int) -> None:
        self.songs, self.seed = tuple(songs), seed
        self.cache = AudioCache(cache)
        self.augmenter = Augmenter(AugmentConfig())
        self.voices: dict[str, tuple[Active, float]] = {}
        self.lags: dict[str, int] = {}

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        song = self.songs[int(rng.integers(len(self.songs)))]
        active, level = self._voice(song.vocals)
        frame = int(rng.integers(max(1, len(active) - FRAMES + 1)))
        labels = np.zeros(FRAMES, dtype=np.float32)
        part = active[frame : frame + FRAMES]
        kind = rng.random()
        if kind < INSTRUMENTAL or level == 0:
            wave = self._anywhere(rng)
        else:
            labels[: len(part)] = part
            if kind < INSTRUMENTAL + MIXTURE:
                wave = self._read(song.audio, frame * FRAME + self._lag(song))
            else:
                vocals = self._read(song.vocals, frame * FRAME)
                own = kind < INSTRUMENTAL + MIXTURE + OWN
                backing = self._read(song.backing, frame * FRAME) if own else self._anywhere(rng)
                wave = remix(vocals, backing, level, rng.uniform(LOW_DB, HIGH_DB))
        return torch.from_numpy(self.augmenter(wave, rng)), torch.from_numpy(labels)

    def _anywhere(self, rng: np.random.Generator) -> Wave:
        """A stretch of any song's backing."""
        key = self.songs[int(rng.integers(len(self.songs)))].backing
        room = self.cache.length(key) - FRAMES * FRAME
        return self._read(key, int(rng.integers(max(1, room + 1))))

    def _lag(self, song: Song) -> int:
        """Samples by which a song's mixture lies behind its stems."""
        if song.audio not in self.lags:
            vocals, backing = (self.cache.samples(key) for key in (song.vocals, song.backing))
            length = min(len(vocals), len(backing))
            stems = vocals[:length].astype(np.float32) + backing[:length]
            self.lags[song.audio] = lag_of(self.cache.samples(song.audio), stems)
        return self.lags[song.audio]

    def _voice(self, key: str) -> tuple[Active, float]:
        """Where a stem is sung, and how loud it is there (root mean square)."""
        if key not in self.voices:
            samples = self.cache.samples(key)
            active = sung(samples)
            levels = frame_levels(samples)[active]
            level = float(np.sqrt(np.mean(levels**2))) if len(levels) else 0.0
            self.voices[key] = active, level
        return self.voices[key]

    def _read(self, key: str, start: int) -> Wave:
        """6 s from `start`, which may lie before the recording's beginning: silence there."""
        missing = max(0, -start)
        wave = np.zeros(FRAMES * FRAME, dtype=np.float32)
        wave[missing:] = self.cache.read(key, max(0, start), FRAMES * FRAME - missing)
        return wave
