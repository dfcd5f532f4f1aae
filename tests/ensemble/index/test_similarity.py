"""Similar songs: the mean over members one by one, in order, and what counts as the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.index.members import MemberIndex, index_of
from ensemble.index.similarity import cosine, embeddings_of, similar_songs

Maker = Callable[..., Store]


def indexes_of(make_store: Maker) -> dict[str, MemberIndex]:
    return {m: index_of(make_store(m, "train", singers=3, albums=2, songs=2)) for m in "pq"}


def query_of(make_store: Maker, song: int = 4) -> dict[str, np.ndarray]:
    return embeddings_of([make_store(m, "validation", singers=3) for m in "pq"], song)


def test_the_nearest_songs_are_those_of_the_mean_over_members(make_store: Maker) -> None:
    indexes, query = indexes_of(make_store), query_of(make_store)
    slow = []
    for row, song_id in enumerate(indexes["p"].song_ids):
        cosines = [
            sum(
                float(a) * float(b)
                for a, b in zip(indexes[m].embeddings[row], query[m], strict=True)
            )
            for m in "pq"
        ]
        slow.append((sum(cosines) / 2, song_id))
    slow.sort(reverse=True)
    found = similar_songs(query, indexes, 5)
    assert [song.song_id for song in found] == [song_id for _, song_id in slow[:5]]
    assert [song.similarity for song in found] == pytest.approx([s for s, _ in slow[:5]], abs=1e-6)
    for song in found:
        assert song.song_id == f"{song.singer}/{song.album}/{song.song}.wav"
        assert not song.same_recording
    one = similar_songs({"q": query["q"]}, indexes, 5)
    assert [song.song_id for song in one] != [song.song_id for song in found]


def test_all_songs_come_if_more_are_asked_and_equal_ones_in_index_order(make_store: Maker) -> None:
    index = index_of(make_store("p", "train", singers=3, albums=2, songs=2))
    alike = np.repeat(index.embeddings[:1], 12, axis=0)
    found = similar_songs({"p": index.embeddings[3]}, {"p": replace(index, embeddings=alike)}, 99)
    assert [song.song_id for song in found] == list(index.song_ids)


def test_the_recording_itself_is_marked_by_its_sound_or_its_path(make_store: Maker) -> None:
    indexes = indexes_of(make_store)
    own = {name: index.embeddings[7] for name, index in indexes.items()}
    found = similar_songs(own, indexes, 12)
    assert found[0].song_id == indexes["p"].song_ids[7]
    assert found[0].similarity == pytest.approx(1)
    assert [song.same_recording for song in found] == [True] + [False] * 11

    query, name = query_of(make_store), indexes["p"].song_ids[2]
    by_path = similar_songs(query, indexes, 12, f"/music/{name}")
    assert [song.song_id for song in by_path if song.same_recording] == [name]
    assert similar_songs(query, indexes, 12, name)[0].similarity == by_path[0].similarity
    other = similar_songs(query, indexes, 12, f"/music/the {name}")
    assert not any(song.same_recording for song in other)
    # Of a flat folder only file names are known, and many files are called 0.wav.
    bare = {
        member: replace(index, song_ids=tuple(str(n) + ".wav" for n in range(12)))
        for member, index in indexes.items()
    }
    assert not any(song.same_recording for song in similar_songs(query, bare, 12, "/music/3.wav"))


def test_members_must_know_the_same_songs(make_store: Maker) -> None:
    indexes, query = indexes_of(make_store), query_of(make_store)
    other = replace(indexes["q"], song_ids=indexes["q"].song_ids[::-1])
    with pytest.raises(UserError, match=r"members p and q have other songs in their index; run ag"):
        similar_songs(query, {"p": indexes["p"], "q": other}, 3)
    assert similar_songs({"p": query["p"]}, {"p": indexes["p"], "q": other}, 3)  # q is not asked


def test_the_cosine_of_two_recordings_is_the_mean_over_members(make_store: Maker) -> None:
    one, other = query_of(make_store, 2), query_of(make_store, 9)
    slow = [float(np.dot(one[m].astype(float), other[m].astype(float))) for m in "pq"]
    assert cosine(one, other) == pytest.approx(sum(slow) / 2)
    assert cosine(one, other) == cosine(other, one)
    assert cosine(one, one) <= 1
    assert cosine(one, one) == pytest.approx(1)
