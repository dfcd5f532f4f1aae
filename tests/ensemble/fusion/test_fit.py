"""Fitting a fusion: what is reported of it, recomputed; and made-up members of which one is noise.

Weights and methods are tested in test_methods.py, cross-fitting in test_crossfit.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import t

from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.store import Store
from embedder.metrics import brier, ece, nll, score, summarise
from embedder.statistics import Estimate
from ensemble.fusion import fit
from ensemble.fusion.cross_validation import DEFAULT, CrossFit, ValidationData, cross_fit
from ensemble.fusion.experts import FUSED, candidates, gather
from ensemble.fusion.fit import AUTO, best_expert, check_choices, fit_fusion, fit_probes, in_chunks
from ensemble.fusion.fitted import Fusion
from ensemble.fusion.fusers import FUSERS
from ensemble.fusion.knn import SCORE_NORMS
from ensemble.fusion.probe import Probe
from ensemble.index.members import MemberIndex, index_of
from ensemble.scoring import Scores, score_songs

Maker = Callable[..., Store]
MEMBERS = {"good": 1.0, "fair": 0.6, "noise": 0.0}
METHODS = tuple(FUSERS)


class Made(NamedTuple):
    """A fusion, and what it was fitted on."""

    indexes: dict[str, MemberIndex]
    stores: list[Store]  # of validation songs
    fusion: Fusion
    scores: Scores
    labels: np.ndarray


def stores_of(make_store: Maker, split: str, **size: int) -> list[Store]:
    return [
        make_store(member, split, quality=quality, head=member != "fair", **size)
        for member, quality in MEMBERS.items()
    ]


def fitted(make_store: Maker, method: str = AUTO, **size: int) -> Made:
    indexes = {store.member: index_of(store) for store in stores_of(make_store, "train", **size)}
    stores = stores_of(make_store, "validation", **size)
    fusion, scores = fit_fusion(indexes, stores, seed=3, method=method)
    return Made(indexes, stores, fusion, scores, stores[0].labels)


@pytest.fixture(scope="module")
def made(make_store: Maker) -> Made:
    return fitted(make_store, singers=5, albums=3, songs=2)


@pytest.fixture(scope="module")
def larger(make_store: Maker) -> Made:
    """Of 96 songs, by the default method alone; singers are not left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "leave_singers_out", lambda *_: {})
        return fitted(make_store, DEFAULT)


def validation_of(
    made: Made, aggregate: str = "probability", score_norm: str = "none"
) -> ValidationData:
    """What `fit_fusion` fits on, from its parts."""
    probes = fit_probes(made.indexes)
    parts, owners = in_chunks(made.stores)
    return ValidationData(
        gather(made.stores, made.indexes, aggregate, probes, score_norm),
        gather(parts, made.indexes, aggregate, probes, score_norm),
        owners,
        score_norm,
    )


@pytest.fixture(scope="module")
def found(made: Made) -> CrossFit:
    return cross_fit(validation_of(made), METHODS, seed=3)


@pytest.fixture
def _no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Singers are not left out, which takes longer than all the rest."""
    monkeypatch.setattr(fit, "leave_singers_out", lambda *_: {})


def test_results_are_cross_fitted_and_the_fused_row_is_last(made: Made, found: CrossFit) -> None:
    assert [row.expert for row in made.fusion.report.results] == [*made.fusion.experts, FUSED]
    expected = {**found.experts, FUSED: found.fused}
    assert list(made.scores) == list(expected)
    for name, logs in expected.items():
        np.testing.assert_array_equal(made.scores[name], logs)
    for row in made.fusion.report.results:
        assert (row.split, row.level, row.cross_fitted) == ("validation", "song", True)
        assert row.metrics == summarise(made.labels, expected[row.expert], 3, made.stores[0].albums)
        assert row.metrics.top_1.groups == 15  # albums
        assert row.metrics.songs == 30


def test_what_is_applied_was_fitted_on_all_songs(made: Made, found: CrossFit) -> None:
    fusion = made.fusion
    assert fusion.temperatures == found.fitted.temperatures
    assert fusion.votes == found.fitted.votes
    assert fusion.method == found.method
    assert fusion.weights == found.fitted.fusers[found.method].weights
    assert fusion.made_from == {member: f"{member}-1" for member in MEMBERS}
    assert fusion.singers == made.stores[0].singers
    assert list(fusion.probes) == list(MEMBERS)
    assert fusion.unknown is not None
    assert fusion.gate is not None


def paired(first: np.ndarray, second: np.ndarray, albums: Sequence[str]) -> Estimate:
    """Mean difference of two values of each song, by the albums' own sums (all of one size)."""
    sums = np.bincount(np.unique(albums, return_inverse=True)[1], first - second)
    error = t.ppf(0.975, len(sums) - 1) * sums.std(ddof=1) * len(sums) ** 0.5 / len(first)
    value = float((first - second).mean())
    return Estimate(value, value - error, value + error)


def test_every_method_is_compared_with_the_best_single_expert(made: Made, found: CrossFit) -> None:
    rows, single = np.arange(30), found.experts[made.fusion.report.best_expert]
    albums = made.stores[0].albums
    right = {name: nll(made.labels, logs) for name, logs in found.methods.items()}
    points = [
        [
            float(np.argmax(logs[row]) == made.labels[row])
            + 0.5 * float(made.labels[row] in np.argsort(-logs[row])[:3])
            for row in rows
        ]
        for logs in (single, *found.methods.values())
    ]
    assert [row.method for row in made.fusion.report.methods] == list(METHODS)
    for number, row in enumerate(made.fusion.report.methods):
        logs = found.methods[row.method]
        assert row.metrics == summarise(made.labels, logs, 3, albums)
        assert row.metrics.nll.value == right[row.method]
        gain = paired(np.array(points[1 + number]), np.array(points[0]), albums)
        lower = paired(logs[rows, made.labels], single[rows, made.labels], albums)
        for got, slow in ((row.score_gain, gain), (row.nll_gain, lower)):
            assert got.value == pytest.approx(slow.value)
            if slow.high > slow.low:  # where all albums differ alike, the interval is another
                assert (got.low, got.high) == pytest.approx((slow.low, slow.high), abs=0.03)


@pytest.mark.usefixtures("_no_strangers")
def test_nothing_printed_of_a_song_was_fitted_on_it_or_its_attenuated_copy(made: Made) -> None:
    """Wrong labels and noise in an album's own rows leave what is said of the album as it was."""
    rng = np.random.default_rng(0)
    held = np.array([album == made.stores[0].albums[7] for album in made.stores[0].albums])

    def attenuated(poisoned: bool) -> list[Store]:
        """Copies of the songs; of the album's, pure noise if poisoned."""
        found = []
        for store in stores:
            vectors = store.segment_embeddings + np.float32(0.1)
            logits = store.segment_logits
            if poisoned:
                rows = held[store.segment_song]
                vectors = np.where(
                    rows[:, None], rng.normal(size=vectors.shape).astype(np.float32), vectors
                )
                if logits is not None:
                    noise = 9 * rng.normal(size=logits.shape).astype(np.float32)
                    logits = np.where(rows[:, None], noise, logits)
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            found.append(
                replace(
                    store, segment_embeddings=unit.astype(np.float32), segment_logits=logits,
                    labels=labels if poisoned else store.labels,
                )
            )  # fmt: skip
        return found

    labels = np.where(held, (made.labels + 1) % 5, made.labels)
    stores = made.stores[:2]
    wrong = [replace(store, labels=labels) for store in stores]
    clean, scores = fit_fusion(made.indexes, stores, seed=3, attenuated=attenuated(False))
    poisoned, after = fit_fusion(made.indexes, wrong, seed=3, attenuated=attenuated(True))
    assert poisoned.temperatures != clean.temperatures  # it did reach what is fitted on all
    for name, logs in scores.items():
        np.testing.assert_array_equal(after[name][held], logs[held])


def test_calibration_is_shown_before_and_after(made: Made, found: CrossFit) -> None:
    assert [row.expert for row in made.fusion.report.calibration] == list(made.fusion.experts)
    for row in made.fusion.report.calibration:
        plain, after = found.plain[row.expert], found.experts[row.expert]
        for metric, pair in ((nll, row.nll), (brier, row.brier), (ece, row.ece)):
            assert pair == (metric(made.labels, plain), metric(made.labels, after))
    heads = {
        row.expert: row for row in made.fusion.report.calibration if row.expert.endswith("/head")
    }
    assert heads["noise/head"].nll[0] > heads["noise/head"].nll[1] + 0.5  # it is sure of nothing


def test_the_best_expert_has_the_highest_score_and_of_equal_ones_the_lowest_loss(
    made: Made,
) -> None:
    ranks = sorted(
        made.fusion.experts,
        key=lambda name: (
            -score(made.labels, made.scores[name]),
            nll(made.labels, made.scores[name]),
        ),
    )
    assert made.fusion.report.best_expert == ranks[0]
    labels = np.array([0, 1])
    tied = {"loud": np.log([[0.6, 0.4], [0.4, 0.6]]), "sure": np.log([[0.9, 0.1], [0.1, 0.9]])}
    worse = {"wrong": np.log([[0.01, 0.99], [0.01, 0.99]])}
    assert best_expert(labels, tied | worse) == "sure"


def test_the_fused_answer_is_no_worse_than_the_best_expert(larger: Made) -> None:
    losses = {name: nll(larger.labels, logs) for name, logs in larger.scores.items()}
    noise = [loss for name, loss in losses.items() if name.startswith("noise/")]
    assert min(noise) > 0.95 * np.log(8)  # the noise is noise
    assert losses.pop(FUSED) <= min(losses.values())
    points = {name: score(larger.labels, logs) for name, logs in larger.scores.items()}
    assert points.pop(FUSED) >= max(points.values())


def test_the_noise_gets_little_say_and_the_test_split_agrees(
    larger: Made, make_store: Maker
) -> None:
    test = stores_of(make_store, "test")
    scores, labels = score_songs(larger.fusion, test, larger.indexes).scores, test[0].labels
    best = min(nll(labels, logs) for name, logs in scores.items() if name != FUSED)
    assert nll(labels, scores[FUSED]) <= best
    reported = larger.fusion.report.results[-1].metrics.nll
    assert reported.low - 0.1 < nll(labels, scores[FUSED]) < reported.high + 0.1
    said = {name: weight * scores[name].std() for name, weight in larger.fusion.weights.items()}
    loudest = max(value for name, value in said.items() if name.startswith("noise/"))
    assert max(said.values()) > 8 * loudest


@pytest.mark.usefixtures("_no_strangers")
@pytest.mark.parametrize("method", ["best_single", "vote"])
def test_a_method_that_is_asked_for_is_taken(method: str, made: Made, found: CrossFit) -> None:
    fusion, scores = fit_fusion(made.indexes, made.stores, seed=3, method=method)
    assert fusion.method == method
    assert [row.method for row in fusion.report.methods] == [method]
    np.testing.assert_array_equal(scores[FUSED], found.methods[method])
    assert (fusion.unknown, fusion.gate) == (None, None)  # where no singer could be left out


@pytest.mark.usefixtures("_no_strangers")
def test_what_is_asked_for_is_kept_and_reaches_the_experts(made: Made) -> None:
    heard = InferenceConfig(4.0, 0.5, 3, "d1")
    fusion, scores = fit_fusion(
        made.indexes,
        made.stores,
        "vote",
        method="log_linear",
        score_norm="as_norm",
        listening=heard,
    )
    assert (fusion.aggregate, fusion.score_norm, fusion.listening) == ("vote", "as_norm", heard)
    expected = cross_fit(validation_of(made, "vote", "as_norm"), ("log_linear",))
    assert fusion.weights == expected.fitted.fusers["log_linear"].weights
    for name in ("good/head", "good/knn_song", "fair/knn_segment"):
        assert fusion.votes[name] in candidates(name, "as_norm")
        np.testing.assert_array_equal(scores[name], expected.experts[name])
        assert not np.allclose(scores[name], made.scores[name])


def test_the_share_of_strangers_that_may_get_a_name_is_the_one_asked_for(made: Made) -> None:
    some = np.flatnonzero(made.labels < 3)
    stores = [store.take(some) for store in made.stores[:1]]
    indexes = {"good": made.indexes["good"]}
    for target in (0.02, 0.3):
        fusion, _ = fit_fusion(indexes, stores, method="mean", target_fpr=target)
        assert fusion.unknown is not None
        assert fusion.unknown.target_fpr == target


@pytest.mark.usefixtures("_no_strangers")
def test_a_single_member_fuses_to_about_its_experts(make_store: Maker) -> None:
    splits = ("train", "validation")
    train, validation = (make_store("good", split, head=False) for split in splits)
    fusion, _ = fit_fusion({"good": index_of(train)}, [validation])
    assert fusion.experts == ("good/knn_song", "good/knn_segment", "good/probe")
    *single, fused = (row.metrics for row in fusion.report.results)
    assert fused.top_1.value >= max(row.top_1.value for row in single) - 0.02
    assert fused.nll.value <= min(row.nll.value for row in single) + 0.02


def test_probes_learn_from_trained_singers_songs_alone(made: Made) -> None:
    index = made.indexes["good"]
    later = replace(index, known=4)  # two were enrolled
    probe = fit_probes({"good": later})["good"]
    rows = np.flatnonzero(index.labels < 4)
    albums = [index.albums[row] for row in rows]
    slow = Probe.fit(index.embeddings[rows], index.labels[rows], albums, 4)
    np.testing.assert_array_equal(probe.weights, slow.weights)
    np.testing.assert_array_equal(probe.bias, slow.bias)
    assert fit_probes({"good": replace(index, known=1)}) == {}


def test_names_that_do_not_exist_are_refused_with_those_that_do(made: Made) -> None:
    for method in ("auto", *METHODS):
        for score_norm in SCORE_NORMS:
            check_choices(method, score_norm)
    with pytest.raises(
        UserError, match=r"^--method median .* is not legal; it must be auto \| best_"
    ):
        fit_fusion(made.indexes, made.stores, method="median")
    with pytest.raises(UserError, match=r"^--score_norm t is not legal; it must be none \| as_nor"):
        fit_fusion(made.indexes, made.stores, score_norm="t")


def test_one_album_is_too_few(made: Made) -> None:
    one = [store.take(np.arange(2)) for store in made.stores]
    with pytest.raises(UserError, match="come from 1 album; fusion needs two or more"):
        fit_fusion(made.indexes, one)


def test_applying_needs_neither_torch_nor_scipy_nor_scikit_learn() -> None:
    code = (
        "import sys, ensemble.fusion.fit, ensemble.scoring, ensemble.predictions\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'plotly', 'openTSNE', 'lightning'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    root = Path(fit.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
