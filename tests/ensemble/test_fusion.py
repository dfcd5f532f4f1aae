"""fusion.json: there and back, and refused when it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedder.artifacts import read_json, write_json
from embedder.errors import UserError
from embedder.listening import Listening
from embedder.store import Store
from ensemble.fuse import fit_fusion
from ensemble.fusion import (
    FUSION_FORMAT,
    Fusion,
    check_detector,
    check_fusion,
    read_fusion,
    write_fusion,
)

Maker = Callable[..., Store]


@pytest.fixture
def fusion(make_store: Maker) -> Fusion:
    stores = {split: [make_store("m", split)] for split in ("train", "validation")}
    heard = Listening(4.0, 0.5, 3, "d1")
    return fit_fusion(stores["train"], stores["validation"], aggregate="vote", listening=heard)[0]


def test_a_fusion_comes_back_equal_with_its_results(fusion: Fusion, tmp_path: Path) -> None:
    path = tmp_path / "fusion" / "fusion.json"
    write_fusion(path, fusion)
    assert read_fusion(path) == fusion
    assert fusion.aggregate == "vote"
    assert read_fusion(path).listening == Listening(4.0, 0.5, 3, "d1")
    assert fusion.members == ("m",)
    assert fusion.experts == ("m/head", "m/knn")
    assert read_json(path)["format"] == FUSION_FORMAT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": FUSION_FORMAT + 1}, f"reads format {FUSION_FORMAT}"),
        ({"votes": {"k": 0, "tau": 0.1}}, "not a readable fusion"),
        ({"votes": {"neighbours": 3}}, "not a readable fusion"),
        ({"listening": {"segment": 3}}, "not a readable fusion"),
        ({"results": [{"expert": "m/head"}]}, "not a readable fusion"),
        ({"weights": {"m/head": 1.0}}, "other experts in weights than in temperatures"),
    ],
)
def test_a_fusion_that_does_not_fit_is_refused(
    fusion: Fusion, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "fusion.json"
    write_fusion(path, fusion)
    write_json(path, read_json(path) | changes)
    with pytest.raises(
        UserError, match=rf"fusion\.json.*{message}.*run again: python app\.py fuse"
    ):
        read_fusion(path)


def test_a_missing_fusion_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is missing; run again: python app\.py fuse"):
        read_fusion(tmp_path / "fusion.json")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="not a readable fusion"):
        read_fusion(tmp_path / "list.json")


def test_members_must_be_those_that_were_fitted(fusion: Fusion) -> None:
    check_fusion(fusion, {"m": "m-1"})
    check_fusion(fusion, {})
    with pytest.raises(UserError, match="checkpoint m-1 of member m, which is now x"):
        check_fusion(fusion, {"m": "x"})
    with pytest.raises(UserError, match="member n is not in the fusion"):
        check_fusion(fusion, {"n": "m-1"})


def test_the_detector_must_be_the_one_that_was_fitted(fusion: Fusion) -> None:
    check_detector(fusion, "d1")
    with pytest.raises(UserError, match=r"voice detector d1, which is now d2; run again: .* fuse"):
        check_detector(fusion, "d2")
    with pytest.raises(UserError, match="voice detector d1, which is now none"):
        check_detector(fusion, "")
    bare = replace(fusion, listening=Listening())
    check_detector(bare, "")
    with pytest.raises(UserError, match="voice detector none, which is now d1"):
        check_detector(bare, "d1")
