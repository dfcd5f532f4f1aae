"""Split rules as properties over random sets of songs, and every leak that must be refused."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.catalogue import Song
from embedder.errors import UserError
from embedder.splits import SPLITTERS, check_leakage, split_songs


def song(singer: str, album: str, title: str, split: str = "", audio: str = "") -> Song:
    name = f"{singer}/{album}/{title}.wav"
    return Song(name, f"/{name}", singer, album, title, split, audio=audio)


@st.composite
def song_sets(draw: st.DrawFn) -> list[Song]:
    """2 to 5 singers with 3 to 7 albums of 1 to 4 songs, in any order; album names recur."""
    found = []
    for singer in range(draw(st.integers(2, 5))):
        names = draw(st.lists(st.sampled_from("abcdeABC"), min_size=3, max_size=7, unique=True))
        for album in names:
            for title in range(draw(st.integers(1, 4))):
                found.append(song(f"s{singer}", album, str(title), audio=f"{len(found)}"))
    return draw(st.permutations(found))


@pytest.mark.parametrize("rule", [rule for rule in SPLITTERS if rule != "files"])
@given(found=song_sets(), seed=st.integers(0, 2**40))
def test_every_rule_divides_without_leakage(rule: str, found: list[Song], seed: int) -> None:
    divided = split_songs(found, rule, seed)
    assert [replace(s, split="") for s in divided] == found  # order and everything else stays
    check_leakage(divided, rule)
    by_singer: dict[str, Counter[str]] = defaultdict(Counter)
    for s in divided:
        by_singer[s.singer][s.split] += 1
    wanted = {"train", "validation"} | ({"test"} if rule != "course" else set())
    assert all(set(counts) == wanted for counts in by_singer.values())


@pytest.mark.parametrize("rule", [rule for rule in SPLITTERS if rule != "files"])
@given(found=song_sets(), seed=st.integers(0, 99), data=st.data())
def test_splits_depend_on_neither_the_order_nor_the_other_singers(
    rule: str, found: list[Song], seed: int, data: st.DataObject
) -> None:
    splits = {s.id: s.split for s in split_songs(found, rule, seed)}
    shuffled = data.draw(st.permutations(found))
    assert {s.id: s.split for s in split_songs(shuffled, rule, seed)} == splits
    more = [*found, *(song("new", album, "1") for album in "xyz")]
    assert splits.items() <= {s.id: s.split for s in split_songs(more, rule, seed)}.items()


@given(found=song_sets(), seed=st.integers(0, 99))
def test_course_keeps_the_alphabetically_last_album_of_each_singer(
    found: list[Song], seed: int
) -> None:
    for s in split_songs(found, "course", seed):
        albums = [o.album for o in found if o.singer == s.singer]
        later = [a for a in albums if (a.lower(), a) > (s.album.lower(), s.album)]
        assert s.split == ("train" if later else "validation")


@given(found=song_sets(), seed=st.integers(0, 99))
def test_album_gives_one_album_to_validation_and_one_to_test(found: list[Song], seed: int) -> None:
    divided = split_songs(found, "album", seed)
    for singer in {s.singer for s in found}:
        albums = {s.album: s.split for s in divided if s.singer == singer}
        counts = Counter(albums.values())
        assert counts == {"train": len(albums) - 2, "validation": 1, "test": 1}


@given(count=st.integers(3, 120), seed=st.integers(0, 99))
def test_song_gives_a_tenth_to_validation_and_test(count: int, seed: int) -> None:
    found = [song(singer, "A", str(n)) for singer in "ab" for n in range(count)]
    for singer in "ab":
        divided = [s for s in split_songs(found, "song", seed) if s.singer == singer]
        counts = Counter(s.split for s in divided)
        assert counts["validation"] == counts["test"] >= 1
        assert abs(counts["test"] - count / 10) <= max(0.5, 1 - count / 10)
        assert counts["train"] == count - 2 * counts["test"] >= 1


@pytest.mark.parametrize("rule", ["album", "song"])
def test_another_seed_draws_another_split_and_singers_are_drawn_apart(rule: str) -> None:
    found = [song(s, f"A{n}", "1") for s in ("a", "b", "c", "d") for n in range(6)]
    splits = {seed: [s.split for s in split_songs(found, rule, seed)] for seed in range(5)}
    assert len({tuple(s) for s in splits.values()}) == 5
    rows = {tuple(splits[0][at : at + 6]) for at in range(0, 24, 6)}
    assert len(rows) > 1


def test_files_keeps_what_the_lists_say() -> None:
    found = (song("a", "A", "1", "validation"), song("b", "A", "1", "train"))
    assert split_songs(found, "files", 5) == found
    with pytest.raises(UserError, match=r"lists that name b/A/2\.wav; none does"):
        split_songs([*found, song("b", "A", "2")], "files")


def test_what_cannot_be_split() -> None:
    one = [song("a", "A", "1"), song("a", "B", "1")]
    with pytest.raises(UserError, match=r"at least two singers .* found only 'a'"):
        split_songs(one, "course")
    with pytest.raises(UserError, match=r"at least two singers .* found none"):
        split_songs([], "course")
    with pytest.raises(UserError, match="--split random is unknown; choose from course, album, s"):
        split_songs(one, "random")
    two = [*one, song("b", "A", "1"), song("b", "A", "2")]
    with pytest.raises(UserError, match="b has only 'A'; add an album"):
        split_songs(two, "course")
    with pytest.raises(UserError, match="three albums of each singer, but a has 2: A, B"):
        split_songs(two, "album")
    with pytest.raises(UserError, match="three songs of each singer, but a has 2"):
        split_songs(two, "song")
    with pytest.raises(UserError, match="--split files leaves no song for validation"):
        split_songs([replace(s, split="train") for s in two], "files")


TRAIN = [song("a", "A", "1", "train", "k1"), song("b", "A", "1", "train", "k2")]


@pytest.mark.parametrize("rule", SPLITTERS)
def test_a_song_or_a_recording_in_two_splits_is_refused(rule: str) -> None:
    again = replace(TRAIN[0], split="validation")
    expected = r"1 song in more than one split: a/A/1\.wav is in train \(a/A/1\.wav\), validation"
    with pytest.raises(UserError, match=expected):
        check_leakage([*TRAIN, again], rule)
    copy = song("a", "B", "9", "test", "k1")
    expected = r"1 recording in more than one split: train \(a/A/1\.wav\), test \(a/B/9\.wav\)"
    with pytest.raises(UserError, match=expected):
        check_leakage([*TRAIN, copy], rule)
    assert check_leakage([*TRAIN, copy], rule, allow_same_audio=True) == ()
    undecoded = [replace(s, audio="") for s in (*TRAIN, copy)]
    assert check_leakage(undecoded, rule) == ()  # no audio yet is no shared audio


@pytest.mark.parametrize("rule", SPLITTERS)
def test_an_album_in_two_splits_is_refused_or_reported(rule: str) -> None:
    found = [*TRAIN, song("a", "A", "2", "validation", "k3"), song("b", "B", "2", "validation")]
    if rule in ("song", "files"):
        assert check_leakage(found, rule) == ("a/A",)
        return
    expected = r"1 album .*: a/A is in train \(a/A/1\.wav\), validation \(a/A/2\.wav\)"
    with pytest.raises(UserError, match=expected):
        check_leakage(found, rule)


@pytest.mark.parametrize("rule", SPLITTERS)
def test_albums_of_one_name_by_two_singers_are_two_albums(rule: str) -> None:
    found = [*TRAIN, song("a", "Hits", "1", "train"), song("b", "Hits", "1", "validation")]
    assert check_leakage(found, rule) == ()


@pytest.mark.parametrize("rule", SPLITTERS)
def test_every_singer_must_be_in_train(rule: str) -> None:
    with pytest.raises(UserError, match=r"singer 'c' is in test \(c/A/1\.wav\) but has no song"):
        check_leakage([*TRAIN, song("c", "A", "1", "test")], rule)


def test_leakage_under_an_unknown_rule() -> None:
    with pytest.raises(UserError, match="--split random is unknown"):
        check_leakage(TRAIN, "random")
