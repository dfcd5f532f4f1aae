"""An index straight from a store: thinned like the table's, and only of labelled training songs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.index.members import MemberIndex, check_index, index_of
from ensemble.index.songs import SEGMENTS_KEPT

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
