"""Ways to fuse: each recomputed by hand, with all experts and with some of them missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from sklearn.linear_model import LogisticRegression

from embedder.metrics import nll
from ensemble.fusion.calibration import TemperatureScaling, log_softmax
from ensemble.fusion.fusers import (
    FLOOR,
    FUSERS,
    POOL_SD,
    STACK_C,
    UNVOTED,
    WEIGHT_SD,
    FitData,
    Fuser,
    LogLinear,
    Vote,
    answering,
    fit_weights,
    linear_pool,
    method_of,
    pool,
    vote_shares,
)

SINGERS, CHUNKS = 5, 4
EXPERTS = ("good/head", "fair/probe", "noise/head")


def data_of(
    labels: np.ndarray, songs: Mapping[str, np.ndarray], chunks: Mapping[str, np.ndarray]
) -> FitData:
    """Calibrated as `crossfit.fit` does it: logits of songs and of `CHUNKS` chunks of each."""
    there = np.repeat(labels, len(next(iter(chunks.values()))) // len(labels))
    shares = np.full(len(there), len(labels) / len(there))
    whole = {
        name: TemperatureScaling.fit(logits, labels).temperature for name, logits in songs.items()
    }
    parts = {
        name: TemperatureScaling.fit(logits, there, shares).temperature
        for name, logits in chunks.items()
    }
    return FitData(
        experts=tuple(songs),
        logs=np.stack(
            [TemperatureScaling(whole[name]).log_probabilities(songs[name]) for name in songs]
        ),
        labels=labels,
        chunk_logs=np.stack(
            [TemperatureScaling(parts[name]).log_probabilities(chunks[name]) for name in songs]
        ),
        chunk_labels=there,
        shares=shares,
        temperature_ratio=np.array([whole[name] / parts[name] for name in songs]),
    )


def drawn(seed: int = 0, songs: int = 60, singers: int = SINGERS) -> FitData:
    """Experts that know much, something and nothing; songs know more than their chunks."""
    rng = np.random.default_rng(seed)
    labels = np.arange(songs) % singers
    truth, parts = np.eye(singers)[labels], np.eye(singers)[np.repeat(labels, CHUNKS)]
    whole, cut = {}, {}
    for name, quality in zip(EXPERTS, (2.0, 1.0, 0.0), strict=True):
        whole[name] = 2 * quality * truth + 2 * rng.normal(size=(songs, singers))
        cut[name] = quality * parts + 2 * rng.normal(size=(songs * CHUNKS, singers))
    return data_of(labels, whole, cut)


@pytest.fixture(scope="module")
def data() -> FitData:
    return drawn()


@pytest.fixture(scope="module")
def fusers(data: FitData) -> dict[str, Fuser]:
    return {name: kind.fit(data) for name, kind in FUSERS.items()}


def by_name(data: FitData) -> dict[str, np.ndarray]:
    return dict(zip(data.experts, data.logs, strict=True))


# Each method once more, one song at a time ------------------------------------------------------

Logs = dict[str, np.ndarray]
Slow = Callable[[Logs, dict[str, float], FitData], np.ndarray]


def product(logs: Logs, weights: dict[str, float], _: FitData) -> np.ndarray:
    """The normalised product of probabilities to the power of their weights."""
    powers = np.prod([np.exp(logs[name]) ** weights[name] for name in logs], axis=0)
    return np.asarray(np.log(powers / powers.sum(axis=1, keepdims=True)))


def counted(logs: Logs, weights: dict[str, float], _: FitData) -> np.ndarray:
    """The experts' first choices and their mean probability, as shares of all votes."""
    rows = []
    for song in range(len(next(iter(logs.values())))):
        votes = np.zeros(SINGERS)
        for name in logs:
            share = weights[name] / sum(weights[other] for other in logs)
            votes[np.argmax(logs[name][song])] += share * len(logs)
            votes += UNVOTED * share * np.exp(logs[name][song])
        rows.append(np.log(votes / votes.sum()))
    return np.array(rows)


def averaged(logs: Logs, weights: dict[str, float], _: FitData) -> np.ndarray:
    total = sum(weights[name] for name in logs)
    return np.log(sum(weights[name] / total * np.exp(logs[name]) for name in logs))


def regressed(logs: Logs, weights: dict[str, float], data: FitData) -> np.ndarray:
    """scikit-learn's decision on log-probabilities; the log-linear pool where one is missing."""
    if len(logs) < len(data.experts):
        return product(logs, weights, data)

    def features(values: Logs) -> np.ndarray:
        return np.maximum(np.concatenate([values[name] for name in data.experts], 1), FLOOR)

    model = LogisticRegression(C=STACK_C, max_iter=1000, tol=1e-8)
    model.fit(features(by_name(data)), data.labels)
    return np.asarray(model.decision_function(features(logs)))


SLOW: dict[str, Slow] = {
    "best_single": product,
    "vote": counted,
    "mean": averaged,
    "log_linear": product,
    "stack": regressed,
}
# What these make of the experts is calibrated as a whole; the others' weights already are.
CALIBRATED = {"vote", "mean", "stack"}


def slow_weights(method: str, data: FitData) -> list[float]:
    if method in ("vote", "mean"):
        return [1 / 3] * 3
    rows = range(len(data.labels))
    if method == "best_single":
        losses = [-sum(logs[row, data.labels[row]] for row in rows) for logs in data.logs]
        return [float(loss == min(losses)) for loss in losses]
    found = fit_weights(data.chunk_logs, data.chunk_labels, data.shares)
    plain = dict(zip(EXPERTS, found * data.temperature_ratio, strict=True))
    pooled = product(by_name(data), plain, data)
    factor = TemperatureScaling.fit(pooled, data.labels, prior_sd=POOL_SD).temperature
    return [weight / factor for weight in plain.values()]


@pytest.mark.parametrize("method", FUSERS)
def test_each_method_is_what_it_says(method: str, data: FitData, fusers: dict[str, Fuser]) -> None:
    fuser, logs = fusers[method], by_name(data)
    assert method_of(fuser) == method
    assert tuple(fuser.weights) == EXPERTS
    expected = slow_weights(method, data)
    np.testing.assert_allclose(list(fuser.weights.values()), expected, rtol=1e-4)
    slow = SLOW[method](logs, dict(zip(EXPERTS, expected, strict=True)), data)
    if method in CALIBRATED:
        narrow = {"prior_sd": POOL_SD} if method == "mean" else {}
        temperature = TemperatureScaling.fit(slow, data.labels, **narrow).temperature
        assert fuser.temperature == pytest.approx(temperature, rel=5e-3)
        slow = TemperatureScaling(temperature).log_probabilities(slow)
    got = fuser.log_probabilities(logs)
    np.testing.assert_allclose(got, slow, atol=0.02 if method == "stack" else 1e-3)
    np.testing.assert_allclose(np.exp(got).sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("missing", EXPERTS)
@pytest.mark.parametrize("method", FUSERS)
def test_where_an_expert_is_missing_the_others_weights_grow_to_the_same_sum(
    method: str, missing: str, data: FitData, fusers: dict[str, Fuser]
) -> None:
    fuser, logs = fusers[method], by_name(data)
    del logs[missing]
    left = sum(fuser.weights[name] for name in logs)
    total = sum(fuser.weights.values())
    weights = {
        name: fuser.weights[name] * total / left if left else total / len(logs) for name in logs
    }
    slow = SLOW[method](logs, weights, data)
    if method in CALIBRATED - {"stack"}:
        slow = TemperatureScaling(fuser.temperature).log_probabilities(slow)
    np.testing.assert_allclose(fuser.log_probabilities(logs), slow, atol=1e-9)
    _, got = answering(fuser.weights, logs)
    np.testing.assert_allclose(got, list(weights.values()), rtol=1e-12)
    assert got.sum() == pytest.approx(total)


@pytest.mark.parametrize("method", FUSERS)
def test_a_song_s_answer_depends_neither_on_its_company_nor_on_the_experts_order(
    method: str, data: FitData, fusers: dict[str, Fuser]
) -> None:
    fuser, logs = fusers[method], by_name(data)
    together = fuser.log_probabilities(logs)
    for song in (0, 17, 59):
        alone = {name: logs[name][song : song + 1] for name in reversed(EXPERTS)}
        np.testing.assert_array_equal(fuser.log_probabilities(alone)[0], together[song])
    nobody = fuser.log_probabilities({name: values[:0] for name, values in logs.items()})
    assert nobody.shape == (0, SINGERS)


def test_unknown_experts_are_refused(data: FitData, fusers: dict[str, Fuser]) -> None:
    logs = {"x/head": data.logs[0]}
    with pytest.raises(ValueError, match=r"unknown experts \['x/head'\]; this fusion has good/he"):
        fusers["mean"].log_probabilities(logs | by_name(data))
    with pytest.raises(ValueError, match="unknown experts"):
        fusers["mean"].log_probabilities({})


# Single methods ---------------------------------------------------------------------------------


def test_chunks_decide_between_experts_that_know_all_songs_alike() -> None:
    labels = np.arange(20) % SINGERS
    same = 9 * np.eye(SINGERS)[labels]
    rng = np.random.default_rng(0)
    truth = np.eye(SINGERS)[np.repeat(labels, CHUNKS)]
    chunks = {
        name: quality * truth + rng.normal(size=truth.shape)
        for name, quality in (("a/head", 0.5), ("b/head", 3.0), ("c/head", 1.0))
    }
    found = FUSERS["best_single"].fit(data_of(labels, dict.fromkeys(chunks, same), chunks))
    assert found.weights == {"a/head": 0.0, "b/head": 1.0, "c/head": 0.0}


def test_whole_songs_come_before_chunks_in_choosing_one_expert(data: FitData) -> None:
    worst_first = data.chunk_logs[::-1]  # on chunks, noise seems to know most
    found = FUSERS["best_single"].fit(replace(data, chunk_logs=worst_first))
    assert found.weights == dict(zip(EXPERTS, (1.0, 0.0, 0.0), strict=True))


def test_experts_without_weight_share_the_weight_of_those_that_are_missing() -> None:
    weights, logs = {"a": 0.0, "b": 1.8, "c": 0.0}, np.zeros((1, 2))
    np.testing.assert_allclose(answering(weights, {"a": logs, "c": logs})[1], [0.9, 0.9])


def test_shares_of_votes_and_means_sum_to_one_whatever_the_weights_sum_to() -> None:
    rng = np.random.default_rng(0)
    logs = log_softmax(rng.normal(size=(2 * 9, 4))).reshape(2, 9, 4)
    for weights in (np.array([0.5, 0.5]), np.array([3.0, 1.0]), np.array([0.0, 0.7])):
        for found in (vote_shares(logs, weights), linear_pool(logs, weights)):
            np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(linear_pool(logs, np.array([0.0, 0.7])), logs[1], rtol=1e-12)


def test_of_singers_of_equally_many_votes_the_likelier_is_first() -> None:
    fuser = Vote({"a": 0.5, "b": 0.5}, 1.0)
    logs = {"a": np.log([[0.5, 0.4, 0.1]]), "b": np.log([[0.1, 0.8, 0.1]])}
    share = fuser.log_probabilities(logs)[0]
    np.testing.assert_allclose(np.exp(share), np.array([1.3, 1.6, 0.1]) / 3, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_noise_has_little_say_in_the_log_linear_pool(seed: int) -> None:
    data = drawn(seed, songs=100)
    fuser = FUSERS["log_linear"].fit(data)
    said = {n: fuser.weights[n] * logs.std() for n, logs in by_name(data).items()}
    assert said["good/head"] > said["fair/probe"] > 3 * said["noise/head"]
    assert min(fuser.weights.values()) >= 0


def test_chunks_tell_apart_experts_that_know_all_whole_songs() -> None:
    """Of the chunks "dull" knows nothing and "sharp" much; whole songs are all right."""
    rng = np.random.default_rng(0)
    labels = rng.integers(SINGERS, size=60)
    truth = np.eye(SINGERS)[np.repeat(labels, CHUNKS)]
    sure = {
        name: 9 * np.eye(SINGERS)[labels] + rng.normal(size=(60, SINGERS))
        for name in ("dull/head", "sharp/head")
    }
    noise = {name: rng.normal(size=truth.shape) for name in sure}
    chunks = noise | {"sharp/head": noise["sharp/head"] + 3 * truth}
    data = data_of(labels, sure, chunks)
    weights = FUSERS["log_linear"].fit(data).weights
    temperatures = {name: TemperatureScaling.fit(sure[name], labels).temperature for name in sure}
    counts = {name: weights[name] / temperatures[name] for name in weights}  # what a logit counts
    assert counts["sharp/head"] > 5 * counts["dull/head"]
    # Up to one factor for all, a logit counts among songs what it counts among chunks.
    slow = fit_weights(data.chunk_logs, data.chunk_labels, data.shares)
    slow *= data.temperature_ratio / np.array(list(temperatures.values()))
    ratio = np.array(list(counts.values())) / slow
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-6)
    # The songs are calibrated.
    logs = LogLinear(weights).log_probabilities(by_name(data))
    assert TemperatureScaling.fit(logs, labels).temperature == pytest.approx(1, abs=0.1)


def test_experts_that_all_know_nothing_still_give_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ensemble.fusion.fusers.fit_weights", lambda *_: np.zeros(3))
    weights = list(FUSERS["log_linear"].fit(drawn()).weights.values())
    assert weights[0] > 0
    np.testing.assert_allclose(weights, weights[0])


def test_what_lies_below_the_floor_says_nothing_more_to_the_stack(
    data: FitData, fusers: dict[str, Fuser]
) -> None:
    logs = by_name(data)
    low, lower = (logs["good/head"] < np.median(logs["good/head"])) * -40.0, FLOOR - 1
    one = logs | {"good/head": np.where(low < 0, lower, logs["good/head"])}
    other = logs | {"good/head": np.where(low < 0, lower - 50, logs["good/head"])}
    same = [fusers["stack"].log_probabilities(logs) for logs in (one, other)]
    np.testing.assert_array_equal(*same)


def test_two_singers_stack_as_scikit_learn_does() -> None:
    data = drawn(singers=2)
    fuser = FUSERS["stack"].fit(data)
    logits = regressed(by_name(data), {}, data)
    both = np.stack([-logits / 2, logits / 2], axis=1)
    slow = TemperatureScaling(
        TemperatureScaling.fit(both, data.labels).temperature
    ).log_probabilities(both)
    np.testing.assert_allclose(fuser.log_probabilities(by_name(data)), slow, atol=0.02)


@pytest.mark.parametrize("singing", [[0, 2, 3], [4]])
def test_a_singer_without_a_song_is_stacked_behind_those_with_one(singing: list[int]) -> None:
    rng = np.random.default_rng(1)
    labels = np.array(singing)[np.arange(60) % len(singing)]
    truth = np.eye(SINGERS)[labels]
    logits = {name: 6 * truth + rng.normal(size=truth.shape) for name in EXPERTS}
    chunks = {name: np.repeat(found, CHUNKS, axis=0) for name, found in logits.items()}
    data = data_of(labels, logits, chunks)
    got = FUSERS["stack"].fit(data).log_probabilities(by_name(data))
    if len(singing) == 1:  # nothing to tell apart: nobody is preferred
        np.testing.assert_allclose(np.exp(got), 1 / SINGERS)
    else:
        assert (got.argmax(axis=1) == labels).all()
        absent = [singer for singer in range(SINGERS) if singer not in singing]
        assert (got[:, absent].max(axis=1) < got[np.arange(60), labels]).all()


# The weights of the log-linear pool -------------------------------------------------------------


def test_the_pool_is_the_normalised_weighted_product() -> None:
    rng = np.random.default_rng(0)
    logs = log_softmax(rng.normal(size=(3 * 7, 4))).reshape(3, 7, 4)
    weights = np.array([0.3, 0.0, 1.2])
    slow = np.exp(logs[0]) ** 0.3 * np.exp(logs[2]) ** 1.2
    expected = np.log(slow / slow.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(pool(logs, weights), expected, rtol=1e-10)


def weight_objective(
    logs: np.ndarray, labels: np.ndarray, shares: np.ndarray
) -> Callable[[np.ndarray], float]:
    def objective(weights: np.ndarray) -> float:
        pull = ((weights - 1 / len(logs)) ** 2).sum() / (2 * WEIGHT_SD**2)
        pooled = pool(logs, weights)
        loss = -sum(s * row[label] for s, row, label in zip(shares, pooled, labels, strict=True))
        return float(loss + pull)

    return objective


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_the_minimum_that_another_method_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=40)
    quality = np.array([3.0, 1.0, 0.0, -1.0])[:, None, None]  # the last is worse than noise
    logits = rng.normal(size=(4, 40, 5)) + quality * np.eye(5)[labels]
    logs = np.stack([log_softmax(part) for part in logits])
    shares = rng.uniform(0.2, 1, size=40)
    found = fit_weights(logs, labels, shares)
    objective = weight_objective(logs, labels, shares)
    slow = minimize(objective, np.full(4, 0.25), method="COBYLA", bounds=[(0, 10)] * 4, tol=1e-9)
    assert objective(found) <= slow.fun + 1e-5
    np.testing.assert_allclose(found, slow.x, atol=5e-3)
    assert found[0] > found[1] > found[3] == 0


def test_the_gradient_of_the_weights_is_that_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(4, size=20)
    logs = np.stack([log_softmax(rng.normal(size=(20, 4)) * 2) for _ in range(3)])
    shares = rng.uniform(0.2, 1, size=20)
    expected = weight_objective(logs, labels, shares)
    errors = []

    def checked(
        function: Callable[..., tuple[float, np.ndarray]], start: np.ndarray, **_: object
    ) -> object:
        for point in (start, np.array([0.1, 0.9, 2.0])):
            errors.append(check_grad(lambda w: function(w)[0], lambda w: function(w)[1], point))
            assert function(point)[0] == pytest.approx(expected(point))
        return minimize(function, start, jac=True)

    monkeypatch.setattr("scipy.optimize.minimize", checked)
    fit_weights(logs, labels, shares)
    assert len(errors) == 2
    assert max(errors) < 1e-4


def test_few_songs_leave_the_weights_near_equal() -> None:
    logs = np.stack([np.log([[0.6, 0.4]]), np.log([[0.4, 0.6]])])
    few = fit_weights(logs, np.array([0]), np.ones(1))
    many = fit_weights(np.repeat(logs, 200, axis=1), np.zeros(200, int), np.ones(200))
    same = fit_weights(np.repeat(logs, 200, axis=1), np.zeros(200, int), np.full(200, 1 / 200))
    np.testing.assert_allclose(same, few, atol=1e-4)  # many chunks of one song are one song
    np.testing.assert_allclose(few, [0.5, 0.5], atol=0.1)
    assert few[0] > few[1]
    assert many[0] > 1.5
    assert many[1] < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_alike_experts_share_what_one_of_them_would_count(seed: int) -> None:
    """Copies of an expert must not outvote one that errs otherwise."""
    data = drawn(seed, songs=80)
    one, other = data.chunk_logs[0], data.chunk_logs[1]
    rows = data.chunk_labels, data.shares
    pair = fit_weights(np.stack([one, other]), *rows)
    crowd = fit_weights(np.stack([one, one, one, one, other]), *rows)
    np.testing.assert_allclose(crowd[:4], crowd[0], rtol=1e-3)
    assert crowd[:4].sum() == pytest.approx(pair[0], rel=0.2)
    assert crowd[4] == pytest.approx(pair[1], rel=0.35)
    loss = nll(rows[0], pool(np.stack([one, one, one, one, other]), crowd))
    assert loss <= nll(rows[0], one)
