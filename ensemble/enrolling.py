"""Recordings of a singer, made ready for the index, and what an enlarged index costs.

Enters: stores of the recordings, batch after batch. Leaves: `NewSong` for each; and the known
singers' metrics without and with those who were enrolled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from embedder.errors import UserError
from embedder.metrics import (
    Estimate,
    bootstrap_interval,
    mean_of,
    paired_difference,
    song_nll,
    song_score,
    top_k_hits,
)
from embedder.store import Store
from ensemble.apply import predict_songs
from ensemble.experts import FUSED
from ensemble.fusion import Fusion
from ensemble.index.members import MemberIndex
from ensemble.index.songs import NewSong, songs_of
from ensemble.unknown import UNKNOWN


@dataclass(frozen=True)
class Cost:
    """One metric of the known singers' songs."""

    name: str
    before: Estimate  # as if nobody had been enrolled
    after: Estimate
    change: Estimate  # after − before, on the same resamples


def check_name(singer: str) -> None:
    """Raise `UserError` for a name that no prediction file could hold."""
    if not singer or singer != singer.strip() or any(ord(letter) < 32 for letter in singer):
        raise UserError("--singer needs a name of one line")
    if singer == UNKNOWN:
        raise UserError(f"--singer {UNKNOWN} is what predictions call nobody; choose another name")


def album_names(ids: Sequence[str], singer: str) -> list[str]:
    """Each recording's album, "singer/folder"; recordings in no folder are one album."""
    parents = [PurePosixPath(one).parent.as_posix() for one in ids]
    return [parent if parent != singer else f"{singer}/enrolled" for parent in parents]


def enrolled_from(batches: Iterable[Sequence[Store]], albums: Sequence[str]) -> list[NewSong]:
    """What all members heard in the recordings; `albums` in the order of the batches' songs."""
    songs: list[NewSong] = []
    for stores in batches:
        mine = tuple(albums[len(songs) : len(songs) + len(stores[0].song_ids)])
        songs += songs_of([replace(store, albums=mine) for store in stores])
    return songs


def costs(
    fusion: Fusion,
    stores: Sequence[Store],
    indexes: Mapping[str, MemberIndex],
    seed: int = 0,
) -> list[Cost]:
    """Top-1, top-3, score and NLL of known singers' songs, without and with the enrolled ones."""
    labels, known = stores[0].labels, len(fusion.singers)
    after = predict_songs(fusion, stores, indexes).scores[FUSED]
    before = predict_songs(fusion, stores, {n: trained_only(i) for n, i in indexes.items()})
    songs, rows = len(labels), []
    pair = (before.scores[FUSED][:, :known], after)
    for name, metric in (
        ("top-1", lambda logs: top_k_hits(labels, logs, 1)),
        ("top-3", lambda logs: top_k_hits(labels, logs, 3)),
        ("score", lambda logs: song_score(labels, logs)),
        ("NLL", lambda logs: song_nll(labels, logs)),
    ):
        first, second = (mean_of(np.asarray(metric(logs))) for logs in pair)
        rows.append(
            Cost(
                name,
                bootstrap_interval(first, songs, seed),
                bootstrap_interval(second, songs, seed),
                paired_difference(second, first, songs, seed),
            )
        )
    return rows


def trained_only(index: MemberIndex) -> MemberIndex:
    """The index without the singers who were enrolled; songs of known singers stay."""
    return replace(index, singers=index.singers[: index.known])
