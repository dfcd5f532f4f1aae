"""Singers who were added without training: how a song is given to one of them.

Input: what the index holds of trained and enrolled singers, and how sure the experts are of a
song. Output: probabilities over all singers.

P(enrolled j) = u · r_j and P(trained c) = (1 − u) · P_fused(c): trained singers stay to each other
what they were. u is high where the experts, who know trained singers only, are not sure, and where
a linear discriminant over the songs of all singers prefers an enrolled one; r_j is what that
discriminant says among the enrolled. Enrolled songs lie less densely than those that the networks
were trained on, so nearest neighbours alone give most of an enrolled singer's songs away
(DECISIONS.md has the numbers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store
from ensemble.index.members import MemberIndex

SHRINKAGE = 0.1  # of the covariance towards a multiple of the identity
LEAST_WITHIN = 0.01  # of all variance: what one song a singer says of how a singer's songs vary
# The discriminant of trained singers is too sure: its classes are what the network was trained to
# part. It is read on the scale of how clearly it prefers the right one of them.
PREFERRED = 2.5  # nats of u at that scale
AMONG = 25.0  # nats of r_j at that scale
LEAST = 1e-9  # probability that either side keeps

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """Who is enrolled and who was trained on, fitted by leaving singers out."""

    slope: float  # log-odds of being unknown by log-odds of the confidence; 0 or below
    intercept: float  # nats
    scales: dict[str, float]  # member → mean margin of its discriminant for the right singer


@dataclass(frozen=True, eq=False)
class Discriminant:
    """Linear discriminant with one covariance for all singers and equal priors."""

    weights: Floats  # (singers, dim)
    bias: Floats  # (singers,)

    def logits(self, embeddings: NDArray[np.floating]) -> Floats:
        """Log-likelihoods (songs, singers) up to a constant per song."""
        # Each song on its own: BLAS would round differently with how many songs there are.
        rows = [(self.weights * song.astype(np.float64)).sum(axis=1) for song in embeddings]
        return np.array(rows).reshape(len(rows), len(self.bias)) + self.bias


def discriminant(
    embeddings: NDArray[np.floating], labels: NDArray[np.int64], singers: int
) -> Discriminant:
    """The discriminant of songs (songs, dim) of each singer; every singer has one at least."""
    values = embeddings.astype(np.float64)
    means = np.stack([values[labels == label].mean(axis=0) for label in range(singers)])
    apart = values - means[labels]
    within = apart.T @ apart / len(values)
    least = max(LEAST_WITHIN * float(values.var(axis=0).sum()), 1e-12)
    level = max(float(np.trace(within)), least) / len(within)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * level * np.eye(len(within))
    weights = np.linalg.solve(within, means.T).T
    return Discriminant(weights, -0.5 * (means * weights).sum(axis=1))


def fit_gate(
    indexes: Mapping[str, MemberIndex],
    stores: Sequence[Store],
    known: Floats,
    strange: Floats,
) -> Gate:
    """From confidences (songs,) of known singers' songs, with their singer and without.

    Platt's (1999) logistic regression of unknown singers on the confidence's log-odds, with as
    many of the one as of the other; `stores` hold those songs. A confidence that is no lower for
    unknown singers is no information, and the slope is 0 then.
    """
    from sklearn.linear_model import LogisticRegression

    odds = log_odds(np.concatenate([known, strange]))[:, None]
    stranger = np.repeat([0, 1], [len(known), len(strange)])
    found = LogisticRegression(C=100.0).fit(odds, stranger)
    scales = {}
    for store in stores:
        index = indexes[store.member]
        rows = index.labels < index.known
        logits = discriminant(index.embeddings[rows], index.labels[rows], index.known).logits(
            store.embeddings
        )
        own = logits[np.arange(len(logits)), store.labels]
        others = logits.copy()
        others[np.arange(len(logits)), store.labels] = -np.inf
        margin = own - np.logaddexp.reduce(others, axis=1)
        scales[store.member] = max(float(margin.mean()), 1.0)
    slope, intercept = float(found.coef_[0, 0]), float(found.intercept_[0])
    return Gate(slope, intercept, scales) if slope < 0 else Gate(0.0, 0.0, scales)


def log_odds(confidence: Floats) -> Floats:
    """log(p / (1 − p)) of probabilities, kept finite."""
    kept = np.clip(confidence, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(kept / (1 - kept)))


def enlarged(
    gate: Gate,
    fused: Floats,
    confidence: Floats,
    stores: Sequence[Store],
    indexes: Mapping[str, MemberIndex],
) -> tuple[Floats, Floats]:
    """Log-probabilities (songs, all singers) of fused ones (songs, trained), and preferences.

    A preference (songs,) is how clearly the discriminant prefers an enrolled singer to all trained
    ones, on the scale of how it prefers the right one of these. `confidence` (songs,) is that of
    `unknown.confidence`; the stores are those of the members that embedded the songs.
    """
    odds = gate.slope * log_odds(confidence) + gate.intercept
    parts = []
    for store in stores:
        index = indexes[store.member]
        logits = discriminant(index.embeddings, index.labels, len(index.singers)).logits(
            store.embeddings
        )
        parts.append(logits / gate.scales[store.member])
    trained = [_best(part[:, : fused.shape[1]]) for part in parts]
    new = [_best(part[:, fused.shape[1] :]) for part in parts]
    preference = np.mean(np.array(new) - np.array(trained), axis=0)
    most = np.log((1 - LEAST) / LEAST)
    share = 1.0 / (1.0 + np.exp(-np.clip(odds + PREFERRED * preference, -most, most)))
    among = AMONG * np.mean([part[:, fused.shape[1] :] for part in parts], axis=0)
    among = among - np.logaddexp.reduce(among, axis=1, keepdims=True)
    both = [fused + np.log1p(-share)[:, None], among + np.log(share)[:, None]]
    return np.concatenate(both, axis=1), preference


def _best(logits: Floats) -> Floats:
    return np.asarray(logits.max(axis=1))
