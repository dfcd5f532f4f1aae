"""The songs of the index that are most like a recording.

A recording as each member embedded it, and the members' indexes, give its nearest songs,
`SimilarSong`, most alike first. The search is exact: all songs are compared, whatever the index's
kind, because the mean over members is no vector that one index could be searched for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.inference.store import AGAIN, Store
from embedder.text import composed
from ensemble.index.members import MemberIndex

SAME_RECORDING = 0.9999  # cosine from which two recordings are taken to be one


@dataclass(frozen=True)
class SimilarSong:
    """A song of the index beside a recording."""

    singer: str
    album: str  # as its folder is named; "" where unknown
    song: str  # its file's name, without folder and suffix
    song_id: str  # as it stands in the index
    similarity: float  # mean over members of the cosine, -1 to 1
    same_recording: bool  # it is the recording itself, or an exact copy


def cosine(
    one: Mapping[str, NDArray[np.floating[Any]]], other: Mapping[str, NDArray[np.floating[Any]]]
) -> float:
    """Mean over members of the cosine between two recordings' unit embeddings (dim,), -1 to 1."""
    found = np.mean([one[name].astype(np.float64) @ other[name] for name in one])
    return float(np.clip(found, -1.0, 1.0))


def similar_songs(
    embeddings: Mapping[str, NDArray[np.float32]],
    indexes: Mapping[str, MemberIndex],
    top: int,
    path: str = "",
) -> list[SimilarSong]:
    """The `top` songs (all, if there are fewer) most like a recording; equal ones in index order.

    `embeddings`: member → unit embedding (dim,). `path`, with slashes, tells the recording from a
    copy of it: a song of the index whose id the path ends with is the recording itself. Raises
    `UserError` if the members' indexes hold different songs.
    """
    first = indexes[next(iter(embeddings))]
    for name in embeddings:
        other = indexes[name]
        if other.song_ids != first.song_ids or other.singers != first.singers:
            raise UserError(
                f"members {first.member} and {name} have other songs in their index; {AGAIN}"
            )
    # One recording at a time, summed in a fixed order: its answer depends on nothing else.
    cosines = [indexes[name].embeddings @ query for name, query in embeddings.items()]
    means = np.clip(np.mean(cosines, axis=0, dtype=np.float64), -1.0, 1.0)
    order = np.argsort(-means, kind="stable")[:top]
    return [_song(first, int(row), float(means[row]), path) for row in order]


def _song(index: MemberIndex, row: int, similarity: float, path: str) -> SimilarSong:
    song_id, singer = index.song_ids[row], index.singers[index.labels[row]]
    # A bare file name is shared by many recordings, a path with folders is not.
    named = "/" in song_id and f"/{composed(path)}".endswith(f"/{composed(song_id)}")
    return SimilarSong(
        singer=singer,
        album=index.albums[row].removeprefix(f"{singer}/"),
        song=PurePosixPath(song_id).stem,
        song_id=song_id,
        similarity=similarity,
        same_recording=named or similarity > SAME_RECORDING,
    )


def embeddings_of(stores: Sequence[Store], song: int) -> dict[str, NDArray[np.float32]]:
    """Member → embedding (dim,) of one song of the members' stores."""
    return {store.member: store.embeddings[song] for store in stores}
