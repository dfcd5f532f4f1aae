"""Ways to make one answer of several experts'. A new one is a class with an entry in `FUSERS`.

Which of them serves best is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ensemble.fusion.calibration import TemperatureScaling, log_softmax
from ensemble.fusion.probe import fit_logistic_regression

# Of log temperature around 0, of what is made of experts that are calibrated already. Narrower than
# theirs: where all songs but one album's are right, that album held out would cost 20 nats a song.
# Shares of votes and the regression's logits are no probabilities yet; they take the wide prior.
POOL_SD = 0.5
WEIGHT_SD = 0.5  # of the prior of each weight around 1/experts; see `fit_weights`
STACK_C = 0.01  # scikit-learn's C of `Stack`: strong, for there are more features than songs
FLOOR = -12.0  # log-probabilities below it say no more to `Stack` than it does
UNVOTED = 1.0  # votes spread evenly over all singers by `Vote`

Floats = NDArray[np.floating[Any]]
Logs = NDArray[np.float64]
Weights = dict[str, float]  # expert → weight, 0 or more; its keys are the experts, in order


@dataclass(frozen=True, eq=False)
class FitData:
    """What a fuser may learn from: labelled songs, and chunks of them."""

    experts: tuple[str, ...]
    logs: Logs  # (experts, songs, singers), calibrated log-probabilities
    labels: NDArray[np.int64]  # (songs,)
    chunk_logs: Logs  # (experts, chunks, singers), calibrated as chunks
    chunk_labels: NDArray[np.int64]  # (chunks,)
    shares: Logs  # (chunks,), so that a song's chunks count as one song
    temperature_ratio: Logs  # (experts,), temperature on songs / temperature on chunks

    def weights(self, values: Sequence[float] | Logs) -> Weights:
        """Expert → its value."""
        return dict(zip(self.experts, map(float, values), strict=True))

    def equal_weights(self) -> Weights:
        """The same weight for all experts, 1 in sum."""
        return self.weights([1.0 / len(self.experts)] * len(self.experts))


@runtime_checkable
class Fuser(Protocol):
    """A way to fuse: a frozen dataclass of what it fitted, numbers and arrays."""

    @property
    def weights(self) -> Weights:
        """What each expert counts, where all answer or some are missing."""
        ...

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Learn from labelled songs."""
        ...

    def log_probabilities(self, logs: Mapping[str, Floats]) -> Logs:
        """Fused log-probabilities (songs, singers) of calibrated ones of each expert that answers.

        Where an expert is missing, the others' weights grow. Raises `ValueError` for an unknown
        expert or none.
        """
        ...


@dataclass(frozen=True)
class LogLinear:
    """p(singer) ∝ exp(Σ_e w_e · log p_e(singer)), w_e ≥ 0.

    Source: Genest & Zidek, Combining probability distributions, Statistical Science 1986.
    """

    weights: Weights

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Learn the weights' proportions on chunks, where there are mistakes to learn from.

        What a logit counts there it counts in the pool of songs, and one factor for all calibrates
        that pool: w_e = v_e · T_e / (T'_e · T), with v_e and T'_e fitted on chunks, T_e and T on
        songs.
        """
        found = fit_weights(data.chunk_logs, data.chunk_labels, data.shares)
        weights = found * data.temperature_ratio
        if weights.sum() <= 0:
            weights = np.full(len(found), 1.0 / len(found))
        pooled = pool(data.logs, weights)
        scaling = TemperatureScaling.fit(pooled, data.labels, prior_sd=POOL_SD)
        return cls(data.weights(weights / scaling.temperature))

    def log_probabilities(self, logs: Mapping[str, Floats]) -> Logs:
        """See `Fuser`."""
        return pool(*answering(self.weights, logs))


@dataclass(frozen=True)
class BestSingle:
    """The expert with the lowest NLL alone; chunks of the songs decide between equal ones."""

    weights: Weights

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Choose the expert."""
        rows, chunks = np.arange(len(data.labels)), np.arange(len(data.chunk_labels))
        on_songs = -data.logs[:, rows, data.labels].mean(axis=1)
        on_chunks = -(data.chunk_logs[:, chunks, data.chunk_labels] @ data.shares)
        best = np.lexsort((on_chunks, on_songs))[0]
        return cls(data.weights([float(n == best) for n in range(len(data.experts))]))

    def log_probabilities(self, logs: Mapping[str, Floats]) -> Logs:
        """See `Fuser`."""
        return pool(*answering(self.weights, logs))


@dataclass(frozen=True)
class Vote:
    """Every expert has one vote; how far a share of votes can be trusted is a temperature."""

    weights: Weights
    temperature: float

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Fit the temperature."""
        weights = data.equal_weights()
        shares = vote_shares(data.logs, np.array(list(weights.values())))
        return cls(weights, TemperatureScaling.fit(shares, data.labels).temperature)

    def log_probabilities(self, logs: Mapping[str, Floats]) -> Logs:
        """See `Fuser`."""
        shares = vote_shares(*answering(self.weights, logs))
        return TemperatureScaling(self.temperature).log_probabilities(shares)


@dataclass(frozen=True)
class Mean:
    """The arithmetic mean of the experts' probabilities, calibrated once more."""

    weights: Weights
    temperature: float

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Fit the temperature."""
        weights = data.equal_weights()
        means = linear_pool(data.logs, np.array(list(weights.values())))
        scaling = TemperatureScaling.fit(means, data.labels, prior_sd=POOL_SD)
        return cls(weights, scaling.temperature)

    def log_probabilities(self, logs: Mapping[str, Floats]) -> Logs:
        """See `Fuser`."""
        means = linear_pool(*answering(self.weights, logs))
        return TemperatureScaling(self.temperature).log_probabilities(means)


@dataclass(frozen=True, eq=False)
class Stack:
    """Multinomial logistic regression on the experts' log-probabilities.

    It cannot leave an expert out: for songs that lack one it does as `LogLinear`, with its weights.
    It learns each singer from songs of that singer, so it knows nobody of whom it saw no album.

    Source: Wolpert, Stacked generalization, Neural Networks 1992.
    """

    weights: Weights
    temperature: float
    coefficients: Logs  # (singers, experts · singers + 1), the last of them the bias

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Fit the regression; singers without a song keep the lowest bias."""
        features = stacked(data.logs)
        table = np.zeros((data.logs.shape[2], features.shape[1] + 1))
        present = np.unique(data.labels)
        if len(present) > 1:
            found, bias = fit_logistic_regression(features, data.labels, STACK_C, max_iter=300)
            table[:, -1] = bias.min()
            table[present, :-1], table[present, -1] = found, bias
        scaling = TemperatureScaling.fit(_linear(table, features), data.labels)
        return cls(LogLinear.fit(data).weights, scaling.temperature, table)

    def log_probabilities(self, logs: Mapping[str, Floats]) -> Logs:
        """See `Fuser`."""
        both, weights = answering(self.weights, logs)
        if len(both) < len(self.weights):
            return pool(both, weights)
        logits = _linear(self.coefficients, stacked(both))
        return TemperatureScaling(self.temperature).log_probabilities(logits)


FUSERS: dict[str, type[Fuser]] = {
    "best_single": BestSingle,
    "vote": Vote,
    "mean": Mean,
    "log_linear": LogLinear,
    "stack": Stack,
}


def method_of(fuser: Fuser) -> str:
    """The key of `FUSERS` of a fitted one."""
    return next(name for name, kind in FUSERS.items() if kind is type(fuser))


def answering(weights: Weights, logs: Mapping[str, Floats]) -> tuple[Logs, Logs]:
    """(experts, songs, singers) of those that answer, and their weights (experts,).

    The weights grow in proportion to the sum of all; equal shares of that sum, where those that
    answer had no weight. Raises `ValueError` for an unknown expert or none.
    """
    unknown = sorted(set(logs) - set(weights))
    if unknown or not logs:
        raise ValueError(f"unknown experts {unknown}; this fusion has {', '.join(weights)}")
    names = [name for name in weights if name in logs]
    both = np.stack([np.asarray(logs[name], np.float64) for name in names])
    found, total = np.array([weights[name] for name in names]), sum(weights.values())
    if found.sum() > 0:
        return both, np.asarray(found * (total / found.sum()))
    return both, np.full(len(names), total / len(names))


def pool(log_probabilities: Floats, weights: Floats) -> Logs:
    """Log-linear pool (songs, singers) of (experts, songs, singers) with weights (experts,)."""
    # A plain sum, not BLAS, whose rounding depends on how many songs there are.
    return log_softmax((weights[:, None, None] * log_probabilities).sum(axis=0))


def linear_pool(log_probabilities: Floats, weights: Floats) -> Logs:
    """Log of the weighted arithmetic mean of probabilities; weights (experts,) of any sum."""
    shares = weights / weights.sum()
    with np.errstate(divide="ignore"):
        logs = np.log(shares)[:, None, None] + log_probabilities
    return np.asarray(np.logaddexp.reduce(logs, axis=0))


def vote_shares(log_probabilities: Floats, weights: Floats) -> Logs:
    """Log of each singer's share of the experts' votes (songs, singers).

    Each expert votes for its first choice. `UNVOTED` votes more follow the experts' mean
    probability, which so decides between singers of equally many votes.
    """
    counted = np.zeros(log_probabilities.shape[1:])
    rows = np.arange(len(counted))
    for weight, logs in zip(weights / weights.sum(), log_probabilities, strict=True):
        counted[rows, logs.argmax(axis=1)] += weight * len(weights)
    rest = UNVOTED * np.exp(linear_pool(log_probabilities, weights))
    return np.asarray(np.log(np.maximum((counted + rest) / (len(weights) + UNVOTED), 1e-300)))


def stacked(log_probabilities: Floats) -> Logs:
    """Features (songs, experts · singers) of log-probabilities (experts, songs, singers)."""
    cut = np.maximum(log_probabilities, FLOOR) - FLOOR
    return np.asarray(np.concatenate(list(cut), axis=1))


def _linear(table: Logs, features: Logs) -> Logs:
    """Logits (songs, singers); each song on its own, as BLAS rounds by how many there are."""
    rows = [(table[:, :-1] * feature).sum(axis=1) for feature in features]
    return np.array(rows).reshape(len(rows), len(table)) + table[:, -1]


def fit_weights(
    log_probabilities: Floats, labels: NDArray[np.integer[Any]], shares: Floats
) -> Logs:
    """Weights (experts,) ≥ 0 that minimise Σ NLL of the pool + Σ_e (w_e − 1/E)² / (2 · WEIGHT_SD²).

    The second term draws the weights to the plain average, so that few songs move them little and
    many alike experts share. The sum is not held at 1: experts whose errors are independent deserve
    a sharper pool than any of them. The objective is convex, so the minimum is the only one.

    Args:
        log_probabilities: (experts, chunks, singers), calibrated.
        labels: (chunks,), known.
        shares: (chunks,), what each counts in the first sum.
    """
    from scipy.optimize import minimize  # only fitting needs scipy

    experts = len(log_probabilities)
    equal, rows = 1.0 / experts, np.arange(len(labels))
    right = log_probabilities[:, rows, labels] @ shares
    flat = log_probabilities.reshape(experts, -1)

    def objective(weights: Logs) -> tuple[float, Logs]:
        logs = pool(log_probabilities, weights)
        pull = (weights - equal) / WEIGHT_SD**2
        expected = flat @ (shares[:, None] * np.exp(logs)).ravel()
        value = -(shares @ logs[rows, labels]) + 0.5 * float(pull @ (weights - equal))
        return float(value), expected - right + pull

    start = np.full(experts, equal)
    bounds = [(0.0, None)] * experts
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x, dtype=np.float64)
