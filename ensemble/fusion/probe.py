"""A linear probe: regularised logistic regression from a song's embedding to its singer.

It is fitted on training songs alone; how strongly it is regularised is chosen by leaving albums
out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, for features of unit variance
FOLDS = 4
ROUNDS = 1000  # of the solver
TOLERANCE = 1e-6  # of its gradient: what is hardly regularised ends far away
ABSENT = 20.0  # nats by which a singer without a song lies below the others

Floats = NDArray[np.floating[Any]]
Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True, eq=False)
class Probe:
    """logits = embedding · weightsᵀ + bias."""

    weights: NDArray[np.float64]  # (singers, dim)
    bias: NDArray[np.float64]  # (singers,)

    @classmethod
    def fit(
        cls,
        embeddings: Floats,
        labels: NDArray[np.integer[Any]],
        albums: Sequence[str],
        singers: int,
    ) -> Probe:
        """Fit to songs.

        With fewer than two albums the strongest regularisation is taken. A singer without a song
        has a bias so low that no song is theirs.

        Args:
            embeddings: (songs, dim), unit length.
            labels: (songs,).
            albums: (songs,), those that are left out together.
            singers: how many there are.

        Raises:
            ValueError: the songs are of fewer than two singers.
        """
        from sklearn.model_selection import GroupKFold

        present = np.unique(labels)
        if len(present) < 2:
            raise ValueError(f"a probe tells singers apart; there is {len(present)}")
        centre = embeddings.mean(axis=0, dtype=np.float64)
        scale = np.sqrt(embeddings.shape[1])  # a unit embedding's coordinates are about 1/√dim
        features = (embeddings - centre) * scale
        folds = _folds(labels, albums, GroupKFold(min(FOLDS, max(2, len(set(albums))))))
        coefficients, bias = fit_logistic_regression(
            features, labels, STRENGTHS if folds else STRENGTHS[0], ROUNDS, TOLERANCE, folds
        )
        weights = np.zeros((singers, embeddings.shape[1]))
        biases = np.full(singers, bias.min() - ABSENT)
        weights[present] = coefficients * scale
        biases[present] = bias - (coefficients * scale) @ centre
        return cls(weights, biases)

    def logits(self, embeddings: Floats) -> NDArray[np.float64]:
        """Logits (songs, singers) of unit embeddings (songs, dim)."""
        # Each song on its own: BLAS would round differently with how many songs there are.
        rows = [(self.weights * embedding).sum(axis=1) for embedding in embeddings]
        return np.array(rows, np.float64).reshape(len(rows), len(self.bias)) + self.bias


def fit_logistic_regression(
    features: Floats,
    labels: NDArray[np.integer[Any]],
    strength: float | Sequence[float],
    max_iter: int,
    tol: float = 1e-4,
    folds: Folds | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Multinomial logistic regression with a row for every class, also where there are only two.

    Args:
        features: (songs, dim).
        labels: (songs,), of two classes or more.
        strength: scikit-learn's C; of several the one of the lowest NLL on held-out `folds`.
        max_iter: of the solver, which may end before it converges.
        tol: of the solver's gradient.
        folds: (kept, held out) rows.

    Returns:
        Coefficients (classes, dim) and biases (classes,), classes ascending.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough, and the same each time
        if isinstance(strength, Sequence):
            model = LogisticRegressionCV(
                Cs=list(strength), cv=folds, scoring="neg_log_loss", max_iter=max_iter, tol=tol,
                use_legacy_attributes=False, l1_ratios=(0.0,),
            )  # fmt: skip
        else:
            model = LogisticRegression(C=strength, max_iter=max_iter, tol=tol)
        model.fit(features, labels)
    coefficients, bias = model.coef_, model.intercept_
    if len(coefficients) == 1:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        bias = np.concatenate([-bias, bias]) / 2
    return coefficients, bias


def _folds(labels: NDArray[np.integer[Any]], albums: Sequence[str], splitter: Any) -> Folds:
    """Folds by album in each of which all singers are left to learn from."""
    if len(set(albums)) < 2:
        return []
    found = list(splitter.split(labels, groups=list(albums)))
    whole = set(np.unique(labels).tolist())
    return [(a, b) for a, b in found if set(labels[a].tolist()) == whole]
