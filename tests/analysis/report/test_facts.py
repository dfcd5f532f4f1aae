"""What is said of how a run was made: only what is true of it, and commands that repeat it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.report.deck import listed
from analysis.report.facts import Facts, MemberFacts, Quality, fuse_command, prepare_command
from analysis.report.system_slides import novelties, training_slide
from embedder.errors import Command
from embedder.inference.config import InferenceConfig
from embedder.presets import PRESETS
from embedder.settings import build_config, member_name, train_command
from embedder.statistics import Estimate
from ensemble.fusion.fitted import CalibrationRow, Fusion, FusionReport
from ensemble.fusion.fusers import Mean, Stack

EXPERTS = {"a/head": 1.0, "a/probe": 1.0}
FUSION = Fusion(("x",), "mean", EXPERTS, Mean(EXPERTS, 1.0), {}, {"a": "hash"}, {})


def member(name: str = "a", remixed: bool | None = None, **changes: Any) -> MemberFacts:
    return MemberFacts(name, build_config(changes=changes), 1000, remixed)


def texts(facts: Facts, fusion: Fusion | None = None) -> str:
    return "\n".join(novelties(facts, fusion))


def facts(*members: MemberFacts, **more: Any) -> Facts:
    return Facts(tuple(members), None, more.get("detector"), more.get("separator"))


def test_a_plain_member_has_nothing_new() -> None:
    assert texts(facts(member(remixed=False, overlay=0))) == ""
    assert texts(facts(MemberFacts("a"))) == ""


def test_members_with_the_same_input_do_not_differ() -> None:
    assert "different inputs" not in texts(facts(member("a"), member("b")))
    found = texts(facts(member("a"), member("b", stem="vocals")))
    assert "a takes mixtures; b takes vocal stems." in found


@pytest.mark.parametrize(
    ("remixed", "said"),
    [(True, "75% of the mixtures"), (False, "parts of other songs"), (None, "")],
)
def test_remixing_is_said_of_members_that_were(remixed: bool | None, said: str) -> None:
    found = texts(facts(member(remixed=remixed)))
    assert found.startswith(f"In training of a, {said}") if said else not found


def test_shares_of_several_members() -> None:
    both = facts(member("a", True, remix=0.5), member("b", True), member("c", True, remix=0))
    assert "In training of a and b, 50% to 75% of the mixtures" in texts(both)


def test_detector_and_separator_have_their_numbers() -> None:
    measured = Quality(Estimate(0.5, 0.25, 0.75), 10)
    weighted = replace(FUSION, listening=InferenceConfig(detector="abc"))
    assert "voice detector" not in texts(facts(member()), FUSION)
    assert texts(facts(member()), weighted).endswith("how much each segment of a song counts.")
    said = texts(facts(member(), detector=measured), weighted)
    assert "right about 50.0% of the frames of 10 validation songs (95% interval 25.0%" in said
    assert "it adds 0.5 dB of SI-SDR" in texts(facts(member(), separator=measured))


def test_experts_and_temperatures_of_a_fusion() -> None:
    found = texts(facts(member()), FUSION)
    assert "in up to 2 ways: its classification head and a linear probe" in found
    assert "none of its singers" not in found
    row = CalibrationRow("a/head", (2.0, 1.0), (0, 0), (0, 0))
    calibrated = replace(FUSION, report=FusionReport(calibration=(row,)))
    assert "2.000 before, 1.000 after" in texts(facts(member()), calibrated)
    one = replace(FUSION, temperatures={"a/head": 1.0}, fuser=Mean({"a/head": 1.0}, 1.0))
    assert "ways:" not in texts(facts(member()), one)


def test_training_settings_are_the_members_own() -> None:
    (slide,) = training_slide(facts(member("a", True), member("b", lr=0.01, remix=0, noise=0)))
    (table,) = slide.columns[0].blocks
    assert table.head == ("setting", "a", "b")
    rows = {name: cells for name, *cells in table.rows}
    assert "rate 0.002" in rows["optimiser"][0]
    assert "rate 0.01" in rows["optimiser"][1]
    assert rows["vocals over other backings"] == ["75% of crops", "none"]
    assert "noise 20%" in rows["augmentation"][0]
    assert "noise" not in rows["augmentation"][1]
    assert training_slide(facts(MemberFacts("a"))) == []


def test_lists() -> None:
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def parsed(command: Command) -> tuple[dict[str, str], dict[str, str]]:
    """(options, settings) of a command line."""
    words = shlex.split(str(command))
    assert words[:2] == ["python", "app.py"]
    pairs = list(zip(words[3::2], words[4::2], strict=True))
    options = {name.removeprefix("--"): value for name, value in pairs if name != "--set"}
    return options, dict(value.split("=") for name, value in pairs if name == "--set")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "crnn", "loss": "triplet", "lr": 0.00125, "epochs": 11},
        {"loss": "aam+triplet", "stem": "vocals", "seed": 5, "segment_s": 4.5, "remix": 0.1},
    ],
)
def test_a_member_is_trained_with_its_own_settings(preset: str, changes: dict[str, Any]) -> None:
    config = build_config(preset, changes=changes)
    options, settings = parsed(train_command("mine", config))
    assert options.pop("name") == "mine"
    again = build_config(options.pop("preset", "laptop"), changes={**settings, **options})
    assert again == config


def test_the_usual_name_is_not_given() -> None:
    config = build_config()
    assert "--name" not in str(train_command(member_name(config), config))
    assert str(train_command("a b", None)).endswith("--name 'a b'")


def test_prepare_names_folders_without_their_place() -> None:
    known = {
        "data_dir": "/home/ada/my songs", "split": "album", "seed": 3, "stems_dir": "/x/stems",
        "lists_dir": None, "keep_duplicates": True, "keep_duets": True,
    }  # fmt: skip
    assert str(prepare_command(known)) == (
        "python app.py prepare --data_dir 'my songs' --split album --stems_dir stems "
        "--keep_duplicates --keep_duets --seed 3"
    )
    assert str(prepare_command(None)) == "python app.py prepare --data_dir DATA"


def test_fuse() -> None:
    experts, made = {"a/head": 1.0, "b/head": 1.0}, {"a": "x", "b": "y"}
    plain = Fusion(("s",), "probability", experts, Mean(experts, 1.0), {}, made, {})
    assert str(fuse_command(plain)) == "python app.py fuse --members a,b --method mean"
    other = Fusion(
        ("s",), "vote", experts, Stack(experts, 1.0, np.zeros((1, 3))), {}, made, {}, "as_norm",
        InferenceConfig(4.0, 1.5, 7),
    )  # fmt: skip
    options, _ = parsed(fuse_command(other))
    assert options == {
        "members": "a,b", "method": "stack", "aggregate": "vote", "score_norm": "as_norm",
        "segment_s": "4", "hop_s": "1.5", "tta": "7",
    }  # fmt: skip
