"""What an index keeps of a song, and an index made of a store: only labelled training songs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.index.members import (
    SEGMENTS_KEPT,
    MemberIndex,
    as_unit,
    check_index,
    halves,
    index_of,
    kept_segments,
    songs_of,
)

Maker = Callable[..., Store]


@pytest.fixture
def store(make_store: Maker) -> Store:
    return make_store("m", "train", segments=40, singers=3, albums=2, songs=2)


@pytest.fixture
def index(store: Store) -> MemberIndex:
    return index_of(store)


def test_songs_and_segments_find_themselves(store: Store, index: MemberIndex) -> None:
    assert (index.member, index.checkpoint, index.known) == ("m", "m-1", 3)
    assert (index.singers, index.song_ids, index.albums) == (
        store.singers,
        store.song_ids,
        store.albums,
    )
    near, rows = index.songs.search(store.embeddings, 1)
    np.testing.assert_array_equal(rows[:, 0], np.arange(12))
    np.testing.assert_allclose(near[:, 0], 1, atol=1e-6)
    # What is kept of a song is found at the song's own place, as one of its segments.
    assert len(index.segments) == 12 * SEGMENTS_KEPT
    near, rows = index.segments.search(store.segment_embeddings, 1)
    same = near[:, 0] > 1 - 1e-6
    assert same.sum() == len(index.segments)
    np.testing.assert_array_equal(index.segment_song[rows[same, 0]], store.segment_song[same])
    np.testing.assert_array_equal(
        index.segment_labels, [index.labels[song] for song in index.segment_song]
    )


def test_the_segments_index_is_of_the_kind_asked_for(store: Store) -> None:
    index = index_of(store, "hnsw")
    assert (index.songs.kind, index.segments.kind) == ("flat", "hnsw")


def test_only_labelled_training_songs_can_be_indexed(make_store: Maker, store: Store) -> None:
    with pytest.raises(ValueError, match="need training songs, not 96 of 'validation'"):
        index_of(make_store("m", "validation"))
    with pytest.raises(ValueError, match="need training songs, not 0 of 'train'"):
        index_of(make_store("m", "train").take(np.zeros(0, np.int64)))
    with pytest.raises(ValueError, match="a training song has no label"):
        index_of(replace(store, labels=np.where(store.labels == 1, -1, store.labels)))


def test_a_known_song_is_no_query(index: MemberIndex) -> None:
    index.check_apart(["x", "y"])
    with pytest.raises(ValueError, match="2 songs are also in the index, such as singer 0/train0"):
        index.check_apart(["x", "singer 1/train0/0.wav", "singer 0/train0/1.wav"])


def test_an_index_of_another_checkpoint_or_other_singers_is_refused(
    store: Store, index: MemberIndex
) -> None:
    check_index(index, "m-1", store.singers)
    check_index(replace(index, singers=(*store.singers, "enrolled")), "m-1", store.singers)
    with pytest.raises(UserError, match=r"checkpoint m-1, but .* now m-2; run again: python app"):
        check_index(index, "m-2", store.singers)
    for others in (store.singers[:2], store.singers[::-1], (*store.singers, "enrolled")):
        with pytest.raises(UserError, match=r"knows 3 singers in another order or spelling than"):
            check_index(index, "m-1", others)


def places(segments: int, weight: Sequence[float] | None = None) -> list[int]:
    return kept_segments(np.array(weight or [0.5] * segments, np.float32)).tolist()


@pytest.mark.parametrize("segments", [1, 5, 15, 16])
def test_a_song_of_few_segments_keeps_them_all(segments: int) -> None:
    assert places(segments) == list(range(segments))


@pytest.mark.parametrize("segments", [17, 31, 32, 33, 100, 999])
def test_a_long_song_keeps_one_segment_of_each_of_sixteen_parts(segments: int) -> None:
    kept = places(segments)
    assert len(kept) == SEGMENTS_KEPT == 16
    for part, place in enumerate(kept):  # each lies around the middle of its part
        assert abs(place + 0.5 - (part + 0.5) * segments / 16) <= 0.5 + 1e-9
    assert kept == sorted(set(kept))


def test_instrumental_segments_do_not_vote() -> None:
    """Of 40 segments every other is sung; of 20 sung ones sixteen are kept, from all over."""
    kept = np.array(places(40, [0.1, 0.8] * 20))
    assert len(kept) == SEGMENTS_KEPT
    assert (kept % 2 == 1).all()
    assert kept[0] < 4
    assert kept[-1] > 35
    assert places(10, [0.9, 0.0, 0.3, 0.2, 0.0, 0.6, 0.1, 0.5, 0.2, 0.7]) == [0, 2, 5, 7, 9]


def test_a_song_without_voice_keeps_its_few_best_segments() -> None:
    assert places(9, [0.0, 0.05, 0.1, 0.0, 0.2, 0.0, 0.9, 0.0, 0.0]) == [1, 2, 4, 6]
    assert places(9, [0.0] * 9) == list(range(9))
    assert places(3, [0.0, 0.1, 0.0]) == [0, 1, 2]


def test_half_precision_costs_an_embedding_next_to_nothing() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 192))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    kept = halves(rows)
    assert kept.nbytes * 2 == rows.nbytes
    back = as_unit(kept)
    lengths = np.linalg.norm(back.astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    assert (back * rows).sum(axis=1).min() > 1 - 1e-6
    # A value is rounded to 11 binary digits.
    assert np.abs(kept.astype(np.float64) - rows).max() <= 2.0**-11
    # The same rows, alone or in company, give the same bits.
    np.testing.assert_array_equal(as_unit(kept[7:8])[0], back[7])


def test_songs_carry_what_each_member_embedded(make_store: Maker) -> None:
    one, other = make_store("one", "train", segments=3), make_store("other", "train", segments=25)
    songs = songs_of([one, other])
    assert [song.song_id for song in songs] == list(one.song_ids)
    assert [song.album for song in songs] == list(one.albums)
    for place, song in enumerate(songs):
        for store in (one, other):
            rows = store.segment_embeddings[store.segment_song == place]
            kept = kept_segments(np.ones(len(rows), np.float32))
            found = song.by_member[store.member]
            np.testing.assert_array_equal(found.embedding, store.embeddings[place])
            np.testing.assert_array_equal(found.segment_embeddings, rows[kept])


def test_members_of_other_songs_have_none_in_common(make_store: Maker) -> None:
    one = make_store("one", "train")
    for changes in ({"songs": 2}, {"albums": 3}):
        with pytest.raises(ValueError, match="'one' and 'other' have stores of other songs"):
            songs_of([one, make_store("other", "train", **changes)])
    with pytest.raises(ValueError, match="need the store of a member"):
        songs_of([])
