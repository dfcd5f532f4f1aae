"""Songs in chunks: which segments make one, by hand, and members on different grids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embedder.inference.aggregate import song_embedding
from embedder.inference.store import Store
from ensemble.fusion.fit import MAX_CHUNKS, in_chunks

Maker = Callable[..., Store]


def starting(store: Store, starts: list[float]) -> dict[str, np.ndarray]:
    """The same starts, s, for each of the store's songs."""
    return {"segment_start_s": np.tile(np.array(starts, np.float32), len(store.song_ids))}


def made(make_store: Maker, member: str, starts: list[float], **changes: object) -> Store:
    plain = make_store(member, "validation", segments=len(starts))
    return make_store(
        member, "validation", segments=len(starts), **starting(plain, starts), **changes
    )


def test_segments_that_begin_within_three_seconds_are_one_chunk(make_store: Maker) -> None:
    store = made(make_store, "good", [0, 1.5, 3, 4.5, 6.5])
    (cut,), songs = in_chunks([store])
    count = len(store.song_ids)
    assert songs.tolist() == [song for song in range(count) for _ in range(3)]
    assert cut.segment_song.tolist()[:7] == [0, 0, 1, 1, 2, 3, 3]
    assert cut.song_ids[:4] == (
        *[f"{store.song_ids[0]} {n}" for n in range(3)],
        f"{store.song_ids[1]} 0",
    )
    assert cut.labels.tolist() == store.labels[songs].tolist()
    assert cut.albums == tuple(store.albums[song] for song in songs)
    np.testing.assert_array_equal(cut.embeddings[1], song_embedding(store.segment_embeddings[2:4]))
    np.testing.assert_array_equal(cut.segment_logits, store.segment_logits)


def test_voice_weighs_within_a_chunk(make_store: Maker) -> None:
    plain = made(make_store, "good", [0, 1, 3])
    weight = np.tile(np.array([1.0, 0.25, 0.0], np.float32), len(plain.song_ids))
    store = made(make_store, "good", [0, 1, 3], segment_weight=weight)
    (cut,), _ = in_chunks([store])
    expected = song_embedding(store.segment_embeddings[:2], weight[:2])
    np.testing.assert_array_equal(cut.embeddings[0], expected)
    np.testing.assert_array_equal(cut.embeddings[1], store.segment_embeddings[2])  # without voice


def test_a_chunk_counts_only_where_all_members_hear_it(make_store: Maker) -> None:
    often = made(make_store, "good", [0, 2, 4, 6, 8])  # chunks 0, 0, 1, 2, 2
    seldom = made(make_store, "fair", [0, 4, 13])  # chunks 0, 1, 4
    cut, songs = in_chunks([often, seldom])
    assert cut[0].song_ids == cut[1].song_ids
    assert songs.tolist() == [song for song in range(len(often.song_ids)) for _ in range(2)]
    assert cut[0].segment_song.tolist()[:6] == [0, 0, 1, 2, 2, 3]
    assert cut[1].segment_song.tolist()[:4] == [0, 1, 2, 3]
    np.testing.assert_array_equal(cut[1].embeddings[1], seldom.segment_embeddings[1])


def test_of_a_long_song_so_many_chunks_are_taken_evenly(make_store: Maker) -> None:
    """And of a short one all; members stay in step."""
    starts = [3.0 * number for number in range(100)]
    two = np.array([0, 50])
    long, other = (made(make_store, member, starts).take(two) for member in ("good", "fair"))
    cut, songs = in_chunks([long, other])
    assert songs.tolist() == [0] * MAX_CHUNKS + [1] * MAX_CHUNKS
    assert cut[0].song_ids == cut[1].song_ids
    taken = [int(name.rsplit(" ", 1)[1]) for name in cut[0].song_ids[:MAX_CHUNKS]]
    assert taken[0] == 0
    assert taken[-1] == 99
    assert set(np.diff(taken)) <= {4, 5}
    np.testing.assert_array_equal(cut[1].embeddings[:MAX_CHUNKS], other.segment_embeddings[taken])
    short = made(make_store, "good", starts[: MAX_CHUNKS - 1]).take(two)
    np.testing.assert_array_equal(
        in_chunks([short])[1], [0] * (MAX_CHUNKS - 1) + [1] * (MAX_CHUNKS - 1)
    )
