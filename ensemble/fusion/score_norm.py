"""Similarities measured against those to other singers: adaptive symmetric score normalisation.

Cosines become numbers of standard deviations above what other singers reach, so that a song that
resembles everybody no longer votes louder than one that resembles few: (s − μ_q)/σ_q and
(s − μ_t)/σ_t, averaged; μ and σ over the `NEAREST` cohort songs nearest to the query and to the
indexed vector. Songs of the indexed vector's own singer are left out on both sides.

Source: Matějka et al., Analysis of score normalization in multilingual speaker recognition,
Interspeech 2017, AS-norm1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.index.members import MemberIndex

SCORE_NORMS = ("none", "as_norm")
NEAREST = 50  # cohort songs that are looked at; fewer where there are fewer
MAX_COHORT = 2000  # songs, evenly taken from the training songs
MIN_SD = 1e-3  # cosine: below, all other singers are equally far

Floats = NDArray[np.floating[Any]]


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
