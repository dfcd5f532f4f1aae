"""The album effect: neighbours and shares against a slow count, and albums of known kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.measures.album_effect import (
    AlbumSongs,
    album_effect,
    neighbourhood,
    probe,
    production_of,
    split_gaps,
    usable,
    within,
)
from embedder.errors import UserError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made(
    singer: float, album: float, singers: int = 4, albums: int = 3, songs: int = 5, seed: int = 0
) -> AlbumSongs:
    """Songs whose vectors hold so much of their singer and of their album, the rest is noise."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(singers * albums), songs)
    voices, sounds = (rng.normal(size=(count, 24)) for count in (singers, singers * albums))
    rows = singer * voices[owner // albums] + album * sounds[owner]
    return AlbumSongs(unit(rows + rng.normal(size=rows.shape)), owner // albums, owner)


def uneven() -> AlbumSongs:
    """Albums of different sizes, among them a singer with one album and albums of one song."""
    rng = np.random.default_rng(3)
    albums = np.array([0] * 6 + [1] * 2 + [2] + [3] * 5 + [4] * 3 + [5] + [6] * 4)
    singers = np.array([0, 0, 0, 1, 2, 2, 2])[albums]
    rows = rng.normal(size=(7, 12))[albums] + rng.normal(size=(3, 12))[singers]
    return AlbumSongs(unit(rows + 1.5 * rng.normal(size=rows.shape)), singers, albums)


def test_neighbours_are_those_of_a_slow_count() -> None:
    songs = uneven()
    found = neighbourhood(songs, depth=4)
    count = len(songs.albums)
    for row in range(count):
        others = [other for other in range(count) if other != row]
        by_cosine = sorted(others, key=lambda one: -float(songs.vectors[one] @ songs.vectors[row]))
        near = by_cosine[:4]
        same = [songs.albums[other] == songs.albums[row] for other in near]
        assert found.same_album[row].tolist() == same
        same = [songs.singers[other] == songs.singers[row] for other in near]
        assert found.same_singer[row].tolist() == same
        apart = next(other for other in by_cosine if songs.albums[other] != songs.albums[row])
        assert found.singer_apart[row] == (songs.singers[apart] == songs.singers[row])
        album = sum(songs.albums[other] == songs.albums[row] for other in others)
        singer = sum(songs.singers[other] == songs.singers[row] for other in others)
        assert found.chance_album[row] == album / (count - 1)
        assert found.chance_singer[row] == singer / (count - 1)
        assert within(found)[row] == pytest.approx(album / singer)


def test_a_small_collection_has_fewer_neighbours() -> None:
    songs = made(1, 1, singers=1, albums=2, songs=2)
    assert neighbourhood(songs).same_album.shape == (4, 3)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    songs = uneven()
    whole = neighbourhood(songs)
    monkeypatch.setattr("analysis.measures.album_effect.BLOCK", 5)
    parts = neighbourhood(songs)
    np.testing.assert_array_equal(parts.same_album, whole.same_album)
    np.testing.assert_array_equal(parts.singer_apart, whole.singer_apart)


def test_shares_are_those_of_a_slow_count() -> None:
    songs = uneven()
    near = neighbourhood(songs)
    found = album_effect(near)
    count = len(songs.albums)
    rows = range(count)
    assert found.songs == count
    assert found.album.value == sum(near.same_album[row, 0] for row in rows) / count
    assert found.singer.value == sum(near.same_singer[row, 0] for row in rows) / count
    assert found.singer_apart.value == sum(near.singer_apart) / count
    assert found.lost.value == pytest.approx(found.singer_apart.value - found.singer.value)
    chances, alone = [], []
    for row in rows:
        album = np.sum(songs.albums == songs.albums[row]) - 1
        singer = np.sum(songs.singers == songs.singers[row]) - 1
        chances.append(album / (count - 1))
        alone.append(album / singer)
    assert found.album_chance == pytest.approx(np.mean(chances))
    assert found.voice_chance == pytest.approx(np.mean(alone))
    own = [row for row in rows if near.same_singer[row, 0]]
    p = np.mean([near.same_album[row, 0] for row in own])
    q = np.mean([alone[row] for row in own])
    assert found.production.value == pytest.approx((p - q) / (1 - q))
    assert found.production.low <= found.production.value <= found.production.high


def test_production_of_a_resample_is_that_of_its_songs() -> None:
    near = neighbourhood(uneven())
    draws = np.random.default_rng(0).integers(22, size=(6, 22))
    weights = np.stack([np.bincount(draw, minlength=22) for draw in draws]).astype(float)
    for draw, value in zip(draws, production_of(near)(weights), strict=True):
        own = [row for row in draw if near.same_singer[row, 0]]
        p = np.mean([near.same_album[row, 0] for row in own])
        q = np.mean([within(near)[row] for row in own])
        assert value == pytest.approx((p - q) / (1 - q))


def test_albums_that_do_not_matter_and_albums_that_are_all() -> None:
    voices = album_effect(neighbourhood(made(3, 0, songs=20)))
    assert voices.production.low < 0 < voices.production.high  # (p − q) / (1 − q) around 0
    assert abs(voices.production.value) < 0.15
    assert voices.singer.value == voices.singer_apart.value == 1
    sounds = album_effect(neighbourhood(made(1, 9)))
    assert sounds.production.value == 1
    assert sounds.lost.value < -0.2  # without its album, a song finds its singer less often


def test_no_neighbour_of_the_singer_leaves_production_open() -> None:
    vectors = unit(np.array([[1, 0], [0, 1], [1, 0.01], [0.01, 1]]))
    songs = AlbumSongs(vectors, np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]))
    assert np.isnan(album_effect(neighbourhood(songs)).production.value)


def test_what_can_be_asked_of_albums() -> None:
    def of(singers: list[int], albums: list[int]) -> bool:
        vectors = unit(np.ones((len(albums), 2)))
        return usable(AlbumSongs(vectors, np.array(singers), np.array(albums)))

    assert of([0, 0, 0], [0, 0, 1])
    assert not of([0, 0], [0, 1])  # albums of one song
    assert not of([0, 0, 1, 1], [0, 0, 1, 1])  # one album a singer
    assert not of([0, 1, 1], [0, 1, 2])


def test_the_probe_hears_albums_that_are_there_and_none_that_are_not() -> None:
    clear = probe(made(0, 4, songs=10))
    assert clear is not None
    assert (clear.songs, clear.albums, clear.own_songs) == (120, 12, 120)
    assert clear.right.value > 0.95
    assert clear.chance == pytest.approx(1 / 12)
    assert clear.own_chance == pytest.approx(1 / 3)
    none = probe(made(4, 0, songs=20))
    assert none is not None
    assert none.own.low < none.own_chance < none.own.high  # the voice alone says no album
    assert none.right.value > 2 * none.chance  # but it says the singer


def test_the_probe_asks_albums_of_two_songs_only() -> None:
    """Of `uneven`: albums 2 and 5 have one song, and singer 1 a single album."""
    found = probe(uneven())
    assert found is not None
    assert (found.songs, found.albums) == (20, 5)
    assert found.chance == 6 / 20
    assert found.own_songs == 6 + 2 + 3 + 4
    assert found.own_chance == (6 + 4) / 15
    alone = made(1, 1, singers=3, albums=1)
    assert probe(alone) is None  # every singer has one album
    assert probe(AlbumSongs(alone.vectors, alone.singers, np.arange(15))) is None


def test_no_song_is_told_by_a_probe_fitted_to_it() -> None:
    """Noise alone: a probe that had seen the songs would name every album."""
    found = probe(made(0, 0, songs=10))
    assert found is not None
    assert found.right.value < 0.25


def write(folder: Path, member: str, split: str, right: float, **more: Any) -> None:
    row = {
        "member": member, "split": split, "segment_s": 3.0, "seed": 0, "measured_on": "validation",
        "song": {"accuracy": right, "low": right - 0.1, "high": right + 0.1, "count": 40},
    } | more  # fmt: skip
    name = f"{len(list(folder.iterdir()))}.json"
    (folder / name).write_text(json.dumps(row), encoding="utf-8")


def test_rows_of_both_rules_make_a_pair(tmp_path: Path) -> None:
    write(tmp_path, "a", "song", 0.9)
    write(tmp_path, "a", "album", 0.7, measured_on="test")
    write(tmp_path, "b", "album", 0.4)
    write(tmp_path, "b", "song", 0.8)
    write(tmp_path, "a", "song", 0.5, segment_s=5.0)  # nobody else heard 5 s
    write(tmp_path, "b", "song", 0.5, seed=1)
    write(tmp_path, "a", "course", 0.1)
    found = split_gaps(tmp_path)
    assert [(gap.member, gap.measured_on) for gap in found] == [("b", "validation"), ("a", "test")]
    assert [gap.lost.value for gap in found] == pytest.approx([-0.4, -0.2])  # largest loss first
    worst = found[0]
    assert (worst.song.value, worst.album.value, worst.songs) == (0.8, 0.4, (40, 40))
    # Both intervals are 0.1 to each side: the difference's is their root of the sum of squares.
    assert worst.lost.high - worst.lost.value == pytest.approx(0.02**0.5)
    assert worst.lost.value - worst.lost.low == pytest.approx(0.02**0.5)


def test_no_folder_has_no_gaps(tmp_path: Path) -> None:
    assert split_gaps(tmp_path / "none") == []


@pytest.mark.parametrize("row", [{"split": "song"}, {}])
def test_what_is_no_row_is_named(row: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.json is no row of a benchmark .*; delete it"):
        split_gaps(tmp_path)
