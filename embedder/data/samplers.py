"""Which songs stand together in a batch: draws `(song, seed)`, of seed, epoch and batch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from embedder.data.datasets import Draw


class SingerBatches(Sampler[list[Draw]]):
    """Batches of P singers with K crops each, all singers equally often.

    A singer's crops come from different albums as far as there are any, so that what the positives
    of a triplet share is the voice and not the production.
    """

    def __init__(
        self,
        labels: Sequence[int],
        albums: Sequence[str],
        *,
        singers: int,
        crops: int,
        batches: int,
        seed: int,
    ) -> None:
        self.by_singer: list[list[list[int]]] = []  # singer → album → songs
        for label in sorted(set(labels)):
            songs = [i for i, own in enumerate(labels) if own == label]
            titles = sorted({albums[i] for i in songs})
            self.by_singer.append([[i for i in songs if albums[i] == t] for t in titles])
        self.singers = min(singers, len(self.by_singer))
        self.crops = crops
        self.batches = batches
        self.seed = seed
        self.epoch = 0

    @property
    def samples(self) -> int:
        """Crops in an epoch."""
        return self.singers * self.crops * self.batches

    def set_epoch(self, epoch: int) -> None:
        """The training loop says which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        queue: list[int] = []
        for _ in range(self.batches):
            chosen: list[int] = []
            while len(chosen) < self.singers:
                if not queue:
                    queue = rng.permutation(len(self.by_singer)).tolist()
                singer = next((s for s in queue if s not in chosen), None)
                if singer is None:  # only singers that this batch has already: start a new round
                    queue = []
                    continue
                queue.remove(singer)
                chosen.append(singer)
            yield [draw for singer in chosen for draw in self._draws(singer, rng)]

    def _draws(self, singer: int, rng: np.random.Generator) -> Iterator[Draw]:
        albums = self.by_singer[singer]
        order = rng.permutation(len(albums))
        for number in range(self.crops):
            album = albums[order[number % len(order)]]
            yield album[int(rng.integers(len(album)))], int(rng.integers(2**63))


class SongPairs(Sampler[list[Draw]]):
    """Batches of different songs, each song equally often."""

    def __init__(self, songs: int, *, batch_songs: int, batches: int, seed: int) -> None:
        self.songs = songs
        self.batch_songs = min(batch_songs, songs)
        self.batches = batches
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The training loop says which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        queue: list[int] = []
        for _ in range(self.batches):
            chosen = queue[: self.batch_songs]
            queue = queue[self.batch_songs :]
            if len(chosen) < self.batch_songs:  # a new round begins within this batch
                later = rng.permutation([song for song in range(self.songs) if song not in chosen])
                missing = self.batch_songs - len(chosen)
                queue = rng.permutation([*later[missing:], *chosen]).tolist()
                chosen += later[:missing].tolist()
            yield [(song, int(rng.integers(2**63))) for _ in range(2) for song in chosen]


class EpochItems(Sampler[int]):
    """`items × epoch`, and so on up to the next epoch's first."""

    def __init__(self, items: int) -> None:
        self.items, self.epoch = items, 0

    def set_epoch(self, epoch: int) -> None:
        """The training loop says which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.items

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.items, (self.epoch + 1) * self.items))
