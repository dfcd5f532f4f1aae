"""What the nearest training songs, or segments of them, say about who sings.

Similarities may be measured against those to other singers: adaptive symmetric score normalisation.
Cosines become numbers of standard deviations above what other singers reach, so that a song that
resembles everybody no longer votes louder than one that resembles few: (s − μ_q)/σ_q and
(s − μ_t)/σ_t, averaged; μ and σ over the `NEAREST` cohort songs nearest to the query and to the
indexed vector. Songs of the indexed vector's own singer are left out on both sides.

Source: Matějka et al., Analysis of score normalization in multilingual speaker recognition,
Interspeech 2017, AS-norm1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.inference.aggregate import song_weights
from embedder.inference.store import Store
from ensemble.index.members import MemberIndex

SMOOTHING = 2.0  # votes spread evenly over all singers; the nearest neighbour's vote is 1
DEPTH = 50  # neighbours that are searched: the largest k that can be chosen
SCORE_NORMS = ("none", "as_norm")
NEAREST = 50  # cohort songs that are looked at; fewer where there are fewer
MAX_COHORT = 2000  # songs, evenly taken from the training songs
MIN_SD = 1e-3  # cosine: below, all other singers are equally far

Floats = NDArray[np.floating[Any]]


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


# Score normalisation -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cohort:
    """Training songs that stand for singers other than a song's own."""

    embeddings: NDArray[np.float32]  # (songs, dim), unit length
    labels: NDArray[np.int64]  # (songs,)

    def levels(self, queries: Floats, labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Mean and SD (queries, n, 2) of the cosines of each query to its nearest cohort songs.

        `labels` (queries, n): the singers whose songs are left out of the cohort.
        """
        result = np.zeros((*labels.shape, 2))
        for row, (query, wanted) in enumerate(zip(queries, labels, strict=True)):
            cosines = (self.embeddings * query.astype(np.float32)).sum(axis=1).astype(np.float64)
            order = np.argsort(-cosines, kind="stable")
            ranked, singers = cosines[order], self.labels[order]
            for label in np.unique(wanted):
                others = ranked[singers != label][:NEAREST]
                level = (others.mean(), max(others.std(), MIN_SD))
                result[row, wanted == label] = level
        return result


def cohort_of(index: MemberIndex, without: int | None = None) -> Cohort | None:
    """The cohort of an index; None where it has fewer than three singers.

    `without`: no song of the singer of this label, whom the index is not to know.
    """
    trained = np.flatnonzero(index.labels < index.known)
    if len(np.unique(index.labels[trained])) < 3:
        return None
    if without is not None:
        trained = trained[index.labels[trained] != without]
    kept = trained[np.linspace(0, len(trained) - 1, min(MAX_COHORT, len(trained))).astype(np.int64)]
    return Cohort(index.embeddings[kept], index.labels[kept])


def normalised(
    similarities: Floats,
    query_levels: NDArray[np.float64],
    indexed_levels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """AS-norm of cosines (queries, n), with the levels (queries, n, 2) of both sides."""
    sides = [
        (similarities - levels[..., 0]) / levels[..., 1]
        for levels in (query_levels, indexed_levels)
    ]
    return np.asarray((sides[0] + sides[1]) / 2)


# Searching ---------------------------------------------------------------------------------------


def song_neighbours(
    store: Store, index: MemberIndex, cohort: Cohort | None, without: int | None = None
) -> Neighbours:
    """The nearest songs of trained singers to each song of a store.

    Args:
        store: the songs.
        index: of the store's member.
        cohort: that similarities are normalised by; None: they are cosines.
        without: no neighbour is a song of the singer of this label.
    """
    rows = _rows(index, index.labels, without)
    # One song at a time: a song's answer must not depend on its company.
    found = [index.songs.search(query[None], DEPTH, rows) for query in store.embeddings]
    return _neighbours(found, store.embeddings, index.labels, index.embeddings, cohort)


def segment_neighbours(
    store: Store, index: MemberIndex, cohort: Cohort | None, without: int | None = None
) -> SegmentNeighbours:
    """The nearest segments of trained singers to each segment; see `song_neighbours`."""
    labels = index.segment_labels
    rows = _rows(index, labels, without)
    queries = store.segment_embeddings
    parts = [store.segments_of(song) for song in range(len(store.song_ids))]
    found = [index.segments.search(queries[part], DEPTH, rows) for part in parts]
    owners = index.embeddings[index.segment_song]  # a segment's cohort is that of its song
    near = _neighbours(found, queries, labels, owners, cohort)
    return SegmentNeighbours(near, store.segment_song, store.segment_weight.astype(np.float64))


def _rows(
    index: MemberIndex, labels: NDArray[np.int64], without: int | None
) -> NDArray[np.int64] | None:
    """The rows (of labels) that may be neighbours; None for all of them."""
    allowed = labels < index.known
    if without is not None:
        allowed &= labels != without
    return None if allowed.all() else np.flatnonzero(allowed)


def _neighbours(
    found: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    queries: NDArray[np.float32],
    labels: NDArray[np.int64],
    indexed: NDArray[np.float32],
    cohort: Cohort | None,
) -> Neighbours:
    """Neighbours of all queries from what was found for a few at a time, normalised if asked."""
    width = found[0][1].shape[1] if found else 0
    similarities = np.concatenate([np.zeros((0, width)), *[part[0] for part in found]])
    rows = np.concatenate([np.zeros((0, width), np.int64), *[part[1] for part in found]])
    near = labels[rows]
    if cohort is None:
        return Neighbours(similarities, near)
    used, place = np.unique(rows, return_inverse=True)
    own = cohort.levels(indexed[used], labels[used][:, None])[:, 0][place.reshape(rows.shape)]
    values = normalised(similarities, cohort.levels(queries, near), own)
    order = np.argsort(-values, axis=1, kind="stable")
    return Neighbours(np.take_along_axis(values, order, 1), np.take_along_axis(near, order, 1))
