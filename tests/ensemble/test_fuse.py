"""Fusion: weights against other minimisers, honesty of cross-fitting, and made-up experts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from embedder.errors import UserError
from embedder.metrics import nll, summarise
from embedder.store import Store
from ensemble import fuse
from ensemble.calibrate import apply_temperature, fit_temperature, log_softmax
from ensemble.experts import Evidence, gather
from ensemble.fuse import (
    FUSED,
    WEIGHT_SD,
    Pieces,
    all_log_probabilities,
    apply_fusion,
    cross_fitted,
    fit_experts,
    fit_fusion,
    fit_weights,
    pool,
    predict_songs,
)
from ensemble.fusion import Fusion
from ensemble.knn import NeighbourIndex, Votes, build_index, neighbour_votes
from ensemble.pieces import in_pieces

Maker = Callable[..., Store]
MEMBERS = {"good": 1.0, "fair": 0.6, "noise": 0.0}


def stores_of(make_store: Maker, split: str) -> list[Store]:
    return [
        make_store(member, split, quality=quality, head=member != "fair")
        for member, quality in MEMBERS.items()
    ]


def indexes_of(make_store: Maker) -> dict[str, NeighbourIndex]:
    return {store.member: build_index(store) for store in stores_of(make_store, "train")}


def evidence_of(make_store: Maker, split: str = "validation") -> Evidence:
    return gather(stores_of(make_store, split), indexes_of(make_store), "probability", Votes().k)


def pieces_of(make_store: Maker, split: str = "validation") -> Pieces:
    parts, songs = in_pieces(stores_of(make_store, split))
    evidence = gather(parts, indexes_of(make_store), "probability", Votes().k)
    return Pieces(evidence.scores(Votes()), songs)


def fitted_elsewhere(evidence: Evidence, pieces: Pieces, seed: int = 0) -> dict[str, np.ndarray]:
    return cross_fitted(evidence.scores(Votes()), evidence.labels, evidence.albums, pieces, seed)


def made_up_fusion(**changes: object) -> Fusion:
    fusion = Fusion(
        singers=("a", "b", "c"),
        aggregate="mean",
        temperatures={"m/head": 2.0, "m/knn": 0.5, "n/knn": 1.0},
        weights={"m/head": 0.6, "m/knn": 0.2, "n/knn": 0.4},
        votes=Votes(5, 0.1),
        made_from={"m": "1", "n": "2"},
    )
    return dataclasses.replace(fusion, **changes)  # type: ignore[arg-type]


def test_the_pool_is_the_normalised_weighted_product() -> None:
    rng = np.random.default_rng(0)
    logs = log_softmax(rng.normal(size=(3 * 7, 4))).reshape(3, 7, 4)
    weights = np.array([0.3, 0.0, 1.2])
    product = np.exp(logs[0]) ** 0.3 * np.exp(logs[2]) ** 1.2
    slow = np.log(product / product.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(pool(logs, weights), slow, rtol=1e-10)


def test_applying_a_fusion_is_temperatures_then_the_pool() -> None:
    rng = np.random.default_rng(1)
    fusion = made_up_fusion()
    scores = {name: rng.normal(size=(5, 3)) for name in fusion.experts}
    parts = [apply_temperature(scores[n], fusion.temperatures[n]) for n in fusion.experts]
    expected = log_softmax(0.6 * parts[0] + 0.2 * parts[1] + 0.4 * parts[2])
    np.testing.assert_allclose(apply_fusion(fusion, scores), expected, rtol=1e-12)
    everything = all_log_probabilities(fusion, scores)
    assert list(everything) == ["m/head", "m/knn", "n/knn", FUSED]
    for name, part in zip(fusion.experts, parts, strict=True):
        np.testing.assert_array_equal(everything[name], part)


def test_the_weights_of_a_missing_expert_go_to_the_others_in_proportion() -> None:
    rng = np.random.default_rng(2)
    fusion = made_up_fusion()
    scores = {name: rng.normal(size=(5, 3)) for name in ("n/knn", "m/knn")}
    parts = {name: apply_temperature(s, fusion.temperatures[name]) for name, s in scores.items()}
    expected = log_softmax(0.4 * parts["m/knn"] + 0.8 * parts["n/knn"])  # 1.2 in total, 1 to 2
    np.testing.assert_allclose(apply_fusion(fusion, scores), expected, rtol=1e-12)

    without = made_up_fusion(weights={"m/head": 1.2, "m/knn": 0.0, "n/knn": 0.0})
    equal = log_softmax(0.6 * parts["m/knn"] + 0.6 * parts["n/knn"])
    np.testing.assert_allclose(apply_fusion(without, scores), equal, rtol=1e-12)


def test_unknown_experts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown experts \['x/head'\]; this fusion has m/head"):
        apply_fusion(made_up_fusion(), {"x/head": np.zeros((1, 3))})
    with pytest.raises(ValueError, match="unknown experts"):
        apply_fusion(made_up_fusion(), {})


def weight_objective(
    logs: np.ndarray, labels: np.ndarray, shares: np.ndarray
) -> Callable[[np.ndarray], float]:
    def objective(weights: np.ndarray) -> float:
        pull = ((weights - 1 / len(logs)) ** 2).sum() / (2 * WEIGHT_SD**2)
        fused = pool(logs, weights)
        loss = -sum(s * row[label] for s, row, label in zip(shares, fused, labels, strict=True))
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
    np.testing.assert_allclose(same, few, atol=1e-4)  # many pieces of one song are one song
    np.testing.assert_allclose(few, [0.5, 0.5], atol=0.1)
    assert few[0] > few[1]
    assert many[0] > 1.5
    assert many[1] < 0.05


def made_up_experts(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, Pieces]:
    """Whole songs are all right; of their four pieces "deaf" knows nothing and "sharp" much."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(6, size=60)
    songs = np.repeat(np.arange(60), 4)
    truth, parts = np.eye(6)[labels], np.eye(6)[labels[songs]]
    sure = {name: 9 * truth + rng.normal(size=(60, 6)) for name in ("deaf", "sharp")}
    noise = {name: rng.normal(size=(240, 6)) for name in sure}
    return sure, labels, Pieces({"deaf": noise["deaf"], "sharp": noise["sharp"] + 3 * parts}, songs)


def test_pieces_tell_apart_experts_that_know_all_whole_songs() -> None:
    scores, labels, pieces = made_up_experts(0)
    temperatures, weights = fit_experts(scores, labels, pieces)
    counted = {name: weights[name] / temperatures[name] for name in weights}
    assert counted["sharp"] > 5 * counted["deaf"]
    # Up to one factor for all, a logit counts among songs what it counts among pieces.
    there, shares = labels[pieces.songs], np.full(240, 0.25)
    softer = {n: fit_temperature(part, there, shares) for n, part in pieces.scores.items()}
    logs = np.stack([apply_temperature(pieces.scores[name], t) for name, t in softer.items()])
    slow = fit_weights(logs, there, shares) / np.array(list(softer.values()))
    ratio = np.array([counted["deaf"], counted["sharp"]]) / slow
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-6)
    fused = pool(
        np.stack([apply_temperature(scores[n], t) for n, t in temperatures.items()]),
        np.array(list(weights.values())),
    )
    assert fit_temperature(fused, labels) == pytest.approx(1, abs=0.1)  # the songs are calibrated


def test_experts_of_which_half_are_noise_fuse_no_worse_than_the_best(make_store: Maker) -> None:
    evidence = evidence_of(make_store)
    scores = fitted_elsewhere(evidence, pieces_of(make_store))
    losses = {name: nll(evidence.labels, logs) for name, logs in scores.items()}
    assert list(losses) == ["good/head", "good/knn", "fair/knn", "noise/head", "noise/knn", FUSED]
    best = min(loss for name, loss in losses.items() if name != FUSED)
    assert losses["noise/head"] > 0.95 * np.log(8)  # the noise is noise
    assert best < 0.6 * np.log(8)  # and the best is not
    assert losses[FUSED] <= best + 0.01


def test_the_noise_gets_little_weight_and_the_test_split_agrees(make_store: Maker) -> None:
    fusion, _, _ = fit_fusion(stores_of(make_store, "train"), stores_of(make_store, "validation"))
    assert min(fusion.weights.values()) >= 0
    test = predict_songs(fusion, stores_of(make_store, "test"), indexes_of(make_store))
    labels = stores_of(make_store, "test")[0].labels
    best = min(nll(labels, logs) for name, logs in test.items() if name != FUSED)
    assert nll(labels, test[FUSED]) <= best + 0.02
    said = {name: fusion.weights[name] * test[name].std() for name in fusion.experts}
    assert said["good/head"] > 10 * max(said["noise/head"], said["noise/knn"])
    reported = fusion.results[-1].metrics.nll
    assert reported.low - 0.1 < nll(labels, test[FUSED]) < reported.high + 0.1


def test_a_single_expert_fuses_to_about_itself(make_store: Maker) -> None:
    train, validation = (make_store("good", split, head=False) for split in ("train", "validation"))
    fusion, _, _ = fit_fusion([train], [validation])
    assert fusion.experts == ("good/knn",)
    assert fusion.weights["good/knn"] == pytest.approx(1, abs=0.15)
    one, fused = (row.metrics for row in fusion.results)
    assert fused.top_1 == one.top_1
    assert fused.nll.value == pytest.approx(one.nll.value, abs=0.02)


def test_each_fold_is_fitted_on_other_albums_only(
    make_store: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = evidence_of(make_store)
    raw = evidence.scores(Votes())
    album_of = {
        row.tobytes(): album for row, album in zip(raw["good/head"], evidence.albums, strict=True)
    }
    pieces, real, fitted = pieces_of(make_store), fuse.fit_experts, []
    song_of = {
        row.tobytes(): song
        for row, song in zip(pieces.scores["good/head"], pieces.songs, strict=True)
    }

    def spy(scores: dict[str, np.ndarray], labels: np.ndarray, parts: Pieces) -> object:
        albums = [album_of[row.tobytes()] for row in scores["good/head"]]
        fitted.append(set(albums))
        of_parts = [song_of[row.tobytes()] for row in parts.scores["good/head"]]
        assert [evidence.albums[song] for song in of_parts] == [albums[s] for s in parts.songs]
        return real(scores, labels, parts)

    monkeypatch.setattr(fuse, "fit_experts", spy)
    scores = fitted_elsewhere(evidence, pieces)
    everything = set(evidence.albums)
    left_out = [everything - albums for albums in fitted]
    assert len(left_out) == 5
    assert sorted(album for fold in left_out for album in fold) == sorted(everything)
    # Changing a fold's own labels changes nothing about its own scores.
    songs = [song for song, album in enumerate(evidence.albums) if album in left_out[0]]
    labels = evidence.labels.copy()
    labels[songs] = (labels[songs] + 1) % 8
    changed = cross_fitted(raw, labels, evidence.albums, pieces)
    for name, logs in changed.items():
        np.testing.assert_array_equal(logs[songs], scores[name][songs])
    assert not np.array_equal(changed[FUSED], scores[FUSED])


def test_results_are_cross_fitted_and_the_fused_row_is_last(make_store: Maker) -> None:
    stores = {split: stores_of(make_store, split) for split in ("train", "validation")}
    fusion, indexes, reported = fit_fusion(stores["train"], stores["validation"], seed=3)
    assert [row.expert for row in fusion.results] == [*fusion.experts, FUSED]
    evidence = evidence_of(make_store)
    scores = fitted_elsewhere(evidence, pieces_of(make_store), seed=3)
    for name, logs in scores.items():
        np.testing.assert_array_equal(reported[name], logs)
    assert {member: index.song_ids for member, index in indexes.items()} == {
        store.member: store.song_ids for store in stores["train"]
    }
    for row in fusion.results:
        assert (row.split, row.level, row.cross_fitted) == ("validation", "song", True)
        assert row.metrics == summarise(evidence.labels, scores[row.expert], seed=3)
        assert row.metrics.songs == 96


def test_fitting_repeats_and_the_order_of_the_songs_does_not_matter(make_store: Maker) -> None:
    evidence, pieces = evidence_of(make_store), pieces_of(make_store)
    order = np.random.default_rng(0).permutation(len(evidence.labels))
    one, again = (fitted_elsewhere(evidence, pieces, seed=1) for _ in range(2))
    moved = np.argsort(order)[pieces.songs]
    rows = np.argsort(moved, kind="stable")
    there = Pieces({name: part[rows] for name, part in pieces.scores.items()}, moved[rows])
    turned = fitted_elsewhere(evidence.take(order), there, seed=1)
    other = fitted_elsewhere(evidence, pieces, seed=2)
    assert not np.array_equal(one[FUSED], other[FUSED])  # the seed draws other folds
    for name, logs in one.items():
        np.testing.assert_array_equal(logs, again[name])
        np.testing.assert_allclose(turned[name], logs[order], atol=1e-4)


def test_two_albums_make_two_folds_and_one_is_too_few(make_store: Maker) -> None:
    evidence = evidence_of(make_store)
    songs = np.flatnonzero(np.isin(evidence.albums, evidence.albums[:6:3]))
    two, pieces = evidence.take(songs), pieces_of(make_store).of(songs)
    assert np.isfinite(fitted_elsewhere(two, pieces)[FUSED]).all()
    with pytest.raises(UserError, match="come from 1 album; fusion needs two or more"):
        fitted_elsewhere(two.take(np.arange(3)), pieces.of(np.arange(3)))


def test_a_song_is_predicted_alike_in_any_company(make_store: Maker) -> None:
    fusion, _, _ = fit_fusion(stores_of(make_store, "train"), stores_of(make_store, "validation"))
    evidence = evidence_of(make_store, "test")
    together = all_log_probabilities(fusion, evidence.scores(fusion.votes))[FUSED]
    for song in (0, 17, 95):
        alone = evidence.take(np.array([song]))
        scores = all_log_probabilities(fusion, alone.scores(fusion.votes))[FUSED]
        np.testing.assert_allclose(scores[0], together[song], rtol=1e-12)


def test_a_store_of_another_checkpoint_or_other_singers_is_refused(make_store: Maker) -> None:
    fusion, _, _ = fit_fusion(stores_of(make_store, "train"), stores_of(make_store, "validation"))
    test = make_store("good", "test", made_from={"checkpoint": "new"})
    with pytest.raises(UserError, match="fitted on checkpoint good-1 of member good, which is now"):
        predict_songs(fusion, [test], indexes_of(make_store))
    with pytest.raises(UserError, match="member late is not in the fusion"):
        predict_songs(fusion, [make_store("late", "test")], indexes_of(make_store))
    other = dataclasses.replace(fusion, singers=fusion.singers[::-1])
    with pytest.raises(UserError, match="the fusion knows other singers than the stores"):
        predict_songs(other, stores_of(make_store, "test"), indexes_of(make_store))


def test_the_votes_of_the_fusion_are_those_that_are_applied(make_store: Maker) -> None:
    stores = {split: [make_store("good", split, head=False)] for split in ("train", "validation")}
    fusion, _, _ = fit_fusion(stores["train"], stores["validation"], votes=Votes(3, 0.5))
    index = build_index(stores["train"][0])
    test = make_store("good", "test", head=False)
    near = index.search(test.embeddings, 3)
    logits = neighbour_votes(near.similarities, near.labels, 8, 3, 0.5)
    got = predict_songs(fusion, [test], {"good": index})["good/knn"]
    np.testing.assert_array_equal(got, apply_temperature(logits, fusion.temperatures["good/knn"]))


def test_applying_needs_neither_torch_nor_scipy_nor_scikit_learn() -> None:
    code = (
        "import sys, ensemble.fuse, ensemble.predictions, ensemble.knn, embedder.metrics\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'plotly', 'openTSNE', 'lightning'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    root = Path(fuse.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
