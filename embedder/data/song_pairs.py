"""Which songs stand together in a batch when nobody says who sings: N songs × 2 crops.

Enters: the number of songs. Leaves: for each batch, its draws `(song, seed)`, a function of (seed,
epoch, batch) alone: first one crop of each song, then in the same order another of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from embedder.data.crops import Draw


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
