"""Singers in an order that puts those who sound alike beside each other.

Enters: members' embeddings of training songs. Leaves: the singers' similarities and an order.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store

HOW = (
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
