"""fusion.json: there and back, and refused when it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.artifact import read_json, write_json
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.store import Store
from embedder.metrics import CalibrationError, Summary
from embedder.statistics import Estimate
from ensemble.enrollment_gate import Gate
from ensemble.fusion.fit import fit_fusion
from ensemble.fusion.fitted import (
    FUSION_FORMAT,
    CalibrationRow,
    Fusion,
    FusionReport,
    MethodRow,
    ResultRow,
    check_detector,
    check_fusion,
    read_fusion,
    write_fusion,
)
from ensemble.fusion.fusers import FUSERS, Mean, Stack
from ensemble.fusion.knn import Votes
from ensemble.fusion.probe import Probe
from ensemble.index.members import index_of
from ensemble.open_set import OpenSetThreshold

Maker = Callable[..., Store]


def estimate(rng: np.random.Generator) -> Estimate:
    return Estimate(*rng.normal(size=3).tolist())


def summary(rng: np.random.Generator) -> Summary:
    numbers = {f.name: estimate(rng) for f in fields(Summary) if f.name not in ("songs", "ece")}
    return Summary(songs=7, ece=CalibrationError(*rng.random(2).tolist()), **numbers)


@pytest.fixture
def fusion() -> Fusion:
    """Everything that a fusion may hold, of numbers that no rounding would keep."""
    rng = np.random.default_rng(0)
    experts = ("m/head", "m/knn_song", "n/probe")
    method = MethodRow("stack", summary(rng), estimate(rng), estimate(rng))
    return Fusion(
        singers=("Ana", "Зоя", "陳"),
        aggregate="vote",
        temperatures=dict(zip(experts, rng.random(3).tolist(), strict=True)),
        fuser=Stack(
            dict(zip(experts, rng.random(3).tolist(), strict=True)),
            temperature=float(rng.random()),
            coefficients=rng.normal(size=(3, 10)),
        ),
        votes={"m/knn_song": Votes(20, 0.1), "m/head": Votes()},
        made_from={"m": "m-1", "n": "n-1"},
        probes={name: Probe(rng.normal(size=(3, 5)), rng.normal(size=3)) for name in ("m", "n")},
        score_norm="as_norm",
        listening=InferenceConfig(4.0, 0.5, 3, "d1"),
        report=FusionReport(
            results=(ResultRow("m/head", "validation", "song", True, summary(rng)),),
            methods=(method,),
            calibration=(CalibrationRow("m/head", (0.1, 0.2), (1 / 3, 0.4), (0.5, 2 / 3)),),
            best_expert="n/probe",
            choices=("stack", "vote"),
        ),
        id="0123",
        unknown=OpenSetThreshold(
            measure="both",
            scales={"energy": {"m": (1 / 3, 2 / 3)}, "distance": {"m": (0.1, 0.2)}},
            singers=3,
            threshold=float(rng.random()),
            target_fpr=0.07,
            songs=9,
            auroc={"confidence": estimate(rng), "distance": estimate(rng)},
            fpr_95=estimate(rng),
            fpr=estimate(rng),
            accuracy=estimate(rng),
            accuracy_before=estimate(rng),
        ),
        gate=Gate(-1.5, float(rng.normal()), {"m": 3.5, "n": float(rng.random())}),
    )


def assert_same(left: Fusion, right: Fusion) -> None:
    for item in fields(Fusion):
        one, other = getattr(left, item.name), getattr(right, item.name)
        if item.name == "fuser":
            assert type(one) is type(other)
            one, other = asdict(one), asdict(other)
            if "coefficients" in one:
                coefficients = one.pop("coefficients"), other.pop("coefficients")
                np.testing.assert_array_equal(*coefficients)
                assert coefficients[0].dtype == coefficients[1].dtype
            assert list(one["weights"]) == list(other["weights"])
        if item.name == "probes":
            for member in one:
                np.testing.assert_array_equal(one[member].weights, other[member].weights)
                np.testing.assert_array_equal(one[member].bias, other[member].bias)
            one, other = list(one), list(other)
        assert one == other, item.name


def test_a_fusion_comes_back_to_the_last_bit(fusion: Fusion, tmp_path: Path) -> None:
    path = tmp_path / "fusion" / "fusion.json"
    write_fusion(path, fusion)
    back = read_fusion(path)
    assert_same(back, fusion)
    assert read_json(path)["format"] == FUSION_FORMAT
    assert back.members == ("m", "n")
    assert back.experts == ("m/head", "m/knn_song", "n/probe")
    assert back.weights == fusion.fuser.weights
    again = tmp_path / "again" / "fusion.json"
    write_fusion(again, back)
    for file in path.parent.iterdir():
        assert (again.parent / file.name).read_bytes() == file.read_bytes()
    (path.parent / "results.json").unlink()  # as in a bundle
    assert_same(read_fusion(path), replace(fusion, report=FusionReport()))


def test_a_bare_fusion_comes_back_too(fusion: Fusion, tmp_path: Path) -> None:
    """No probe, no stack, too few singers for strangers, nothing reported."""
    bare = Fusion(
        singers=fusion.singers,
        aggregate="mean",
        temperatures=fusion.temperatures,
        fuser=Mean(fusion.weights, 1.0),
        votes={},
        made_from=fusion.made_from,
        probes={},
    )
    write_fusion(tmp_path / "fusion.json", bare)
    assert_same(read_fusion(tmp_path / "fusion.json"), bare)


@pytest.mark.parametrize("method", FUSERS)
def test_what_was_fitted_answers_as_before_when_it_is_read(
    method: str, make_store: Maker, tmp_path: Path
) -> None:
    size = {"singers": 3, "albums": 2, "songs": 2}
    train, validation = (make_store("m", split, **size) for split in ("train", "validation"))
    fitted, scores = fit_fusion({"m": index_of(train)}, [validation], method=method)
    write_fusion(tmp_path / "fusion.json", fitted)
    back = read_fusion(tmp_path / "fusion.json")
    assert_same(back, fitted)
    logs = {name: scores[name] for name in fitted.experts}
    answers = [each.fuser.log_probabilities(logs) for each in (back, fitted)]
    np.testing.assert_array_equal(*answers)
    rows = validation.embeddings
    np.testing.assert_array_equal(back.probes["m"].logits(rows), fitted.probes["m"].logits(rows))


def changed(found: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """The same with one value replaced; `place` as in "pooling.weights"; None takes it away."""
    *path, last = place.split(".")
    inner = found
    for name in path:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return found


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("format", 2, f"is a fusion of format 2, this program reads format {FUSION_FORMAT}"),
        ("format", None, "is a fusion of format unknown"),
        ("votes", {"m/head": {"k": 0, "tau": 0.1}}, "is not a readable fusion .*k must be 1"),
        ("votes", {"m/head": {"k": "many"}}, "is not a readable fusion"),
        ("listening", {"tta": "often"}, "is not a readable fusion"),
        ("unknown", {"threshold": 0.5}, "is not a readable fusion"),
        ("gate", {"slope": 0.5}, "is not a readable fusion"),
        ("pooling", None, "fuses by 'nothing'"),
        ("pooling.temperature", "warm", "is not a readable fusion .*temperature"),
        ("pooling.method", "magic", r"fuses by 'magic', this program by best_single \| vote"),
        ("pooling.weights", {"m/head": 1.0}, "has other experts in weights than in temperatures"),
    ],
)
def test_a_fusion_that_does_not_fit_is_refused(
    fusion: Fusion, tmp_path: Path, place: str, value: Any, message: str
) -> None:
    path = tmp_path / "fusion.json"
    write_fusion(path, fusion)
    write_json(path, changed(read_json(path), place, value))
    with pytest.raises(
        UserError, match=rf"fusion\.json {message}.*; run again: python app\.py fuse$"
    ):
        read_fusion(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("results", [{"expert": "m/head"}]),
        ("methods", [{"method": "mean"}]),
        ("calibration", [{"expert": "m/head", "nll": 1}]),
    ],
)
def test_results_that_are_none_are_refused(
    fusion: Fusion, tmp_path: Path, place: str, value: Any
) -> None:
    write_fusion(tmp_path / "fusion.json", fusion)
    path = tmp_path / "results.json"
    write_json(path, changed(read_json(path), place, value))
    with pytest.raises(UserError, match=r"results\.json is not a readable file of .*run again"):
        read_fusion(tmp_path / "fusion.json")


def test_arrays_of_another_fusion_or_none_are_refused(fusion: Fusion, tmp_path: Path) -> None:
    path, arrays = tmp_path / "fusion.json", tmp_path / "arrays.npz"
    write_fusion(tmp_path / "other" / "fusion.json", replace(fusion, id="other"))
    write_fusion(path, fusion)
    arrays.write_bytes((tmp_path / "other" / "arrays.npz").read_bytes())
    with pytest.raises(UserError, match=r"arrays\.npz belongs to another fusion than .*run again"):
        read_fusion(path)
    arrays.write_bytes(arrays.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"arrays\.npz is not a readable file of a fusion's arr"):
        read_fusion(path)
    arrays.unlink()
    with pytest.raises(UserError, match=r"arrays\.npz is missing; run again"):
        read_fusion(path)


def test_a_missing_or_damaged_fusion_says_what_to_run(fusion: Fusion, tmp_path: Path) -> None:
    path = tmp_path / "fusion.json"
    with pytest.raises(UserError, match=r"is missing; run again: python app\.py fuse"):
        read_fusion(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="not a readable fusion"):
        read_fusion(path)
    write_fusion(path, fusion)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"fusion\.json is not a readable fusion"):
        read_fusion(path)


def test_members_must_be_those_that_were_fitted(fusion: Fusion) -> None:
    check_fusion(fusion, {"m": "m-1", "n": "n-1"})
    check_fusion(fusion, {"n": "n-1"})
    check_fusion(fusion, {})
    with pytest.raises(UserError, match="checkpoint m-1 of member m, which is now x"):
        check_fusion(fusion, {"m": "x"})
    with pytest.raises(UserError, match="member o is not in the fusion"):
        check_fusion(fusion, {"o": "m-1"})


def test_the_detector_must_be_the_one_that_was_fitted(fusion: Fusion) -> None:
    check_detector(fusion, "d1")
    with pytest.raises(UserError, match=r"voice detector d1, which is now d2; run again: .* fuse"):
        check_detector(fusion, "d2")
    with pytest.raises(UserError, match="voice detector d1, which is now none"):
        check_detector(fusion, "")
    bare = replace(fusion, listening=InferenceConfig())
    check_detector(bare, "")
    with pytest.raises(UserError, match="voice detector none, which is now d1"):
        check_detector(bare, "d1")
