"""What the nearest training songs, or segments of them, say about who sings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.inference.aggregate import song_weights

SMOOTHING = 2.0  # votes spread evenly over all singers; the nearest neighbour's vote is 1
DEPTH = 50  # neighbours that are searched: the largest k that can be chosen


@dataclass(frozen=True)
class Votes:
    """How neighbours vote."""

    k: int = 10  # nearest neighbours that vote; at most all there are
    tau: float = 0.03  # similarity by which a vote falls to 1/e

    def __post_init__(self) -> None:
        if self.k < 1 or not self.tau > 0:
            raise ValueError(f"k must be 1 or more and tau above 0, not {self.k} and {self.tau}")


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest neighbours of each query, nearest first."""

    similarities: NDArray[np.float64]  # (queries, n), cosine or, normalised, standard deviations
    labels: NDArray[np.int64]  # (queries, n), singer of each neighbour

    def take(self, queries: NDArray[np.integer[Any]]) -> Neighbours:
        """Those of some of the queries."""
        return Neighbours(self.similarities[queries], self.labels[queries])

    def logits(self, singers: int, votes: Votes) -> NDArray[np.float64]:
        """Logits (queries, singers) by each query's neighbours (n ≥ 1), of which k vote.

        Neighbour i votes exp((sim_i − sim_1) / tau) for its singer; the logit of a singer is the
        log of the singer's votes + `SMOOTHING` / singers. That is log Σ exp(sim/tau) up to a
        constant per query, kept finite where a singer has no vote. Counting from the nearest
        neighbour makes a vote mean the same for a song near its neighbours and for one far from
        all.
        """
        return np.asarray(np.log(self._counted(singers, votes)))

    def _counted(self, singers: int, votes: Votes) -> NDArray[np.float64]:
        """Smoothed sums of votes (queries, singers)."""
        similarities = self.similarities[:, : votes.k].astype(np.float64)
        if similarities.shape[1] == 0 or self.labels.shape != self.similarities.shape:
            raise ValueError(f"similarities {self.similarities.shape}, labels {self.labels.shape}")
        strength = np.exp((similarities - similarities[:, :1]) / votes.tau)
        cells = np.arange(len(similarities))[:, None] * singers + self.labels[:, : votes.k]
        sums = np.bincount(cells.ravel(), strength.ravel(), minlength=len(similarities) * singers)
        return np.asarray(sums.reshape(len(similarities), singers) + SMOOTHING / singers)


@dataclass(frozen=True, eq=False)
class SegmentNeighbours:
    """The nearest neighbours of every segment of the query songs."""

    near: Neighbours  # one row a segment
    songs: NDArray[np.int64]  # (segments,), ascending: the query song of each
    weights: NDArray[np.float64]  # (segments,), share of voice

    def take(self, songs: NDArray[np.integer[Any]]) -> SegmentNeighbours:
        """Those of some of the songs, numbered from 0 in the order given."""
        rows = [np.flatnonzero(self.songs == song) for song in songs]
        kept = np.concatenate([np.zeros(0, np.int64), *rows])
        owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return SegmentNeighbours(self.near.take(kept), owners, self.weights[kept])

    def logits(self, singers: int, votes: Votes) -> NDArray[np.float64]:
        """Logits (songs, singers): the log of the mean over a song's segments of what each one's
        neighbours say, as shares that sum to 1, weighted by the segments' share of voice.

        A segment far from all the others of its singer votes for somebody, but only once.
        """
        counted = self.near._counted(singers, votes)
        shares = counted / counted.sum(axis=1, keepdims=True)
        songs = int(self.songs.max()) + 1 if len(self.songs) else 0
        result = np.zeros((songs, singers))
        bounds = np.searchsorted(self.songs, np.arange(songs + 1))
        for song in range(songs):
            part = slice(int(bounds[song]), int(bounds[song + 1]))
            weights = song_weights(self.weights[part])
            result[song] = (weights[:, None] * shares[part]).mean(axis=0)
        return np.asarray(np.log(result))
