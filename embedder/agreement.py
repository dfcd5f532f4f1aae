"""How alike two experts answer: Cohen's kappa, and the songs that both get wrong.

Enters: the singers that experts name (experts, songs), int. Leaves: matrices (experts, experts)
with bootstrap 95 % intervals over songs. All pairs are resampled together, for a large ensemble has
hundreds of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.metrics import Integers, resamples

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """A measure of every pair of experts, (experts, experts) each."""

    value: Matrix
    low: Matrix
    high: Matrix


def kappas(named: Integers, seed: int = 0) -> Pairs:
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

    return _pairs(of, named.shape[1], seed)


def double_faults(truth: Integers, named: Integers, seed: int = 0) -> Pairs:
    """Share of songs that both experts of a pair get wrong, 0 to 1 (Giacinto & Roli 2001).

    On the diagonal stands each expert's own error rate.
    """
    wrong = named != truth
    both = (wrong[:, None] & wrong[None]).astype(np.float64)
    return _pairs(lambda weights: np.tensordot(weights, both, axes=(1, 2)), named.shape[1], seed)


def _pairs(of: Callable[[Matrix], Matrix], songs: int, seed: int) -> Pairs:
    values = []
    for draws in resamples(songs, seed):
        rows = np.arange(len(draws))[:, None] * songs
        counts = np.bincount((rows + draws).ravel(), minlength=len(draws) * songs)
        values.append(of(counts.reshape(len(draws), songs) / songs))
    drawn = np.concatenate(values)
    limits = np.full((2, *drawn.shape[1:]), np.nan)
    for pair in np.ndindex(drawn.shape[1:]):
        defined = drawn[:, *pair]
        defined = defined[~np.isnan(defined)]
        if len(defined):
            limits[:, *pair] = np.quantile(defined, [0.025, 0.975])
    return Pairs(of(np.full((1, songs), 1 / songs))[0], limits[0], limits[1])
