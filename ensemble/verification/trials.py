"""Which pairs of songs a verification is measured on, and how alike the songs of each pair are.

A trial is a pair of songs of different albums, one of which at least is evaluated: a target trial
where one singer sings both, else a non-target one. Two songs of one album are no trial: the band
and the mastering would give the answer away. The other song of a pair may be a training song, which
is what a recording is compared with in use; but the networks were trained on it, and all singers
are known ones. Singers whom no network was trained on are harder to tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.errors import UserError
from embedder.inference.store import AGAIN, Store
from ensemble.fusion.experts import check_agreement

TRAINED = -1  # stands for the album of a training song


@dataclass(frozen=True, eq=False)
class Trials:
    """Pairs of songs; first those within the evaluated songs, then those with training songs."""

    evaluated: NDArray[np.int64]  # (trials,), row of the evaluated song in its store
    other: NDArray[np.int64]  # (trials,), row of the other song, in its own store
    trained: NDArray[np.bool_]  # (trials,), whether the other is a training song
    target: NDArray[np.bool_]  # (trials,), whether one singer sings both
    albums: NDArray[np.int64]  # (songs,), number of each evaluated song's album, from 0

    @property
    def album_pairs(self) -> NDArray[np.int64]:
        """Number of the album of either song (trials, 2); `TRAINED` for training songs."""
        other = np.full(len(self.other), TRAINED, dtype=np.int64)
        other[~self.trained] = self.albums[self.other[~self.trained]]
        return np.stack([self.albums[self.evaluated], other], axis=1)

    def problem(self) -> str:
        """Why nothing can be measured or fitted on these trials; empty if it can."""
        if not self.target.any():
            return "no singer has songs of two albums among the evaluated and the training songs"
        if self.target.all():
            return "no two of the evaluated and the training songs are of different singers"
        return ""


def trials_of(train: Store, evaluated: Store) -> Trials:
    """All trials of the evaluated songs, from any one member's stores.

    A pair of songs of one singer of which one has no known album is left out: the album might be
    the other's. Raises `UserError` if the stores number singers differently, `ValueError` if a song
    has no label or stands in both stores.
    """
    if train.singers != evaluated.singers:
        raise UserError(f"the {evaluated.split} store knows other singers than train; {AGAIN}")
    for store in (train, evaluated):
        if len(store.labels) and store.labels.min() < 0:
            raise ValueError(f"a song of the {store.split} store has no label")
    if shared := set(train.song_ids).intersection(evaluated.song_ids):
        raise ValueError(f"{len(shared)} songs are also training songs, such as {min(shared)}")
    first, second = np.triu_indices(len(evaluated.song_ids), 1)
    within = _apart(evaluated, evaluated)[first, second]
    first, second = first[within], second[within]
    third, fourth = np.nonzero(_apart(evaluated, train))
    _, albums = np.unique(np.array(evaluated.groups, dtype=np.str_), return_inverse=True)
    return Trials(
        evaluated=np.concatenate([first, third]).astype(np.int64),
        other=np.concatenate([second, fourth]).astype(np.int64),
        trained=np.arange(len(first) + len(third)) >= len(first),
        target=np.concatenate(
            [
                evaluated.labels[first] == evaluated.labels[second],
                evaluated.labels[third] == train.labels[fourth],
            ]
        ),
        albums=albums.astype(np.int64),
    )


def member_cosines(
    trials: Trials, train_stores: Sequence[Store], evaluated_stores: Sequence[Store]
) -> dict[str, NDArray[np.float64]]:
    """Member → cosine of the two songs' embeddings (trials,), -1 to 1.

    Raises `UserError` if the stores do not describe the same songs.
    """
    check_agreement(train_stores)
    check_agreement(evaluated_stores)
    trained = {store.member: store for store in train_stores}
    cosines = {}
    for store in evaluated_stores:
        songs = store.embeddings.astype(np.float64)
        found = np.empty(len(trials.target))
        for there, others in (
            (~trials.trained, songs),
            (trials.trained, trained[store.member].embeddings.astype(np.float64)),
        ):
            found[there] = (songs @ others.T)[trials.evaluated[there], trials.other[there]]
        cosines[store.member] = np.clip(found, -1.0, 1.0)
    return cosines


def _apart(store: Store, other: Store) -> NDArray[np.bool_]:
    """Which pairs (songs, other songs) may be trials: of other singers, or of other albums."""
    others_sing = store.labels[:, None] != other.labels[None]
    albums, other_albums = np.array(store.albums, np.str_), np.array(other.albums, np.str_)
    known = (albums != "")[:, None] & (other_albums != "")[None]
    shared = known & (albums[:, None] == other_albums[None])
    result: NDArray[np.bool_] = ~shared & (others_sing | known)
    return result
