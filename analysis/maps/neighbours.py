"""Who the nearest neighbours are, in an embedding and in a map of it.

Enters: unit embeddings `(n, dim)` or positions `(n, 2)`, and the singers of those that are looked
among. Leaves: rows of the nearest, and the singer that most of them name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store
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
    """(songs whose nearest training song by cosine is by the same singer, songs asked).

    Songs of unknown singers are left out.
    """
    known = np.flatnonzero(queries.labels >= 0)
    found = nearest(train.embeddings, queries.embeddings[known], 1)[:, 0]
    return int((train.labels[found] == queries.labels[known]).sum()), len(known)
