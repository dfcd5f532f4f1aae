"""The map: one scale for both axes, all inside, the singers that matter in colour."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from analysis.listening.place import HIGH, WIDE, place_on_map, said
from analysis.listening.schemas import Choice, MapPoint, Near, Place, Recognised

RNG = np.random.default_rng(3)
POINTS = tuple(
    MapPoint(float(x), float(y), singer, f"song {number}", f"{singer}/First")
    for number, (singer, (x, y)) in enumerate(
        zip("AABBCC" * 5, RNG.normal(scale=30, size=(30, 2)), strict=True)
    )
)
ANSWER = Recognised(
    5.0, (Choice("B", 0.7), Choice("A", 0.2)), False, 0.5, 0.3, (),
    (Near("x", "song 4", "C", "First", 0.9, True),), Place(55.0, -70.0), (),
)  # fmt: skip
TINTS = {"A": "#0000aa", "B": "#00bb00", "C": "#cc0000"}


def test_the_drawing_keeps_the_maps_shape() -> None:
    text = place_on_map(POINTS, ANSWER, TINTS)
    drawn = {
        title: np.array([float(x), -float(y)])
        for x, y, title in re.findall(
            r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>(.*?)</title>', text
        )
    }
    given = {f"{p.singer}: {p.title}, First": np.array([p.x, p.y]) for p in POINTS}
    assert drawn.keys() == given.keys()
    names = list(given)
    star = re.search(r"translate\(([\d.]+) ([\d.]+)\)", text)
    assert star
    drawn["star"] = np.array([float(star[1]), -float(star[2])])
    given["star"] = np.array([55.0, -70.0])
    units = [
        np.linalg.norm(drawn[one] - drawn["star"]) / np.linalg.norm(given[one] - given["star"])
        for one in names
    ]
    assert np.ptp(units) < 0.02 * np.mean(units)
    for x, y in drawn.values():
        assert 0 < x < WIDE
        assert 0 < -y < HIGH


def test_the_likeliest_singers_are_in_colour_and_the_nearest_ringed() -> None:
    text = place_on_map(POINTS, ANSWER, TINTS)
    assert text.count('fill="#00bb00"') == 10
    assert text.count('fill="#0000aa"') == 10
    assert "#cc0000" not in text
    assert re.findall(r'class="near"[^>]*><title>([^<]*)', text) == ["C: song 4, First"]
    assert re.findall(r"<text [^>]*>([^<]*)", text) == ["B", "A"]


def test_whose_songs_lie_around() -> None:
    place = Place(55.0, -70.0)
    away = sorted(POINTS, key=lambda p: np.hypot(p.x - 55.0, p.y + 70.0))[:5]
    for singer in "ABC":
        count = sum(p.singer == singer for p in away)
        assert (f"{singer} ({count})" in said(POINTS, place)) == (count > 0)
    assert said(POINTS, place).startswith("Of 30 songs, the 5 around it are by ")


@pytest.mark.parametrize("points", [(), POINTS])
def test_without_a_map_it_says_so(points: tuple[MapPoint, ...]) -> None:
    text = place_on_map(points, replace(ANSWER, place=None), TINTS)
    assert "There is no map" in text
    assert "<svg" not in text


def test_one_point_is_drawn() -> None:
    text = place_on_map([MapPoint(1, 1, "A", "x", "")], replace(ANSWER, place=Place(1, 1)), TINTS)
    assert f'cx="{WIDE / 2:.1f}" cy="{HIGH / 2:.1f}"' in text


def test_names_are_text() -> None:
    hostile = MapPoint(0, 0, "<script>", '"><img src=x>', "</svg>")
    top = (Choice("<script>", 1.0),)
    text = place_on_map([hostile], replace(ANSWER, top=top), {"<script>": "#0000aa"})
    assert "<script>" not in text
    assert "<img" not in text
