"""Batches without singers: two crops of each song, other songs, every song equally often."""

from __future__ import annotations

from collections import Counter

import pytest

from embedder.data.song_pairs import SongPairs


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
