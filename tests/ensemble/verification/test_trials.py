"""Trials: every pair that may be one, no pair that may not, and their cosines one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.verification.trials import TRAINED, Trials, member_cosines, trials_of

Maker = Callable[..., Store]


def small_store(split: str, labels: list[int], albums: list[str], member: str = "m") -> Store:
    """Songs with random embeddings; `albums` as given, "" for unknown."""
    songs, rng = len(labels), np.random.default_rng(len(labels) + ord(split[0]) + ord(member))
    rows = rng.normal(size=(songs, 6))
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return Store(
        member=member,
        split=split,
        singers=("a", "b", "c"),
        song_ids=tuple(f"{split} {song}" for song in range(songs)),
        albums=tuple(albums),
        labels=np.array(labels, np.int64),
        embeddings=unit,
        segment_song=np.arange(songs),
        segment_start_s=np.zeros(songs, np.float32),
        segment_embeddings=unit,
        segment_logits=None,
        segment_weight=np.ones(songs, np.float32),
    )


Pair = tuple[str, str]


def named(trials: Trials, train: Store, evaluated: Store) -> dict[Pair, bool]:
    """(evaluated song, other song) → whether it is a target trial."""
    found = {}
    for one, other, trained, target in zip(
        trials.evaluated, trials.other, trials.trained, trials.target, strict=True
    ):
        ids = (train if trained else evaluated).song_ids
        pair = (evaluated.song_ids[one], ids[other])
        assert pair not in found
        found[pair] = bool(target)
    return found


def slow_trials(train: Store, evaluated: Store) -> dict[Pair, bool]:
    found = {}
    for one, (song, album, label) in enumerate(
        zip(evaluated.song_ids, evaluated.albums, evaluated.labels, strict=True)
    ):
        for store in (evaluated, train):
            for other, (song_2, album_2, label_2) in enumerate(
                zip(store.song_ids, store.albums, store.labels, strict=True)
            ):
                if store is evaluated and other <= one:
                    continue
                unknown = "" in (album, album_2)
                if (unknown and label == label_2) or (album == album_2 and not unknown):
                    continue
                found[song, song_2] = bool(label == label_2)
    return found


rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=9)


@given(train=rows, evaluated=rows)
def test_every_pair_of_different_albums_is_a_trial_once(
    train: list[tuple[int, int]], evaluated: list[tuple[int, int]]
) -> None:
    def store(split: str, given: list[tuple[int, int]]) -> Store:
        albums = [f"{'abc'[label]}/{album}" if album else "" for label, album in given]
        return small_store(split, [label for label, _ in given], albums)

    known, songs = store("train", train), store("validation", evaluated)
    trials = trials_of(known, songs)
    assert named(trials, known, songs) == slow_trials(known, songs)
    for (one, other), trained in zip(trials.album_pairs, trials.trained, strict=True):
        assert (other == TRAINED) == trained
        assert one >= 0


def test_songs_of_one_album_are_no_trial_even_across_splits() -> None:
    train = small_store("train", [0, 0, 1], ["a/1", "a/2", "b/1"])
    songs = small_store("validation", [0, 0, 1], ["a/1", "a/1", "b/9"])
    found = named(trials_of(train, songs), train, songs)
    assert found == {
        ("validation 0", "validation 2"): False,
        ("validation 1", "validation 2"): False,
        ("validation 0", "train 1"): True,  # not with train 0, which is of the same album
        ("validation 0", "train 2"): False,
        ("validation 1", "train 1"): True,
        ("validation 1", "train 2"): False,
        ("validation 2", "train 0"): False,
        ("validation 2", "train 1"): False,
        ("validation 2", "train 2"): True,
    }


def test_albums_are_numbered_for_every_evaluated_song() -> None:
    train = small_store("train", [0], ["a/1"])
    songs = small_store("validation", [0, 0, 1, 1, 2], ["a/2", "a/2", "b/1", "", ""])
    trials = trials_of(train, songs)
    one, two, three, four, five = trials.albums.tolist()
    assert one == two
    assert len({one, three, four, five}) == 4  # unknown albums are albums of their own
    assert set(trials.albums.tolist()) == set(range(4))
    within = trials.album_pairs[~trials.trained]
    expected = np.stack([trials.albums[trials.evaluated], trials.albums[trials.other]], axis=1)
    np.testing.assert_array_equal(within, expected[~trials.trained])


def test_cosines_are_those_of_the_two_songs_for_each_member(make_store: Maker) -> None:
    train = [make_store(name, "train", singers=3, albums=2, songs=2) for name in "pq"]
    songs = [make_store(name, "validation", singers=3, albums=2, songs=2) for name in "pq"]
    trials = trials_of(train[0], songs[0])
    assert (len(trials.target), trials.target.sum()) == (12 * 11 // 2 - 6 + 12 * 12, 12 + 48)
    found = member_cosines(trials, train, songs)
    assert list(found) == ["p", "q"]
    for number, name in enumerate("pq"):
        slow = [
            sum(
                float(a) * float(b)
                for a, b in zip(
                    songs[number].embeddings[one],
                    (train if trained else songs)[number].embeddings[other],
                    strict=True,
                )
            )
            for one, other, trained in zip(
                trials.evaluated, trials.other, trials.trained, strict=True
            )
        ]
        np.testing.assert_allclose(found[name], np.clip(slow, -1, 1), atol=1e-12)


@pytest.mark.parametrize(
    ("known", "labels", "expected"),
    [
        ([0], [0, 1], ""),
        ([0, 1], [2], "no singer has songs of two albums"),
        ([1], [1], "no two of the evaluated and the training songs are of different singers"),
    ],
)
def test_what_lacks_one_kind_of_trial_says_so(
    known: list[int], labels: list[int], expected: str
) -> None:
    train = small_store("train", known, [f"{'abc'[label]}/1" for label in known])
    songs = small_store("validation", labels, [f"{'abc'[label]}/2" for label in labels])
    problem = trials_of(train, songs).problem()
    assert problem.startswith(expected)
    assert bool(problem) == bool(expected)


def test_stores_that_do_not_belong_together_are_refused(make_store: Maker) -> None:
    train, songs = make_store("m", "train"), make_store("m", "validation")
    changes: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"singers": songs.singers[::-1]}, UserError, "other singers than train; run again: "),
        ({"labels": np.where(songs.labels == 2, -1, songs.labels)}, ValueError, "has no label"),
        (
            {"song_ids": (train.song_ids[5], *songs.song_ids[1:])},
            ValueError,
            f"1 songs are also training songs, such as {train.song_ids[5]}",
        ),
    ]
    for change, error, message in changes:
        with pytest.raises(error, match=message):
            trials_of(train, replace(songs, **change))
    others = [songs, make_store("n", "validation", songs=2)]
    with pytest.raises(UserError, match="members m and n have stores of other songs"):
        member_cosines(trials_of(train, songs), [train, make_store("n", "train")], others)
