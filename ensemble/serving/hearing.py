"""One recording as all members heard it, and each of its segments as if it were a recording.

Enters: stores of one song, one a member. Leaves: `Recording`, and stores in which every segment
stands as a song of its own, for an answer of what is heard when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embedder.inference.config import segment_s_of
from embedder.inference.store import Store


@dataclass(frozen=True, eq=False)
class Recording:
    """What there is of a recording once it was heard; its samples are gone."""

    seconds: float
    sound: str  # fingerprint of its samples
    stores: tuple[Store, ...]  # of one song, one store for each member that can hear it
    notes: tuple[str, ...] = ()  # what is to be known of how it was decoded, without full stops


Hear = Callable[[bytes], Recording]  # raises `UserError` in a sentence for what is no recording


def by_segment(stores: Sequence[Store]) -> list[Store]:
    """Stores whose songs are the segments of the first member's recording.

    Members whose segments lie at other places than the first one's are left out.
    """
    first = stores[0].segment_start_s
    alike = [
        store
        for store in stores
        if len(store.segment_start_s) == len(first)
        and np.allclose(store.segment_start_s, first, atol=1e-3)
    ]
    return [
        replace(
            store,
            song_ids=tuple(map(str, range(len(first)))),
            albums=("",) * len(first),
            labels=np.full(len(first), -1, dtype=np.int64),
            embeddings=store.segment_embeddings,
            segment_song=np.arange(len(first), dtype=np.int64),
        )
        for store in alike
    ]


def ends_of(store: Store, seconds: float) -> list[float]:
    """Where each segment of a recording of some length ends, in seconds.

    Where the length of a segment is not told, it ends where the next one begins.
    """
    length = segment_s_of(store.made_from)
    starts = [float(start) for start in store.segment_start_s]
    if length is not None:
        return [min(start + length, seconds) for start in starts]
    return [*starts[1:], seconds]
