"""Songs cut into chunks, where experts still make the mistakes that weights are learnt from.

Each chunk of a few seconds becomes a song of its own. Whole songs of known singers may all be
right, and then say nothing about which expert to trust when the singer is hard to make out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from embedder.inference.aggregate import song_embedding
from embedder.inference.store import Store

CHUNK_S = 3.0  # segments that begin within so many seconds are one chunk
MAX_CHUNKS = 24  # of a song, evenly taken: more teach no more, and take longer


def in_chunks(
    stores: Sequence[Store], seconds: float = CHUNK_S
) -> tuple[list[Store], NDArray[np.int64]]:
    """The same stores with chunks for songs, and the song (chunks,) from which each chunk is.

    A chunk is what begins between two multiples of `seconds`. Members may embed songs on different
    grids; a chunk counts only where all of them have a segment. Of a long song `MAX_CHUNKS` are
    taken.
    """
    numbers = [_numbers(store, seconds) for store in stores]
    common = sorted(set.intersection(*[set(map(tuple, each.tolist())) for each in numbers]))
    common = _thinned(common)
    songs = np.array([song for song, _ in common], dtype=np.int64)
    cut = [_cut(store, each, common) for store, each in zip(stores, numbers, strict=True)]
    return cut, songs


def _thinned(chunks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found = []
    for _, group in groupby(chunks, key=itemgetter(0)):
        mine = list(group)
        rows = np.linspace(0, len(mine) - 1, min(MAX_CHUNKS, len(mine))).round().astype(np.int64)
        found += [mine[row] for row in rows]
    return found


def _numbers(store: Store, seconds: float) -> NDArray[np.int64]:
    """Each segment's song, and which of the song's chunks it begins in: (segments, 2)."""
    chunk = (store.segment_start_s.astype(np.float64) // seconds).astype(np.int64)
    return np.stack([store.segment_song, chunk], axis=1)


def _cut(store: Store, numbers: NDArray[np.int64], common: list[tuple[int, int]]) -> Store:
    place = {chunk: number for number, chunk in enumerate(common)}
    owner = np.array([place.get((song, chunk), -1) for song, chunk in numbers.tolist()])
    kept = np.flatnonzero(owner >= 0)
    owner = owner[kept]
    embeddings = store.segment_embeddings[kept]
    weights = store.segment_weight[kept]
    bounds = np.searchsorted(owner, np.arange(len(common) + 1))
    parts = [slice(first, end) for first, end in pairwise(bounds)]
    songs = [song for song, _ in common]
    return replace(
        store,
        song_ids=tuple(f"{store.song_ids[song]} {chunk}" for song, chunk in common),
        albums=tuple(store.albums[song] for song in songs),
        labels=store.labels[songs],
        embeddings=np.stack([song_embedding(embeddings[part], weights[part]) for part in parts]),
        segment_song=owner,
        segment_start_s=store.segment_start_s[kept],
        segment_embeddings=embeddings,
        segment_logits=None if store.segment_logits is None else store.segment_logits[kept],
        segment_weight=weights,
    )
