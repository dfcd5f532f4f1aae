"""One temperature per expert, so that a probability of 0.8 is right eight times in ten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRIOR_SD = 2.0  # of log temperature around 0, in nats; see `TemperatureScaling.fit`
LIMITS = (0.02, 50.0)  # temperatures that are tried


def log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Log-probabilities (songs, singers) of logits of the same shape, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


@dataclass(frozen=True)
class TemperatureScaling:
    """p = softmax(logits / temperature).

    Source: Guo et al., On calibration of modern neural networks, ICML 2017, eq. 9.
    """

    temperature: float = 1.0  # above 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"a temperature must be above 0, not {self.temperature}")

    @classmethod
    def fit(
        cls,
        logits: NDArray[np.floating[Any]],
        labels: NDArray[np.integer[Any]],
        shares: NDArray[np.floating[Any]] | None = None,
        prior_sd: float = PRIOR_SD,
    ) -> TemperatureScaling:
        """Minimise Σ NLL + (log T)² / (2 · prior_sd²).

        The second term is a weak prior towards T = 1. Without it, validation songs that are all
        identified correctly would drive T to 0 and every later probability to 1; with it, ten songs
        already outweigh it wherever there is an error to learn from.

        Args:
            logits: (songs, singers).
            labels: (songs,), all known.
            shares: (songs,), what each row counts in the first sum; None: 1.
            prior_sd: of log T around 0, nats.

        Raises:
            ValueError: there is no song, or one without a label.
        """
        from scipy.optimize import minimize_scalar  # only fitting needs scipy

        if len(labels) == 0 or labels.min() < 0:
            raise ValueError("a temperature is fitted on labelled songs, and at least on one")
        rows = np.arange(len(labels))
        counts = np.ones(len(labels)) if shares is None else shares

        def objective(log_t: float) -> float:
            right = cls(float(np.exp(log_t))).log_probabilities(logits)[rows, labels]
            return float(-(counts @ right) + log_t**2 / (2 * prior_sd**2))

        # The NLL is convex in 1/T but not in log T: the bounded search stays near a grid's best.
        grid = np.linspace(np.log(LIMITS[0]), np.log(LIMITS[1]), 33)
        best = int(np.argmin([objective(float(point)) for point in grid]))
        bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
        found = minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        return cls(float(np.exp(found.x)))

    def log_probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """log softmax(logits / temperature), (songs, singers)."""
        return log_softmax(logits.astype(np.float64) / self.temperature)
