"""Who the nearest neighbours are, in an embedding and in a map of it, and how much a map keeps.

`Preservation` says how far neighbours on a map are neighbours in the embedding, so that nobody
reads too much into it; `similar_order` puts singers who sound alike beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.wording import interval, points
from embedder.inference.store import Store
from embedder.statistics import Estimate, bootstrap_interval, mean_of, paired_difference
from embedder.text import counted
from ensemble.index.vectors import build_vectors

BLOCK = 4096  # queries that are searched at a time

Rows = NDArray[np.int64]


def nearest(among: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> Rows:
    """Rows (q, k') of the k unit vectors most like each query by cosine, most alike first."""
    index = build_vectors(among)
    parts = [
        index.search(queries[low : low + BLOCK], k)[1] for low in range(0, len(queries), BLOCK)
    ]
    return np.concatenate([np.zeros((0, min(k, len(among))), np.int64), *parts])


def nearest_in_map(
    among: NDArray[np.floating[Any]], queries: NDArray[np.floating[Any]], k: int
) -> Rows:
    """Rows (q, k') of the k points nearest each query in the plane, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(among))
    if not len(queries):
        return np.zeros((0, k), np.int64)
    found = NearestNeighbors(n_neighbors=k).fit(among).kneighbors(queries, return_distance=False)
    return np.asarray(found, dtype=np.int64)


def voted(labels: Rows) -> Rows:
    """What most neighbours are (q,), of their labels (q, k), nearest first.

    Among labels named equally often, the one that is named first.
    """
    queries, k = labels.shape
    counts = np.zeros((queries, k), dtype=np.int64)
    for place in range(k):
        counts[:, place] = (labels == labels[:, place : place + 1]).sum(axis=1)
    return np.asarray(labels[np.arange(queries), counts.argmax(axis=1)])


def neighbour_agreement(train: Store, queries: Store) -> tuple[int, int]:
    """(songs whose nearest training song by cosine is by the same singer, songs held_out).

    Songs of unknown singers are left out.
    """
    known = np.flatnonzero(queries.labels >= 0)
    found = nearest(train.embeddings, queries.embeddings[known], 1)[:, 0]
    return int((train.labels[found] == queries.labels[known]).sum()), len(known)


NEIGHBOURS = 10


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out points, and the training points among which their neighbours are looked for."""

    split: str  # of the songs of the held-out points
    among: NDArray[np.int64]  # (m,), rows of training points
    labels: NDArray[np.int64]  # (m,), their singers
    queries: NDArray[np.int64]  # (q,), rows of the held-out points
    truth: NDArray[np.int64]  # (q,), their singers
    songs: NDArray[np.int64]  # (q,), their songs, in any numbering
    albums: NDArray[np.int64]  # (q,), the songs' albums, likewise

    def hits(self, found: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of each song's points (songs,) whose neighbours (q, k) name the right singer."""
        right = voted(self.labels[found]) == self.truth
        _, song = np.unique(self.songs, return_inverse=True)
        return np.asarray(np.bincount(song, right) / np.bincount(song))


@dataclass(frozen=True)
class Preservation:
    """One map against its embedding."""

    trustworthiness: float | None  # 0 to 1; None for too few points
    compared: int  # points it was measured among
    k: int  # neighbours it looked at
    split: str
    songs: int  # held out; 0: there are none, and no shares
    neighbours: int  # that vote
    embedding: Estimate | None = None  # share of the songs whose neighbours name the right singer
    map: Estimate | None = None
    change: Estimate | None = None  # map − embedding, on the same songs

    def says(self, level: str, title: str) -> str:
        """What was found, in a sentence or two; `title` is the map's perplexity."""
        trust = (
            f"trustworthiness {self.trustworthiness:.3f} of 1 ({self.k} neighbours, among "
            f"{self.compared:,} points)"
            if self.trustworthiness is not None
            else "too few points for a trustworthiness"
        )
        start = f"Map of perplexity {title}: {trust}."
        if self.embedding is None or self.map is None or self.change is None:
            return f"{start} No song of a known singer was held out."
        what = "songs" if level == "song" else "segments"
        of = "" if level == "song" else "of the segments "
        before = f"and in the embedding for {self.embedding.value:.1%}: {points(self.change)}"
        if self.change.value == 0:
            before = "as often as in the embedding"
        return (
            f"{start} Of {counted(self.songs, f'{self.split} song')}, the {self.neighbours} "
            f"nearest training {what} on the map name the right singer for {self.map.value:.1%} "
            f"{of}({interval(self.map, self.songs)}), {before}."
        )


def preservation(
    vectors: NDArray[np.float32],
    maps: NDArray[np.float64],
    held_out: HeldOut,
    sample: NDArray[np.int64],
    seed: int = 0,
) -> list[Preservation]:
    """For each map (maps, n, 2) of unit vectors (n, dim), what it keeps.

    `sample`: the rows that trustworthiness (Venna & Kaski 2001) compares with each other, all with
    all. Songs count alike, however many points they have.
    """
    k = min(NEIGHBOURS, (len(sample) - 1) // 2)
    trust = [trusted(vectors[sample], one[sample], k) if k >= 1 else None for one in maps]
    base = [(one, len(sample), k, held_out.split) for one in trust]
    if not len(held_out.queries) or not len(held_out.among):
        return [Preservation(*one, 0, 0) for one in base]
    near = min(NEIGHBOURS, len(held_out.among))
    before = held_out.hits(nearest(vectors[held_out.among], vectors[held_out.queries], near))
    songs = len(before)
    albums = held_out.albums[np.unique(held_out.songs, return_index=True)[1]]
    found = []
    for one, plane in zip(base, maps, strict=True):
        after = held_out.hits(nearest_in_map(plane[held_out.among], plane[held_out.queries], near))
        found.append(
            Preservation(
                *one,
                songs,
                near,
                bootstrap_interval(mean_of(before), songs, seed, albums),
                bootstrap_interval(mean_of(after), songs, seed, albums),
                paired_difference(mean_of(after), mean_of(before), songs, seed, albums, 1.0),
            )
        )
    return found


def trusted(vectors: NDArray[np.float32], points: NDArray[np.float64], k: int) -> float:
    """Trustworthiness of points (n, 2) for unit vectors (n, dim) by cosine, 0 to 1.

    It falls where points are neighbours in the map that are none in the embedding.
    """
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(vectors, points, n_neighbors=k, metric="cosine"))


SIMILAR_ORDER_SAYS = (
    "Similar singers stand beside each other: average linkage of the cosine distances between the "
    "singers' mean training-song embeddings (mean over the members), leaves in the order in which "
    "neighbours are most alike (Bar-Joseph et al. 2001, as in scipy)."
)


def singer_similarities(train: Iterable[Store]) -> NDArray[np.float64]:
    """Mean over members of the cosine between singers' mean embeddings: (singers, singers).

    `train`: one store of training songs a member, all of the same singers. A singer without a song
    is like nobody: 0.
    """
    found = []
    for store in train:
        sums = np.zeros((len(store.singers), store.embeddings.shape[1]))
        known = store.labels >= 0
        np.add.at(sums, store.labels[known], store.embeddings[known])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        found.append(centres @ centres.T)
    if not found:
        raise ValueError("need the training songs of a member")
    return np.asarray(np.mean(found, axis=0))


def similar_order(similarities: NDArray[np.float64]) -> list[int]:
    """Singers' numbers in the order of an average-linkage tree over 1 − similarity."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    count = len(similarities)
    if count < 3:
        return list(range(count))
    distances = np.clip(1 - (similarities + similarities.T) / 2, 0, None)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return [int(leaf) for leaf in leaves_list(tree)]
