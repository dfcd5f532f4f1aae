"""Colours of the map: every song has the category or number that is its own."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from analysis.colourings import Colouring, colourings, middle_hz, scaled
from analysis.run_data import Songs
from analysis.singer_facts import SingerFacts

FACTS = {"Ada": SingerFacts("female", 200.0, 800.0), "Ben": SingerFacts("male", 100.0, 400.0)}


@pytest.fixture
def songs() -> Songs:
    """Six songs: two of Ada, one of Ben, one of <Cem>, one of Ada that is wrong, one of nobody."""
    return Songs(
        singers=("Ada", "Ben", "<Cem>"),
        ids=tuple("abcdef"),
        albums=("Ada/One", "Ada/Two", "Ben/One", "<Cem>/<X>", "Ada/Two", ""),
        splits=np.array([0, 1, 1, 0, 1, 2]),
        labels=np.array([0, 0, 1, 2, 0, -1]),
        predictions=np.array([-1, 0, 1, -1, 2, 1]),
        confidences=np.array([0, 0.9, 0.512345, 0, 0.4, 0.3]),
    )


@pytest.fixture
def found(songs: Songs) -> dict[str, Colouring]:
    return {one.name: one for one in colourings(songs, FACTS)}


def texts(one: Colouring) -> list[str]:
    return [one.entries[key][0] for key in one.keys]


def test_each_song_has_its_own_category(found: dict[str, Colouring]) -> None:
    assert texts(found["singer"]) == ["Ada", "Ada", "Ben", "<Cem>", "Ada", "unknown singer"]
    assert texts(found["album"]) == [
        "One\nAda", "Two\nAda", "One\nBen", "<X>\n<Cem>", "Two\nAda", "not known",
    ]  # fmt: skip
    assert texts(found["correct"]) == [
        "not predicted", "right", "right", "not predicted", "wrong", "not predicted",
    ]  # fmt: skip
    assert texts(found["sex"]) == [
        "female", "female", "male", "not known", "female", "not known",
    ]  # fmt: skip
    for one in found.values():
        assert len({colour for _, colour in one.entries}) == len(one.entries)


def test_numbers_lie_on_their_scale(found: dict[str, Colouring]) -> None:
    assert found["confidence"].values == (None, 0.9, 0.512, None, 0.4, 0.3)
    assert found["range"].values == (1.0, 1.0, 0.0, None, 1.0, None)
    assert found["range"].ends == ("200 Hz", "400 Hz")
    assert found["confidence"].data()["none"] == "#8a8f98"


def test_a_scale_of_pitch_is_logarithmic() -> None:
    assert middle_hz(SingerFacts("", 100.0, 400.0)) == pytest.approx(200)
    assert middle_hz(SingerFacts("", 100.0)) is None
    values = scaled([100.0, 200.0, 400.0, None, 282.84], 100.0, 400.0)
    assert values == [0.0, 0.5, 1.0, None, pytest.approx(math.log2(2.8284) / 2, abs=1e-3)]
    assert scaled([220.0, None], 220.0, 220.0) == [0.5, None]


def test_only_what_is_known_can_be_chosen(songs: Songs) -> None:
    def names(facts: dict[str, SingerFacts]) -> list[str]:
        return [one.name for one in colourings(songs, facts)]

    basic = ["singer", "album", "correct", "confidence"]
    assert names({}) == basic
    assert names({"Ada": SingerFacts("f")}) == [*basic, "sex"]
    assert names({"Ada": SingerFacts("", 100.0, 200.0)}) == [*basic, "range"]


@pytest.mark.parametrize(
    ("measured", "source"),
    [
        ((False, False), "from the csv; grey"),
        ((True, True), "measured in the songs (nine tenths of what is sung); grey"),
        ((False, True), "from the csv, or where it gives none measured in the songs (nine"),
    ],
)
def test_the_legend_says_where_a_range_comes_from(
    measured: tuple[bool, bool], source: str, songs: Songs
) -> None:
    names = songs.singers[:2]
    facts = {
        name: SingerFacts("", 100.0, 200.0, one) for name, one in zip(names, measured, strict=True)
    }
    (mode,) = (one for one in colourings(songs, facts) if one.name == "range")
    assert f"vocal range, {source}" in mode.says


def test_legends_hold_a_button_an_entry_and_escape_names(found: dict[str, Colouring]) -> None:
    legend = found["album"].legend()
    assert legend.count("<button") == 5
    assert "&lt;X&gt;<small>&lt;Cem&gt;</small>" in legend
    assert "var(--wrong)" in found["correct"].legend()
    scale = found["range"].legend()
    assert "<button" not in scale
    assert re.search(r"<span>200 Hz</span><span>400 Hz</span>", scale)
