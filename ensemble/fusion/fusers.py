"""Ways to make one answer of several: the dict `FUSIONS`.

Enters: the experts' calibrated log-probabilities of labelled songs, and of pieces of them. Leaves:
`Pooling`, what a method fitted, and its fused log-probabilities of any songs. Which of the methods
serves best is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.fusion.calibration import apply_temperature, fit_temperature, log_softmax

# Of log temperature around 0, of what is made of experts that are calibrated already. Narrower than
# theirs: where all songs but one album's are right, that album held out would cost 20 nats a song.
POOL_SD = 0.5
WEIGHT_SD = 0.5  # of the prior of each weight around 1/experts; see `fit_weights`
STACK_C = 0.01  # scikit-learn's C of `stack`: strong, for there are more features than songs
FLOOR = -12.0  # log-probabilities below it say no more to `stack` than it does
UNVOTED = 1.0  # votes spread evenly over all singers by `vote`

Floats = NDArray[np.floating[Any]]
Logs = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Material:
    """What a method may learn from."""

    experts: tuple[str, ...]
    logs: Logs  # (experts, songs, singers), calibrated
    labels: NDArray[np.int64]  # (songs,)
    piece_logs: Logs  # (experts, pieces, singers), calibrated as pieces
    piece_labels: NDArray[np.int64]  # (pieces,)
    shares: Logs  # (pieces,), so that a song's pieces count as one song
    sharper: Logs  # (experts,), temperature on songs / temperature on pieces


@dataclass(frozen=True, eq=False)
class Pooling:
    """A fitted method."""

    method: str  # a key of `FUSIONS`
    weights: dict[str, float]  # expert → weight, 0 or more; its keys are the experts, in order
    temperature: float = 1.0  # of what the method makes of the experts
    coefficients: Logs = field(default_factory=lambda: np.zeros((0, 0)))  # of `stack`


def weighted(pooling: Pooling, experts: Sequence[str]) -> Logs:
    """The weights (experts,) of those that answer, grown in proportion to the sum of all.

    Equal shares of that sum, where those that answer had no weight.
    """
    found = np.array([pooling.weights[name] for name in experts])
    total = sum(pooling.weights.values())
    if found.sum() > 0:
        return np.asarray(found * (total / found.sum()))
    return np.full(len(experts), total / len(experts))


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


def votes_of(log_probabilities: Floats, weights: Floats) -> Logs:
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


def _shares(material: Material, values: Sequence[float]) -> dict[str, float]:
    return dict(zip(material.experts, map(float, values), strict=True))


def _equal(material: Material) -> dict[str, float]:
    return _shares(material, [1.0 / len(material.experts)] * len(material.experts))


def best_single(material: Material) -> Pooling:
    """The expert with the lowest NLL alone; pieces of the songs decide between equal ones."""
    rows, pieces = np.arange(len(material.labels)), np.arange(len(material.piece_labels))
    songs = -material.logs[:, rows, material.labels].mean(axis=1)
    parts = -(material.piece_logs[:, pieces, material.piece_labels] @ material.shares)
    best = np.lexsort((parts, songs))[0]
    chosen = [float(number == best) for number in range(len(material.experts))]
    return Pooling("best_single", _shares(material, chosen))


def vote(material: Material) -> Pooling:
    """Every expert has one vote; how far a share of votes can be trusted is a temperature."""
    weights = _equal(material)
    shares = votes_of(material.logs, np.array(list(weights.values())))
    return Pooling("vote", weights, fit_temperature(shares, material.labels))


def mean(material: Material) -> Pooling:
    """The arithmetic mean of the experts' probabilities, calibrated once more."""
    weights = _equal(material)
    logs = linear_pool(material.logs, np.array(list(weights.values())))
    return Pooling("mean", weights, fit_temperature(logs, material.labels, prior_sd=POOL_SD))


def log_linear(material: Material) -> Pooling:
    """p(singer) ∝ exp(Σ_e w_e · log p_e(singer)), w_e ≥ 0 (Genest & Zidek 1986).

    The weights' proportions are learnt on pieces of the songs, where there are mistakes to learn
    from. What a logit counts there it counts in the pool of songs, and one factor for all
    calibrates that pool: w_e = v_e · T_e / (T'_e · T), with v_e and T'_e fitted on pieces, T_e and
    T on songs.
    """
    found = fit_weights(material.piece_logs, material.piece_labels, material.shares)
    weights = found * material.sharper
    if weights.sum() <= 0:
        weights = np.full(len(found), 1.0 / len(found))
    logs = pool(material.logs, weights)
    weights = weights / fit_temperature(logs, material.labels, prior_sd=POOL_SD)
    return Pooling("log_linear", _shares(material, list(weights)))


def stack(material: Material) -> Pooling:
    """Multinomial logistic regression on the experts' log-probabilities (Wolpert 1992).

    Singers without a song in the material keep the lowest bias. Its weights are those of
    `log_linear`, for songs that some expert cannot hear.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    singers = material.logs.shape[2]
    features = stacked(material.logs)
    there = np.unique(material.labels)
    table = np.zeros((singers, features.shape[1] + 1))
    if len(there) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = LogisticRegression(C=STACK_C, max_iter=300).fit(features, material.labels)
        coefficients, bias = found.coef_, found.intercept_
        if len(there) == 2:  # scikit-learn keeps one row for two classes
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            bias = np.concatenate([-bias, bias]) / 2
        table[:, -1] = bias.min()
        table[there, :-1], table[there, -1] = coefficients, bias
    logs = _stack_logits(table, features)
    weights = log_linear(material).weights
    temperature = fit_temperature(logs, material.labels)
    return Pooling("stack", weights, temperature, coefficients=table)


def stacked(log_probabilities: Floats) -> Logs:
    """Features (songs, experts · singers) of log-probabilities (experts, songs, singers)."""
    cut = np.maximum(log_probabilities, FLOOR) - FLOOR
    return np.asarray(np.concatenate(list(cut), axis=1))


def _stack_logits(table: Logs, features: Logs) -> Logs:
    rows = [(table[:, :-1] * feature).sum(axis=1) for feature in features]
    return np.array(rows).reshape(len(rows), len(table)) + table[:, -1]


FUSIONS: dict[str, Callable[[Material], Pooling]] = {
    "best_single": best_single,
    "vote": vote,
    "mean": mean,
    "log_linear": log_linear,
    "stack": stack,
}


def fused(pooling: Pooling, logs: Mapping[str, Floats]) -> Logs:
    """Fused log-probabilities (songs, singers) of calibrated ones of each expert that answers.

    Where one is missing the others' weights grow; `stack`, which cannot leave one out, then does
    as `log_linear`. Raises `ValueError` for an unknown expert or none.
    """
    unknown = sorted(set(logs) - set(pooling.weights))
    if unknown or not logs:
        raise ValueError(f"unknown experts {unknown}; this fusion has {', '.join(pooling.weights)}")
    names = [name for name in pooling.weights if name in logs]
    both = np.stack([np.asarray(logs[name], np.float64) for name in names])
    weights = weighted(pooling, names)
    if pooling.method == "stack" and len(names) == len(pooling.weights):
        found = _stack_logits(pooling.coefficients, stacked(both))
        return apply_temperature(found, pooling.temperature)
    if pooling.method == "vote":
        return apply_temperature(votes_of(both, weights), pooling.temperature)
    if pooling.method == "mean":
        return apply_temperature(linear_pool(both, weights), pooling.temperature)
    return pool(both, weights)


def fit_weights(
    log_probabilities: Floats, labels: NDArray[np.integer[Any]], shares: Floats
) -> Logs:
    """Weights (experts,) ≥ 0 that minimise Σ NLL of the pool + Σ_e (w_e − 1/E)² / (2 · WEIGHT_SD²).

    Calibrated log-probabilities (experts, pieces, singers), known labels (pieces,), and what each
    piece counts in the first sum (pieces,). The second term draws the weights to the plain average,
    so that few songs move them little and many alike experts share. The sum is not held at 1:
    experts whose errors are independent deserve a sharper pool than any of them. The objective is
    convex, so the minimum is the only one.
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
