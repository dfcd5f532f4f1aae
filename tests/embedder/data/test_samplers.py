"""Batches of P singers and K crops: their shape, their fairness, and what decides them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.data.samplers import SingerBatches, SongPairs

# Singers → albums → number of songs.
LIBRARIES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=9)


def songs_of(library: list[list[int]]) -> tuple[list[int], list[str]]:
    """The label and the album of each song, singers' songs lying scattered."""
    songs = [
        (singer, f"{singer}/{album}", song)
        for singer, albums in enumerate(library)
        for album, count in enumerate(albums)
        for song in range(count)
    ]
    songs.sort(key=lambda song: song[2])
    return [singer for singer, _, _ in songs], [album for _, album, _ in songs]


def sampler(library: list[list[int]], **changes: Any) -> tuple[SingerBatches, list[int], list[str]]:
    labels, albums = songs_of(library)
    values = {"singers": 4, "crops": 3, "batches": 7, "seed": 0, **changes}
    return SingerBatches(labels, albums, **values), labels, albums


@given(LIBRARIES, st.integers(2, 8), st.integers(1, 6), st.integers(1, 12), st.integers(0, 99))
def test_batches_hold_p_singers_with_k_crops_each(
    library: list[list[int]], singers: int, crops: int, batches: int, seed: int
) -> None:
    found, labels, albums = sampler(
        library, singers=singers, crops=crops, batches=batches, seed=seed
    )
    drawn = list(found)
    assert len(drawn) == len(found) == batches
    heard: Counter[int] = Counter()
    for batch in drawn:
        present = Counter(labels[song] for song, _ in batch)
        assert len(present) == min(singers, len(library))
        assert set(present.values()) == {crops}
        heard.update(present.keys())
        for singer in present:
            used = Counter(albums[song] for song, _ in batch if labels[song] == singer)
            available = len(library[singer])
            assert len(used) == min(crops, available)  # as many albums as there can be
            assert max(used.values()) - min(used.values()) <= 1
        # At any time in the epoch, all singers were heard equally often, but for one round.
        counts = [heard[singer] for singer in range(len(library))]
        assert max(counts) - min(counts) <= 1


@given(LIBRARIES, st.integers(0, 2**31 - 1), st.integers(0, 1000))
def test_batches_are_a_function_of_seed_and_epoch(
    library: list[list[int]], seed: int, epoch: int
) -> None:
    first, _, _ = sampler(library, seed=seed)
    second, _, _ = sampler(library, seed=seed)
    first.set_epoch(epoch)
    drawn = list(first)
    second.set_epoch(epoch + 1)
    assert list(second) != drawn
    second.set_epoch(epoch)
    assert list(second) == list(second) == drawn
    other, _, _ = sampler(library, seed=seed + 1)
    other.set_epoch(epoch)
    assert list(other) != drawn


def test_no_two_draws_share_a_seed() -> None:
    found, _, _ = sampler([[2, 3], [1, 1, 1], [4], [2]], batches=200)
    seeds = []
    for epoch in range(3):
        found.set_epoch(epoch)
        seeds += [seed for batch in found for _, seed in batch]
    assert len(set(seeds)) == len(seeds) == 3 * 200 * 4 * 3
    assert min(seeds) >= 0
    assert max(seeds) > 2**62


def test_every_song_has_its_turn_within_its_album() -> None:
    found, labels, albums = sampler([[1, 4], [3, 3, 2]], singers=2, crops=2, batches=600)
    counts = Counter(song for batch in found for song, _ in batch)
    assert set(counts) == set(range(len(labels)))
    for song, count in counts.items():
        # 1,200 crops of each singer, equally from each album, equally from each of its songs.
        of_singer = len({a for a, s in zip(albums, labels, strict=True) if s == labels[song]})
        expected = 1200 / of_singer / albums.count(albums[song])
        assert abs(count - expected) < 5 * expected**0.5


def test_one_album_is_enough() -> None:
    found, labels, _ = sampler([[1], [1]], singers=2, crops=4, batches=3)
    for batch in found:
        assert Counter(labels[song] for song, _ in batch) == {0: 4, 1: 4}
        assert len({seed for _, seed in batch}) == 8  # the same song, never the same crop


@pytest.mark.parametrize(("there", "asked", "given_"), [(3, 16, 3), (5, 5, 5), (9, 4, 4)])
def test_no_more_singers_than_there_are(there: int, asked: int, given_: int) -> None:
    found, labels, _ = sampler([[2, 2]] * there, singers=asked)
    assert {len({labels[song] for song, _ in batch}) for batch in found} == {given_}


def test_singers_stand_together_in_all_pairs() -> None:
    found, labels, _ = sampler([[2]] * 5, singers=2, crops=1, batches=400)
    pairs = Counter(frozenset(labels[song] for song, _ in batch) for batch in found)
    assert len(pairs) == 10
    assert min(pairs.values()) > 15


def test_labels_need_not_be_dense() -> None:
    found = SingerBatches([7, 7, 30], ["x", "y", "x"], singers=2, crops=2, batches=1, seed=0)
    (batch,) = found
    assert sorted(song for song, _ in batch) == [0, 1, 2, 2]


def pairs(songs: int = 7, batch_songs: int = 3, batches: int = 50, seed: int = 0) -> SongPairs:
    return SongPairs(songs, batch_songs=batch_songs, batches=batches, seed=seed)


@pytest.mark.parametrize(("songs", "batch_songs"), [(7, 3), (7, 7), (2, 32), (9, 8), (100, 32)])
def test_a_batch_has_two_different_crops_of_each_of_its_songs(songs: int, batch_songs: int) -> None:
    sampler = pairs(songs, batch_songs, 30)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 30
    for batch in drawn:
        half = len(batch) // 2
        first, second = batch[:half], batch[half:]
        assert half == min(songs, batch_songs)
        assert [song for song, _ in first] == [song for song, _ in second]
        assert len({song for song, _ in first}) == half
    seeds = [seed for batch in drawn for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("songs", "batch_songs"), [(7, 3), (9, 8), (10, 5)])
def test_all_songs_come_equally_often(songs: int, batch_songs: int) -> None:
    counts: Counter[int] = Counter()
    for number, batch in enumerate(pairs(songs, batch_songs, 60), 1):
        counts.update(song for song, _ in batch[: len(batch) // 2])
        low, high = min(counts[song] for song in range(songs)), max(counts.values())
        assert high - low <= 1 + (number * batch_songs % songs > 0)
    assert set(counts) == set(range(songs))


def test_a_song_s_company_changes() -> None:
    together = {tuple(sorted({song for song, _ in batch})) for batch in pairs(batches=200)}
    assert len(together) == 35  # all trios of 7


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    one, other = pairs(), pairs()
    assert list(one) == list(one) == list(other)
    other.set_epoch(1)
    assert list(one) != list(other)
    one.set_epoch(1)
    assert list(one) == list(other)
    assert list(pairs(seed=1)) != list(pairs())
