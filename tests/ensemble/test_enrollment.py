"""Recordings on their way into the index: names, ids, albums, and those that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from ensemble.enrollment import (
    check_new,
    copies_of,
    enrolled_ids,
    singer_named,
    spelled_like,
)


@pytest.mark.parametrize("name", ["Aimee Mann", "陳　奕迅", 'a, "b"', "Unknown", "-M-", "'Til"])
def test_names_that_a_prediction_can_hold(name: str) -> None:
    assert singer_named(f" {name} ", ["b"]) == name


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\tb", "\udce9", "a\u2028b", "a\u2029b", "a\x85b", "a\x7fb", "AC/DC"]
)
def test_names_that_prepare_would_refuse(name: str) -> None:
    with pytest.raises(UserError, match="--singer needs another name"):
        singer_named(name, [])


def test_nobody_can_be_named_as_nobody_is() -> None:
    with pytest.raises(UserError, match="--singer unknown is what predictions call nobody"):
        singer_named("unknown", [])


def test_a_name_means_the_singer_who_has_it_in_another_unicode_form() -> None:
    composed, taken_apart = "Beyonc\u00e9", "Beyonce\u0301"
    assert singer_named(taken_apart, []) == composed
    assert singer_named(composed, ["a", taken_apart]) == taken_apart  # of an older run


def test_who_is_spelled_nearly_so_is_found() -> None:
    assert spelled_like("abba", ["ABBA", "AB BA", "\uff21BBA", "ABB", "abba"]) == [
        "AB BA", "ABBA", "\uff21BBA"
    ]  # fmt: skip
    assert spelled_like("a", ["b"]) == []


def test_folders_are_albums_and_the_folder_itself_is_that_of_loose_songs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Live"
    (folder / "x").mkdir(parents=True)
    names = ["1", "first/1", "second/cd 2/1"]
    expected = ["a/Live/1", "a/first/1", "a/second/cd 2/1"]
    assert enrolled_ids("a", names, folder) == expected
    assert enrolled_ids("a", names, folder / "x" / "..") == expected
    monkeypatch.chdir(folder)
    assert enrolled_ids("a", names, Path()) == expected
    assert enrolled_ids("a", ["e\u0301"], tmp_path / "e\u0301") == ["a/\u00e9/\u00e9"]


@pytest.mark.parametrize(
    ("name", "folder"), [("1", "caf\udce9"), ("a\u2028b", "x"), ("x\n/1", "x")]
)
def test_files_whose_names_prepare_would_refuse(tmp_path: Path, name: str, folder: str) -> None:
    with pytest.raises(UserError, match="rename the file or its folder"):
        enrolled_ids("a", [name], tmp_path / folder)


def test_songs_that_are_there_are_refused_and_whose_they_are(world: Any) -> None:
    index = world.indexes["one"]
    check_new(["singer 1/live/1", "new/train0/1"], index)
    with pytest.raises(
        UserError,
        match=r"1 of 2 songs are in the index already, such as singer 1/train0/1.wav of singer 1$",
    ):
        check_new(["new/train0/1", "singer 1/train0/1.wav"], index)


def test_copies_are_found_by_all_members_together() -> None:
    rng = np.random.default_rng(0)
    songs = {name: rng.normal(size=(6, 8)).astype(np.float32) for name in ("one", "two")}
    songs = {name: s / np.linalg.norm(s, axis=1, keepdims=True) for name, s in songs.items()}
    others = {name: rows[[5, 0, 3]] for name, rows in songs.items()}
    assert copies_of(songs, others).tolist() == [1, -1, -1, 2, -1, 0]
    others["two"] = songs["two"][[5, 1, 3]]  # only one member hears the first song again
    assert copies_of(songs, others).tolist() == [-1, -1, -1, 2, -1, 0]
    none = {name: rows[:0] for name, rows in songs.items()}
    assert copies_of(songs, none).tolist() == [-1] * 6
    assert copies_of(none, songs).tolist() == []
