"""What a page knows of a run beside its index: its finished map, and songs that can be played."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from analysis.projections import centred, finished_map, place
from analysis.run_data import member_stores
from analysis.web.map import HIGH, WIDE, place_on_map, place_one, place_summary, run_context
from analysis.web.schemas import Choice, MapPoint, Near, Place, Recognised
from embedder.catalogue import Catalogue, Song, write_catalogue
from embedder.run import Run

RATE = 16000
MEMBERS = ("triplet", "aam")


def vectors_of(run: Run, *members: str) -> np.ndarray:
    """Songs of the named members together, each divided by the root of their number."""
    parts = [
        np.concatenate([store.embeddings for store in member_stores(run, name)]) for name in members
    ]
    return (np.concatenate(parts, axis=1) / len(members) ** 0.5).astype(np.float32)


def test_songs_stand_where_the_map_of_all_members_has_them(run: Run) -> None:
    finished = finished_map(run.map("", "song"), vectors_of(run, "aam", "triplet"), (5.0, 8.0), 3)
    found = run_context(run, MEMBERS)
    (train, validation) = member_stores(run, "aam")
    assert [(one.x, one.y) for one in found.points] == [tuple(xy) for xy in finished.points[1]]
    assert len(found.points) == len(train.song_ids) + len(validation.song_ids)
    first, last = found.points[0], found.points[-1]
    assert (first.singer, first.album, first.title) == ("Ada", "First", "0 tune")
    assert (last.singer, last.album, last.title) == ("Dörte", "Last validation", "2 tune")
    assert found.playable == frozenset()
    assert found.audio(train.song_ids[0]) is None

    heard = {name: member_stores(run, name)[1].embeddings[4] for name in MEMBERS}
    placed = found.place(heard)
    assert placed is not None
    expected = finished.place(vectors_of(run, "aam", "triplet")[len(train.song_ids) + 4][None])
    assert (placed.x, placed.y) == pytest.approx(tuple(expected[1, 0]))
    assert found.place({"aam": heard["aam"]}) is None  # a member heard nothing


def test_without_a_map_of_all_together_the_first_members_is_taken(run: Run) -> None:
    assert run_context(run, MEMBERS).points == ()
    finished = finished_map(run.map("triplet", "song"), vectors_of(run, "triplet"), (5.0,), 0)
    found = run_context(run, MEMBERS)
    assert [(one.x, one.y) for one in found.points] == [tuple(xy) for xy in finished.points[0]]
    assert found.place({"triplet": member_stores(run, "triplet")[0].embeddings[0]}) is not None


def test_a_map_of_other_embeddings_is_no_map(run: Run) -> None:
    vectors = vectors_of(run, "aam")
    finished_map(run.map("aam", "song"), vectors[:-1], (5.0,), 0)
    assert run_context(run, ["aam"]).points == ()
    finished_map(run.map("aam", "song"), np.roll(vectors, 1, axis=0), (5.0,), 0)
    assert run_context(run, ["aam"]).points == ()
    run.map("aam", "song").write_bytes(b"no map")
    assert run_context(run, ["aam"]).points == ()


def test_a_run_without_stores_has_nothing(tmp_path: Path) -> None:
    found = run_context(Run(tmp_path), ["aam"])
    assert (found.points, found.playable) == ((), frozenset())
    assert found.place({}) is None
    assert found.audio("a") is None


def test_songs_whose_sound_is_there_can_be_played(run: Run, tmp_path: Path) -> None:
    ids = [song for store in member_stores(run, "aam") for song in store.song_ids]
    time = np.arange(20 * RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "file.wav", tone, RATE)
    run.cache.mkdir()
    np.save(run.decoded("decoded"), (tone * 2**14).astype(np.int16))
    places = {ids[0]: (tmp_path / "file.wav", "x"), ids[1]: (tmp_path / "gone", "decoded"),
              ids[2]: (tmp_path / "gone", "y")}  # fmt: skip
    songs = [
        Song(song, str(path), *song.split("/")[:2], "t", "train", 15.0, key)
        for song, (path, key) in places.items()
    ]
    write_catalogue(run.catalogue, Catalogue(tuple(songs)))
    found = run_context(run, MEMBERS)
    assert found.playable == {ids[0], ids[1]}
    for song in ids[:2]:
        data = found.audio(song)
        assert data is not None
        wave, rate = soundfile.read(io.BytesIO(data))
        assert soundfile.info(io.BytesIO(data)).format == "MP3"
        assert (rate, len(wave) / rate) == (RATE, pytest.approx(10, abs=0.2))
        assert np.abs(np.fft.rfft(wave[RATE : 2 * RATE])).argmax() == 440
    assert found.audio(ids[2]) is None
    assert not run.pages.exists()  # nothing is written


def test_on_a_large_map_a_recording_lies_among_its_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 12))
    label = np.repeat(np.arange(8), 40)
    vectors = centres[label] + 0.3 * rng.normal(size=(320, 12))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    angle = label * np.pi / 4
    points = centred(30 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(size=(320, 2)))
    new = (vectors[85] + vectors[90]) / np.linalg.norm(vectors[85] + vectors[90])
    exact = place(vectors, points, new[None].astype(np.float32))[0]
    assert place_one(vectors, points, new) == pytest.approx(tuple(exact))
    monkeypatch.setattr("analysis.web.map.AMONG", 100)
    quick = np.array(place_one(vectors, points, new))
    home = points[label == 2].mean(axis=0)
    assert np.linalg.norm(exact - home) < 5
    assert np.linalg.norm(quick - home) < 5


@pytest.fixture
def run(build_run: Callable[..., Run]) -> Run:
    return build_run()


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
        assert (f"{singer} ({count})" in place_summary(POINTS, place)) == (count > 0)
    assert place_summary(POINTS, place).startswith("Of 30 songs, the 5 around it are by ")


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
