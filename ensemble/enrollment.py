"""Recordings of a singer, made ready for the index.

Input: a name, files, and stores of them, batch after batch. Output: ids and albums, `NewSong` for
each recording, and which of them the run has already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.text import composed, name_problem, spelled_alike
from ensemble.index.members import MemberIndex
from ensemble.index.similarity import SAME_RECORDING
from ensemble.open_set import UNKNOWN


def singer_named(name: str, singers: Sequence[str]) -> str:
    """The singer whom a name means: one of `singers` in whatever Unicode form, or a new one.

    Raises `UserError` for a name that `prepare` would refuse too, and for the one that stands for
    nobody.
    """
    singer = composed(name.strip())
    if problem := name_problem(singer):
        raise UserError(f"--singer needs another name: {name!r} {problem}")
    if singer == UNKNOWN:
        raise UserError(f"--singer {UNKNOWN} is what predictions call nobody; choose another name")
    return next((known for known in singers if composed(known) == singer), singer)


def spelled_like(singer: str, singers: Sequence[str]) -> list[str]:
    """Those of other singers whose names differ in case, form or spaces only."""
    alike = spelled_alike([singer, *singers])
    return [other for group in alike if singer in group for other in group if other != singer]


def enrolled_ids(singer: str, names: Sequence[str], folder: Path) -> list[str]:
    """The recordings' song ids, "singer/album/title".

    `names` are posix paths below `folder`, without suffix; its own name is the album of those that
    lie in no other. Raises `UserError` for a name that `prepare` would refuse.
    """
    own = folder.resolve().name
    ids = [name if "/" in name else f"{own}/{name}" for name in names]
    for ident in ids:
        if problem := next(filter(None, map(name_problem, ident.split("/"))), ""):
            raise UserError(f"the name {ident!a} {problem}; rename the file or its folder")
    return [composed(f"{singer}/{ident}") for ident in ids]


def album_of(song_id: str) -> str:
    """The "singer/album" of a song id that `enrolled_ids` made."""
    return song_id.rpartition("/")[0]


class AlreadyEnrolledError(UserError):
    """A recording is in the index already."""


def check_new(song_ids: Sequence[str], index: MemberIndex) -> None:
    """Raise `UserError` if one of the songs is in the index, before any work is done."""
    label = dict(zip(index.song_ids, index.labels.tolist(), strict=True))
    there = [one for one in song_ids if one in label]
    if there:
        raise AlreadyEnrolledError(
            f"{len(there)} of {len(song_ids)} songs are in the index already, such as {there[0]} "
            f"of {index.singers[label[there[0]]]}"
        )


def title_of(name: str) -> str:
    """A recording's name from outside as a title: no folders, no suffix, one short line."""
    title = PurePosixPath(name.replace("\\", "/")).stem
    kept = "".join(letter for letter in title if letter.isprintable()).strip()[:60].strip()
    return kept or "recording"


def copies_of(
    embeddings: Mapping[str, NDArray[np.float32]], others: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.int64]:
    """For each song (songs,) the row of the other that is the same recording; -1 where none is.

    Both are member → unit embeddings (songs, dim), of the same members.
    """
    cosines = [embeddings[name].astype(np.float64) @ other.T for name, other in others.items()]
    means = np.mean(cosines, axis=0)
    if means.shape[1] == 0:
        return np.full(len(means), -1)
    best = means.argmax(axis=1)
    same = means[np.arange(len(means)), best] > SAME_RECORDING
    return np.where(same, best, -1)
