"""Copies of a recording: what is left out, what is kept, and that each is named."""

from __future__ import annotations

from collections import defaultdict

import pytest

from embedder.catalogue import Song
from embedder.data.duplicates import Copy, without_copies

SPLITS = {"t": "train", "v": "validation", "e": "test"}


def settle(*groups: str, keep_duplicates: bool = False, keep_duets: bool = False) -> dict[str, str]:
    """Groups of copies such as "at1 av2": singer, split, number. song id → kind of problem."""
    songs: dict[str, Song] = {}
    copies: dict[str, list[Copy]] = defaultdict(list)
    for group in groups:
        names = group.split()
        for name in names:
            songs[name] = Song(name, "", name[0], "album", name, SPLITS[name[1]])
        for name in names:
            copies[name] += [Copy(o, "same recording", "like") for o in names if o != name]
    good, problems = without_copies(list(songs.values()), copies, keep_duplicates, keep_duets)
    kinds = {problem.file: problem.kind for problem in problems}
    gone = {name for name, kind in kinds.items() if kind in ("in two splits", "duet")}
    assert {song.id for song in good} == set(songs) - gone
    for problem in problems:
        assert any(other in problem.reason for other in songs if other != problem.file)
    return kinds


@pytest.mark.parametrize(
    ("group", "kinds"),
    [
        ("at1", {}),
        ("at1 at2 at3", {"at2": "same recording", "at3": "same recording"}),
        ("at1 av2", {"at1": "in two splits"}),
        ("at1 av2 ae3", {"at1": "in two splits", "av2": "in two splits"}),
        ("av1 av2 at3", {"av2": "same recording", "at3": "in two splits"}),
        ("at1 bt2", {"at1": "duet", "bt2": "duet"}),
        ("at1 at2 bt3", {"at1": "duet", "at2": "duet", "bt3": "duet"}),
        ("at1 bv2", {"at1": "duet", "bv2": "duet in use"}),
        ("av1 bv2", {"av1": "duet in use", "bv2": "duet in use"}),
        ("av1 be2", {"av1": "in two splits", "be2": "duet in use"}),
    ],
)
def test_each_copy_is_named_and_left_out_where_it_does_harm(
    group: str, kinds: dict[str, str]
) -> None:
    assert settle(group) == kinds


def test_a_copy_of_what_was_left_out_itself_may_stay() -> None:
    """A medley: its parts are not copies of each other."""
    assert settle("at1 av2", "av2 ae3") == {"at1": "same recording", "av2": "in two splits"}


def test_what_is_asked_for_is_kept() -> None:
    assert settle("at1 av2", keep_duplicates=True) == {"at1": "same recording"}
    assert settle("at1 bt2", keep_duets=True) == {"at1": "duet in use", "bt2": "duet in use"}
    assert settle("at1 bt2", keep_duplicates=True) == {"at1": "duet", "bt2": "duet"}
    kinds = settle("at1 bv2", keep_duets=True)
    assert kinds == {"at1": "in two splits", "bv2": "duet in use"}
    kinds = settle("at1 bv2", keep_duets=True, keep_duplicates=True)
    assert kinds == {"at1": "duet in use", "bv2": "duet in use"}
