"""One temperature per expert, so that a probability of 0.8 is right eight times in ten.

Enters: an expert's logits (songs, singers) and the true labels. Leaves: a temperature, and
log-probabilities log softmax(logits / temperature).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PRIOR_SD = 2.0  # of log temperature around 0, in nats; see `fit_temperature`
LIMITS = (0.02, 50.0)  # temperatures that are tried


def log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Log-probabilities (songs, singers) of logits of the same shape, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def apply_temperature(logits: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """log softmax(logits / temperature) (songs, singers); `ValueError` unless it is above 0."""
    if not temperature > 0:
        raise ValueError(f"a temperature must be above 0, not {temperature}")
    return log_softmax(logits.astype(np.float64) / temperature)


def fit_temperature(
    logits: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    shares: NDArray[np.floating[Any]] | None = None,
    prior_sd: float = PRIOR_SD,
) -> float:
    """The temperature that minimises Σ NLL + (log T)² / (2 · prior_sd²) (Guo et al. 2017, eq. 9).

    The second term is a weak prior towards T = 1. Without it, validation songs that are all
    identified correctly would drive T to 0 and every later probability to 1; with it, ten songs
    already outweigh it wherever there is an error to learn from. `labels` (songs,) must be known.
    `shares` (songs,) is what each row counts in the first sum; None: 1.
    """
    from scipy.optimize import minimize_scalar  # only fitting needs scipy

    if len(labels) == 0 or labels.min() < 0:
        raise ValueError("a temperature is fitted on labelled songs, and at least on one")
    rows = np.arange(len(labels))
    counts = np.ones(len(labels)) if shares is None else shares

    def objective(log_t: float) -> float:
        right = apply_temperature(logits, float(np.exp(log_t)))[rows, labels]
        return float(-(counts @ right) + log_t**2 / (2 * prior_sd**2))

    low, high = np.log(LIMITS)
    # The NLL is convex in 1/T but not in log T: the bounded search stays near a grid's best.
    grid = np.linspace(low, high, 33)
    best = int(np.argmin([objective(float(point)) for point in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
