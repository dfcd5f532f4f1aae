"""How a song's segments become one: its embedding and its logits, weighted by share of voice.

Input: a song's segment embeddings or logits, and what each segment weighs. Output: the song's
embedding `(dim,)` of unit length, and its logits `(singers,)` by one of `AGGREGATES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError, did_you_mean

# Heads are sure of themselves on single segments: their logits are divided by this before they
# become probabilities (DECISIONS.md: 2 and 4 served alike, 1 a little worse).
SOFTENING = 2.0


def song_weights(segment_weight: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """What each of a song's segments (n,) counts: its weight, scaled to a mean of 1.

    A song without voice anywhere, whose weights are all 0, falls back to equal weights.
    Raises `ValueError` for a weight below 0.
    """
    weights = segment_weight.astype(np.float64)
    if len(weights) and not weights.min() >= 0:
        raise ValueError("a segment's weight must be 0 or more")
    total = weights.sum()
    scaled: NDArray[np.float64] = weights * (len(weights) / total) if total > 0 else weights + 1
    return scaled


def song_embedding(
    segment_embeddings: NDArray[np.floating[Any]],
    segment_weight: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.float32]:
    """Weighted mean of a song's unit segment embeddings (n, dim), of unit length again: (dim,).

    Without weights (n,) all segments count the same, and so they do where all weights are 0.
    Raises `ValueError` if there is no segment, or if the segments cancel each other out.
    """
    if segment_embeddings.ndim != 2 or len(segment_embeddings) == 0:
        raise ValueError(f"need (n ≥ 1, dim) embeddings, not {segment_embeddings.shape}")
    weights = _weights_of(len(segment_embeddings), segment_weight)
    mean = _mean(segment_embeddings.astype(np.float64), weights)
    length = float(np.linalg.norm(mean))
    if not length > 1e-9:
        raise ValueError("the segment embeddings have no mean direction")
    unit: NDArray[np.float32] = (mean / length).astype(np.float32)
    return unit


def _weights_of(segments: int, given: NDArray[np.floating[Any]] | None) -> NDArray[np.float64]:
    if given is None:
        return np.ones(segments)
    if given.shape != (segments,):
        raise ValueError(f"need ({segments},) weights, not {given.shape}")
    return song_weights(given)


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean of the rows. Of logits: after a softmax, the normalised geometric mean."""
    averaged: NDArray[np.float64] = (weights[:, None] * values).mean(axis=0)
    return averaged


def _vote(logits: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of each singer's share of the segments' votes, smoothed.

    Each segment votes with its weight for its highest logit (the first of equal ones). One further
    vote is spread over all singers, so that a singer without votes keeps a finite logit.
    """
    segments, singers = logits.shape
    votes = np.bincount(logits.argmax(axis=1), weights, minlength=singers)
    share: NDArray[np.float64] = np.log((votes + 1.0 / singers) / (segments + 1.0))
    return share


def _probability(logits: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of the weighted arithmetic mean of the segments' probabilities, softened.

    A segment that knows nothing spreads its share over all singers and hides nobody, where in the
    mean of logits its accidental maximum counts like that of a segment that is sure.
    """
    softened = logits / SOFTENING
    logs = softened - np.logaddexp.reduce(softened, axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        shares = np.log(weights / len(weights))
    mean: NDArray[np.float64] = np.logaddexp.reduce(logs + shares[:, None], axis=0)
    return mean


# (segments, singers) logits and (segments,) weights whose mean is 1 → (singers,)
Aggregate = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

AGGREGATES: dict[str, Aggregate] = {
    "probability": _probability,
    "mean": _mean,
    "vote": _vote,
}


def song_logits(
    segment_logits: NDArray[np.floating[Any]],
    aggregate: str = "probability",
    segment_weight: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.float64]:
    """A song's logits (singers,) from those of its segments (n, singers).

    `aggregate`: "mean" averages the logits, "probability" the segments' probabilities, "vote"
    counts their first choices. Weights (n,) are taken as in `song_embedding`.
    Raises `UserError` for another name, `ValueError` if there is no segment.
    """
    if aggregate not in AGGREGATES:
        raise UserError(
            f"--aggregate {aggregate}{did_you_mean(aggregate, AGGREGATES)} is unknown; "
            f"choose from {', '.join(AGGREGATES)}"
        )
    if segment_logits.ndim != 2 or len(segment_logits) == 0:
        raise ValueError(f"need (n ≥ 1, singers) logits, not {segment_logits.shape}")
    weights = _weights_of(len(segment_logits), segment_weight)
    return AGGREGATES[aggregate](segment_logits.astype(np.float64), weights)
