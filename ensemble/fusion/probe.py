"""A linear probe: regularised logistic regression from a song's embedding to its singer.

Enters: embeddings of training songs. Leaves: `Probe`, and logits of any songs. It is fitted on
training songs alone; how strongly it is regularised is chosen by leaving albums out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, for features of unit variance
FOLDS = 4
ROUNDS = 1000  # of the solver
TOLERANCE = 1e-6  # of its gradient: what is hardly regularised ends far away


@dataclass(frozen=True, eq=False)
class Probe:
    """logits = embedding · weightsᵀ + bias."""

    weights: NDArray[np.float64]  # (singers, dim)
    bias: NDArray[np.float64]  # (singers,)

    def logits(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Logits (songs, singers) of unit embeddings (songs, dim)."""
        # Each song on its own: BLAS would round differently with how many songs there are.
        rows = [(self.weights * embedding).sum(axis=1) for embedding in embeddings]
        return np.array(rows, np.float64).reshape(len(rows), len(self.bias)) + self.bias


def fit_probe(
    embeddings: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    albums: Sequence[str],
    singers: int,
) -> Probe:
    """The probe of unit embeddings (songs, dim), their singers, and the albums that are left out.

    With fewer than two albums the strongest regularisation is taken. A singer without a song has a
    bias so low that no song is theirs. Raises `ValueError` with fewer than two singers.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.model_selection import GroupKFold

    there = np.unique(labels)
    if len(there) < 2:
        raise ValueError(f"a probe tells singers apart; there is {len(there)}")
    centre = embeddings.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(embeddings.shape[1])  # a unit embedding's coordinates are about 1/√dim
    features = (embeddings - centre) * scale
    folds = _folds(labels, albums, GroupKFold(min(FOLDS, max(2, len(set(albums))))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough, and the same each time
        if folds:
            search = LogisticRegressionCV(
                Cs=list(STRENGTHS), cv=folds, scoring="neg_log_loss", max_iter=ROUNDS,
                tol=TOLERANCE, use_legacy_attributes=False, l1_ratios=(0.0,),
            )  # fmt: skip
            search.fit(features, labels)
            coefficients, intercept = search.coef_, search.intercept_
        else:
            plain = LogisticRegression(C=STRENGTHS[0], max_iter=ROUNDS, tol=TOLERANCE)
            plain.fit(features, labels)
            coefficients, intercept = plain.coef_, plain.intercept_
    if len(there) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    weights = np.zeros((singers, embeddings.shape[1]))
    bias = np.full(singers, intercept.min() - ABSENT)
    weights[there] = coefficients * scale
    bias[there] = intercept - (coefficients * scale) @ centre
    return Probe(weights, bias)


ABSENT = 20.0  # nats by which a singer without a song lies below the others


def _folds(
    labels: NDArray[np.integer[Any]], albums: Sequence[str], splitter: Any
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds by album in each of which all singers are left to learn from."""
    if len(set(albums)) < 2:
        return []
    found = list(splitter.split(labels, groups=list(albums)))
    whole = set(np.unique(labels).tolist())
    return [(a, b) for a, b in found if set(labels[a].tolist()) == whole]
