"""What is kept of a song: segments from all over it, each close to what it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from embedder.inference.store import Store
from ensemble.index.songs import SEGMENTS_KEPT, Heard, as_unit, halves, songs_of, thinned


def heard(segments: int, dim: int = 12, weight: Sequence[float] | None = None) -> Heard:
    rows = np.random.default_rng(segments).normal(size=(segments, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    starts = np.arange(segments, dtype=np.float32)
    weights = np.array(weight or [0.5] * segments, np.float32)
    return Heard(np.eye(dim, dtype=np.float32)[0], starts, weights, rows.astype("f4"))


@pytest.mark.parametrize("segments", [1, 5, 15, 16])
def test_a_song_of_few_segments_keeps_them_all(segments: int) -> None:
    song = heard(segments)
    assert thinned(song) is song


@pytest.mark.parametrize("segments", [17, 31, 32, 33, 100, 999])
def test_a_long_song_keeps_one_segment_of_each_of_sixteen_parts(segments: int) -> None:
    song = heard(segments)
    kept = thinned(song)
    places = kept.segment_start_s.astype(int)
    assert len(places) == SEGMENTS_KEPT == 16
    for part, place in enumerate(places):  # each lies around the middle of its part
        assert abs(place + 0.5 - (part + 0.5) * segments / 16) <= 0.5 + 1e-9
    assert list(places) == sorted(set(places))
    np.testing.assert_array_equal(kept.segment_embeddings, song.segment_embeddings[places])
    np.testing.assert_array_equal(kept.segment_weight, song.segment_weight[places])
    np.testing.assert_array_equal(kept.embedding, song.embedding)


def test_instrumental_segments_do_not_vote() -> None:
    """Of 40 segments every other is sung; of 20 sung ones sixteen are kept, from all over."""
    places = thinned(heard(40, weight=[0.1, 0.8] * 20)).segment_start_s.astype(int)
    assert len(places) == SEGMENTS_KEPT
    assert (places % 2 == 1).all()
    assert places[0] < 4
    assert places[-1] > 35
    few = thinned(heard(10, weight=[0.9, 0.0, 0.3, 0.2, 0.0, 0.6, 0.1, 0.5, 0.2, 0.7]))
    assert few.segment_start_s.tolist() == [0, 2, 5, 7, 9]


def test_a_song_without_voice_keeps_its_few_best_segments() -> None:
    kept = thinned(heard(9, weight=[0.0, 0.05, 0.1, 0.0, 0.2, 0.0, 0.9, 0.0, 0.0]))
    assert kept.segment_start_s.tolist() == [1, 2, 4, 6]
    voiceless = heard(9, weight=[0.0] * 9)
    assert thinned(voiceless) is voiceless
    short = heard(3, weight=[0.0, 0.1, 0.0])
    assert thinned(short) is short


def test_half_precision_costs_an_embedding_next_to_nothing() -> None:
    rows = heard(500, dim=192).segment_embeddings
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


def test_songs_carry_what_each_member_heard(make_store: Callable[..., Store]) -> None:
    one, other = make_store("one", "train", segments=3), make_store("other", "train", segments=5)
    songs = songs_of([one, other])
    assert [song.song_id for song in songs] == list(one.song_ids)
    assert [song.album for song in songs] == list(one.albums)
    for place, song in enumerate(songs):
        for store in (one, other):
            mine = store.segment_song == place
            got = song.heard[store.member]
            np.testing.assert_array_equal(got.embedding, store.embeddings[place])
            np.testing.assert_array_equal(got.segment_embeddings, store.segment_embeddings[mine])
            np.testing.assert_array_equal(got.segment_start_s, store.segment_start_s[mine])
            np.testing.assert_array_equal(got.segment_weight, store.segment_weight[mine])


def test_members_that_heard_other_songs_have_none_in_common(
    make_store: Callable[..., Store],
) -> None:
    one = make_store("one", "train")
    for changes in ({"songs": 2}, {"albums": 3}):
        with pytest.raises(ValueError, match="'one' and 'other' have stores of other songs"):
            songs_of([one, make_store("other", "train", **changes)])
    with pytest.raises(ValueError, match="need the store of a member"):
        songs_of([])
