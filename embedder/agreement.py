"""How alike two experts answer: Cohen's kappa, and the songs that both get wrong.

Enters: the singers that experts name (experts, songs), int. Leaves: matrices (experts, experts)
with 95 % intervals from a bootstrap of whole albums. All pairs are resampled together, for a large
ensemble has hundreds of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.metrics import Groups, Integers, group_numbers, interval_limits, resamples

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """A measure of every pair of experts, (experts, experts) each."""

    value: Matrix
    low: Matrix
    high: Matrix


def kappas(named: Integers, seed: int = 0, groups: Groups | None = None) -> Pairs:
    """Cohen's kappa (1960) of every two experts, −1 to 1: agreement beyond that of chance.

    (p_o − p_e) / (1 − p_e), p_o the share of songs on which they agree, p_e that which their own
    frequencies of naming each singer would give. NaN where both name one singer for all songs.
    """
    singers = np.eye(int(named.max()) + 1)[named]  # (experts, songs, singers)
    agree = (named[:, None] == named[None]).astype(np.float64)

    def of(weights: Matrix) -> Matrix:
        """(resamples, experts, experts) of weights (resamples, songs) that sum to 1."""
        shares = np.einsum("rs,esc->rec", weights, singers, optimize=True)
        chance = shares @ shares.transpose(0, 2, 1)
        observed = np.tensordot(weights, agree, axes=(1, 2))
        # Where chance alone explains everything, rounding must not make a number of 0 / 0.
        possible = np.where(chance < 1 - 1e-12, 1 - chance, np.nan)
        return np.asarray((observed - chance) / possible)

    return _pairs(of, named.shape[1], seed, groups, (-1.0, 1.0))


def double_faults(
    truth: Integers, named: Integers, seed: int = 0, groups: Groups | None = None
) -> Pairs:
    """Share of songs that both experts of a pair get wrong, 0 to 1 (Giacinto & Roli 2001).

    On the diagonal stands each expert's own error rate.
    """
    wrong = named != truth
    both = (wrong[:, None] & wrong[None]).astype(np.float64)

    def of(weights: Matrix) -> Matrix:
        return np.tensordot(weights, both, axes=(1, 2))

    return _pairs(of, named.shape[1], seed, groups, (0.0, 1.0))


def _pairs(
    of: Callable[[Matrix], Matrix],
    songs: int,
    seed: int,
    groups: Groups | None,
    limits: tuple[float, float],
) -> Pairs:
    """Values and limits as `metrics.bootstrap_interval` finds them, of all pairs at once."""
    drawn = np.concatenate(
        [of(w / w.sum(axis=1, keepdims=True)) for w in resamples(songs, seed, groups)]
    )
    value = of(np.full((1, songs), 1 / songs))[0]
    defined = ~np.isnan(drawn)
    count = np.maximum(defined.sum(axis=0), 1)
    mean = np.where(defined, drawn, 0).sum(axis=0) / count
    variance = np.where(defined, drawn - mean, 0) ** 2
    number = int(group_numbers(songs, groups).max()) + 1
    low, high = interval_limits(value, variance.sum(axis=0) / count, number, songs, limits)
    return Pairs(value, *(np.where(np.isnan(value), np.nan, limit) for limit in (low, high)))
