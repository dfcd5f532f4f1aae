"""What is trained on, drawn from the decoded cache: crops, mixtures, remixes with voice labels.

An item depends on its draw, or on seed and index, alone: a resumed epoch gives the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE, AugmentConfig, MemberConfig, SeparatorTrainConfig
from embedder.data.augment import QUIET, Augmenter, Wave, remix, rms
from embedder.data.cache import AudioCache
from embedder.data.stems import lag_of
from embedder.data.voice_activity import FRAME, Active, frame_levels, sung

TRIES = 3  # places looked at for a crop in which someone sings
SUNG = 0.3  # share of the song's vocal level from which a crop counts as sung

Draw = tuple[int, int]  # index of the song, seed of everything random about its crop


class Recordings:
    """Decoded recordings by key; how long and how loud each is, is computed once."""

    def __init__(self, cache: Path) -> None:
        self.cache = AudioCache(cache)
        self.lengths: dict[str, int] = {}
        self.levels: dict[str, float] = {}

    def length(self, key: str) -> int:
        """In samples."""
        if key not in self.lengths:
            self.lengths[key] = self.cache.length(key)
        return self.lengths[key]

    def level(self, key: str) -> float:
        """Root mean square of the whole recording."""
        if key not in self.levels:
            self.levels[key] = rms(self.cache.read(key, 0, self.length(key)))
        return self.levels[key]

    def start(self, key: str, samples: int, rng: np.random.Generator) -> int:
        """Where a stretch of `samples` may begin, at random."""
        return int(rng.integers(max(1, self.length(key) - samples + 1)))

    def read(self, key: str, start: int, samples: int) -> Wave:
        """`(samples,)` from `start`, silence past the end."""
        return self.cache.read(key, start, samples)


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches of crops: item `[draw, draw, …]` is `(wave, labels)`."""

    def __init__(
        self, songs: Sequence[Song], labels: Sequence[int], cache: Path, config: MemberConfig
    ) -> None:
        self.songs = tuple(songs)
        self.labels = tuple(labels)
        self.recordings = Recordings(cache)
        self.samples = round(config.train.segment_s * SAMPLE_RATE)
        self.augment = config.augment
        self.augmenter = Augmenter(config.augment)
        self.stem = config.train.stem
        self.backings = [song.backing for song in self.songs if song.backing]
        bare = [song for song in self.songs if not song.vocals]
        self.voiceless = InstrumentalCrops(bare, self.recordings, config.augment)

    def __getitem__(self, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
        waves = [self.crop(*draw) for draw in draws]
        labels = [self.labels[song] for song, _ in draws]
        return torch.from_numpy(np.stack(waves)), torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.songs)

    def crop(self, song: int, seed: int) -> Wave:
        """One augmented crop of a song, `(samples,)`, float32."""
        rng = np.random.default_rng(seed)
        return self.augmenter(self._crop(self.songs[song], rng), rng)

    def _crop(self, song: Song, rng: np.random.Generator) -> Wave:
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
        level = max(rms(vocals), self.recordings.level(song.vocals))
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
        return self._read(key, self.recordings.start(key, self.samples, rng))

    def _sung(self, song: Song, rng: np.random.Generator) -> tuple[int, Wave]:
        """A place where someone sings: the first of a few that is loud enough, or the loudest."""
        best: tuple[float, int, Wave] | None = None
        for _ in range(TRIES):
            start = self.recordings.start(song.vocals, self.samples, rng)
            wave = self._read(song.vocals, start)
            loudness = rms(wave)
            if best is None or loudness > best[0]:
                best = loudness, start, wave
            if loudness >= max(QUIET, SUNG * self.recordings.level(song.vocals)):
                break
        assert best is not None  # TRIES is positive
        return best[1], best[2]

    def _read(self, key: str, start: int) -> Wave:
        """`samples` from `start`; a recording that is too short is repeated to fill the crop."""
        length = self.recordings.length(key)
        if length < self.samples:
            return np.resize(self.recordings.read(key, 0, length), self.samples)
        return self.recordings.read(key, start, self.samples)


class InstrumentalCrops:
    """The first and last seconds of songs, where a band mostly plays by itself.

    How long these are is a setting, not a measurement: a song that begins with the voice lends a
    voice to some overlays, which then has no say in their label.
    """

    def __init__(
        self,
        songs: Sequence[Song],
        recordings: Recordings,
        config: AugmentConfig,
    ) -> None:
        self.keys = [song.audio for song in songs]
        self.recordings = recordings
        self.opening = round(config.opening_s * SAMPLE_RATE)
        self.ending = round(config.ending_s * SAMPLE_RATE)

    def __bool__(self) -> bool:
        return bool(self.keys) and self.opening + self.ending > 0

    def sung(self, key: str, samples: int) -> tuple[int, int]:
        """The first and last start of a crop of `samples` that keeps clear of both ends.

        A song that is too short for that is taken whole.
        """
        length = self.recordings.length(key)
        first, last = self.opening, length - self.ending - samples
        return (first, last) if first <= last else (0, max(0, length - samples))

    def draw(self, samples: int, rng: np.random.Generator) -> Wave:
        """An opening or ending of any song, repeated from a random point to fill `(samples,)`."""
        key = self.keys[int(rng.integers(len(self.keys)))]
        length = self.recordings.length(key)
        opening, ending = min(self.opening, length), min(self.ending, length)
        at_start = rng.random() * (opening + ending) < opening
        start, count = (0, opening) if at_start else (length - ending, ending)
        stretch = self.recordings.read(key, start, count)
        return np.resize(np.roll(stretch, -int(rng.integers(count))), samples)


class Mixtures(Dataset[tuple[Tensor, Tensor]]):
    """Vocals of one song over the backing of another, or over its own at the same place.

    The place is drawn at random, sung or not: where nobody sings, the answer is silence. A song's
    own backing keeps its time and key and is what separation meets later; another song's says
    nothing about the voice (random mixing of songs' sources: Uhlich et al., Improving music source
    separation based on deep neural networks, ICASSP 2017).
    """

    def __init__(self, songs: Sequence[Song], cache: Path, config: SeparatorTrainConfig) -> None:
        self.songs = tuple(songs)
        self.recordings = Recordings(cache)
        self.config = config
        self.samples = round(config.crop_s * SAMPLE_RATE)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.config.seed, index))
        song = self.songs[int(rng.integers(len(self.songs)))]
        start = self.recordings.start(song.vocals, self.samples, rng)
        vocals = self.recordings.read(song.vocals, start, self.samples)
        if rng.random() < self.config.own_backing:
            backing = self.recordings.read(song.backing, start, self.samples)
        else:
            other = self.songs[int(rng.integers(len(self.songs)))].backing
            backing = self.recordings.read(
                other, self.recordings.start(other, self.samples, rng), self.samples
            )
        ratio_db = rng.uniform(self.config.low_db, self.config.high_db)
        level = max(rms(vocals), self.recordings.level(song.vocals))
        mixture = remix(vocals, backing, level, ratio_db) if level >= QUIET else backing
        return torch.from_numpy(mixture), torch.from_numpy(vocals)


def own_mixture(song: Song, cache: AudioCache) -> tuple[Wave, Wave]:
    """A whole song from its own stems: mixture and vocals, `(samples,)` each."""
    vocals, backing = _whole(cache, song.vocals, song.backing)
    return vocals + backing, vocals


def cross_mixture(
    song: Song, other: Song, cache: AudioCache, ratio_db: float = 0.0
) -> tuple[Wave, Wave]:
    """A whole song's vocals `ratio_db` over another song's backing: mixture and vocals."""
    vocals, backing = _whole(cache, song.vocals, other.backing)
    return remix(vocals, backing, rms(vocals), ratio_db), vocals


def _whole(cache: AudioCache, vocals: str, backing: str) -> tuple[Wave, Wave]:
    """Both stems as long as the shorter one."""
    samples = min(cache.length(vocals), cache.length(backing))
    return cache.read(vocals, 0, samples), cache.read(backing, 0, samples)


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
