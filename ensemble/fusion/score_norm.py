"""Similarities measured against those to strangers: adaptive symmetric score normalisation.

Enters: cosines between queries and indexed vectors, and a cohort of training songs. Leaves: the
same as numbers of standard deviations above what strangers reach, so that a song that resembles
everybody no longer votes louder than one that resembles few.

Matějka et al., "Analysis of score normalization in multilingual speaker recognition", Interspeech
2017, AS-norm1: (s − μ_q)/σ_q and (s − μ_t)/σ_t, averaged; μ and σ over the `NEAREST` cohort songs
nearest to the query and to the indexed vector. Songs of the indexed vector's own singer are no
strangers to it, nor to a query that is compared with it: they are left out on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.index.members import MemberIndex

SCORE_NORMS = ("none", "as_norm")
NEAREST = 50  # cohort songs that are looked at; fewer where there are fewer
LARGEST = 2000  # cohort songs, evenly taken from the training songs
LEAST_SD = 1e-3  # cosine: below, all strangers are equally far

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Training songs that stand for strangers."""

    embeddings: NDArray[np.float32]  # (songs, dim), unit length
    labels: NDArray[np.int64]  # (songs,)

    def levels(self, queries: Floats, labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Mean and SD (queries, n, 2) of the cosines of each query to its nearest strangers.

        `labels` (queries, n): for whom the songs of that singer are no strangers.
        """
        result = np.zeros((*labels.shape, 2))
        for row, (query, wanted) in enumerate(zip(queries, labels, strict=True)):
            cosines = (self.embeddings * query.astype(np.float32)).sum(axis=1).astype(np.float64)
            order = np.argsort(-cosines, kind="stable")
            ranked, singers = cosines[order], self.labels[order]
            for label in np.unique(wanted):
                strangers = ranked[singers != label][:NEAREST]
                level = (strangers.mean(), max(strangers.std(), LEAST_SD))
                result[row, wanted == label] = level
        return result


def cohort_of(index: MemberIndex, without: int | None = None) -> Cohort | None:
    """The cohort of an index; None where it has fewer than three singers to be strangers.

    `without`: no song of the singer of this label, whom the index is not to know.
    """
    trained = np.flatnonzero(index.labels < index.known)
    if len(np.unique(index.labels[trained])) < 3:
        return None
    if without is not None:
        trained = trained[index.labels[trained] != without]
    kept = trained[np.linspace(0, len(trained) - 1, min(LARGEST, len(trained))).astype(np.int64)]
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
