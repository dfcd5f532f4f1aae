"""What is said to be new: only what is true of a run, with a number only where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.report.facts import Facts, Measured, MemberFacts
from analysis.report.novelty import listed, novelties
from embedder.inference.config import InferenceConfig
from embedder.metrics import Estimate
from embedder.settings import build_config
from ensemble.fusion.fitted import CalibrationRow, Fusion
from ensemble.fusion.fusers import Pooling

EXPERTS = {"a/head": 1.0, "a/probe": 1.0}
FUSION = Fusion(("x",), "mean", EXPERTS, Pooling("mean", EXPERTS), {}, {"a": "hash"}, {})


def member(name: str = "a", remixed: bool | None = None, **changes: Any) -> MemberFacts:
    return MemberFacts(name, build_config(changes=changes), 1000, remixed)


def texts(facts: Facts, fusion: Fusion | None = None) -> str:
    return "\n".join(f"{one.what}|{one.effect}" for one in novelties(facts, fusion, ()))


def facts(*members: MemberFacts, **more: Any) -> Facts:
    return Facts(tuple(members), None, more.get("detector"), more.get("separator"))


def test_a_plain_member_has_nothing_new() -> None:
    assert texts(facts(member(remixed=False, overlay=0))) == ""
    assert texts(facts(MemberFacts("a"))) == ""


def test_members_on_the_same_recording_do_not_differ() -> None:
    assert "different things" not in texts(facts(member("a"), member("b")))
    found = texts(facts(member("a"), member("b", stem="vocals")))
    assert "a hears mixtures; b hears vocal stems.|" in found


@pytest.mark.parametrize(
    ("remixed", "said"), [(True, "75% of the mixtures"), (False, "songs without stems"), (None, "")]
)
def test_remixing_is_said_of_members_that_were(remixed: bool | None, said: str) -> None:
    found = texts(facts(member(remixed=remixed)))
    assert found.startswith(f"In training of a, {said}") if said else not found


def test_shares_of_several_members() -> None:
    both = facts(member("a", True, remix=0.5), member("b", True), member("c", True, remix=0))
    assert "In training of a and b, 50% to 75% of the mixtures" in texts(both)


def test_detector_and_separator_have_their_numbers() -> None:
    measured = Measured(Estimate(0.5, 0.25, 0.75), 10)
    heard = replace(FUSION, listening=InferenceConfig(detector="abc"))
    assert "voice detector" not in texts(facts(member()), FUSION)
    assert "how much each segment of a song counts.|\n" in texts(facts(member()), heard) + "\n"
    said = texts(facts(member(), detector=measured), heard)
    assert "right about 50.0% of the frames of 10 validation songs (95% interval 25.0%" in said
    assert "it adds 0.5 dB of SI-SDR" in texts(facts(member(), separator=measured))


def test_experts_and_temperatures_of_a_fusion() -> None:
    found = texts(facts(member()), FUSION)
    assert "asked in up to 2 ways: its classification head and a linear probe" in found
    assert "none of its singers" not in found
    row = CalibrationRow("a/head", (2.0, 1.0), (0, 0), (0, 0))
    assert "2.000 before, 1.000 after" in texts(
        facts(member()), replace(FUSION, calibration=(row,))
    )
    one = replace(FUSION, temperatures={"a/head": 1.0}, pooling=Pooling("mean", {"a/head": 1.0}))
    assert "asked in" not in texts(facts(member()), one)


def test_lists() -> None:
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
