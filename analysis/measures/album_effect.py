"""The album effect: how much of what makes two songs near is the album rather than the singer.

From song embeddings of the training songs: who the nearest other songs are, against chance and
against the singer's other albums, how well a probe names the album, and what an album split costs
against a song split. That an album's songs are alike in sound, band and production, and that this
helps to name a singer where it should not, is known since Whitman, Flake & Lawrence (2001) and Kim,
Williamson & Pilli (2006).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import read_json
from embedder.errors import UserError
from embedder.statistics import (
    Estimate,
    Statistic,
    bootstrap_interval,
    mean_of,
    paired_difference,
    unpaired_difference,
)

DEPTH = 10  # neighbours of each song
BLOCK = 1024  # songs compared with all others at a time
FOLDS = 5

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AlbumSongs:
    """Songs whose singer and album are known."""

    vectors: NDArray[np.float32]  # (songs, dim), unit length
    singers: Rows  # (songs,)
    albums: Rows  # (songs,), each of one singer


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Who the nearest other songs are, song by song."""

    same_album: NDArray[np.bool_]  # (songs, depth), nearest first
    same_singer: NDArray[np.bool_]  # (songs, depth), of whatever album
    chance_album: NDArray[np.float64]  # (songs,), share of the other songs that are of the album
    chance_singer: NDArray[np.float64]  # (songs,), of the singer
    singer_apart: NDArray[np.bool_]  # (songs,), the nearest song of another album is the singer's
    albums: Rows  # (songs,), which are resampled


@dataclass(frozen=True)
class AlbumEffect:
    """What `Neighbourhood` comes to, as shares of the songs."""

    songs: int
    album: Estimate  # the nearest other song is of the same album
    album_chance: float
    voice_chance: float  # it would be, if among the singer's songs each were as near
    production: Estimate  # of the nearest songs of the same singer, the part beyond that, up to 1
    singer: Estimate  # the nearest other song is of the same singer
    singer_apart: Estimate  # the nearest song of another album is
    lost: Estimate  # singer_apart − singer


@dataclass(frozen=True)
class Probe:
    """How well albums are told from embeddings of songs that the probe was not fitted to."""

    songs: int
    albums: int
    right: Estimate  # share of songs whose album is named, among all albums
    chance: float  # if the largest album were always named
    own_songs: int  # songs of singers with several albums
    own: Estimate  # of these, among the albums of the song's own singer
    own_chance: float  # if the singer's largest album were always named


def usable(songs: AlbumSongs) -> bool:
    """Whether there is an album of two songs whose singer has another album."""
    _, first, sizes = np.unique(songs.albums, return_index=True, return_counts=True)
    albums_of = np.bincount(songs.singers[first])
    return bool(np.any((sizes > 1) & (albums_of[songs.singers[first]] > 1)))


def neighbourhood(songs: AlbumSongs, depth: int = DEPTH) -> Neighbourhood:
    """The `depth` nearest other songs of each, by cosine; a song is no neighbour of its own."""
    count = len(songs.vectors)
    depth = min(depth, count - 1)
    near, apart = np.zeros((count, depth), dtype=np.int64), np.zeros(count, dtype=np.int64)
    for low in range(0, count, BLOCK):
        part = np.arange(low, min(low + BLOCK, count))
        cosines = songs.vectors[part] @ songs.vectors.T
        cosines[np.arange(len(part)), part] = -np.inf
        near[part] = np.argsort(-cosines, axis=1, kind="stable")[:, :depth]
        cosines[songs.albums[part][:, None] == songs.albums] = -np.inf
        apart[part] = cosines.argmax(axis=1)
    of_album, of_singer = (np.bincount(one)[one] - 1 for one in (songs.albums, songs.singers))
    return Neighbourhood(
        songs.albums[near] == songs.albums[:, None],
        songs.singers[near] == songs.singers[:, None],
        of_album / (count - 1),
        of_singer / (count - 1),
        songs.singers[apart] == songs.singers,
        songs.albums,
    )


def album_effect(found: Neighbourhood, seed: int = 0) -> AlbumEffect:
    """The shares, with intervals over albums.

    Production: of the songs whose nearest is by the same singer, let p be the share whose nearest
    is of the same album, and q what it would be if the singer's other songs were all as near, the
    mean of (album's other songs) / (singer's other songs). Then it is (p − q) / (1 − q), as Cohen's
    kappa corrects for chance: 0 if albums do not matter, 1 if nothing but albums does. It is an
    upper limit, for a singer's voice also changes from album to album.
    """
    album, singer = found.same_album[:, 0], found.same_singer[:, 0]
    songs = len(album)
    apart, groups = found.singer_apart, found.albums
    return AlbumEffect(
        songs,
        bootstrap_interval(mean_of(album), songs, seed, groups),
        float(found.chance_album.mean()),
        float(within(found).mean()),
        bootstrap_interval(production_of(found), songs, seed, groups, (-np.inf, 1.0)),
        bootstrap_interval(mean_of(singer), songs, seed, groups),
        bootstrap_interval(mean_of(apart), songs, seed, groups),
        paired_difference(mean_of(apart), mean_of(singer), songs, seed, groups, 1.0),
    )


def within(found: Neighbourhood) -> NDArray[np.float64]:
    """Share of the singer's other songs that are of the same album (songs,), 0 if there is none."""
    chance = found.chance_singer
    return np.divide(found.chance_album, chance, out=np.zeros_like(chance), where=chance > 0)


def production_of(found: Neighbourhood) -> Statistic:
    """The statistic `AlbumEffect.production`; NaN where no nearest song is by the same singer."""
    near = found.same_singer[:, 0].astype(np.float64)
    album = found.same_album[:, 0].astype(np.float64)
    expected = within(found) * near

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        of, p, q = (weights @ values for values in (near, album, expected))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((p - q) / (of - q))

    return statistic


def probe(songs: AlbumSongs, seed: int = 0) -> Probe | None:
    """Multinomial logistic regression of the album on the embedding, cross-validated by song.

    Of albums with two songs or more; folds hold as equal a share of each album as can be. None if
    no singer has two such albums.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _, number, sizes = np.unique(songs.albums, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(sizes[number] > 1)
    names, albums = np.unique(songs.albums[kept], return_inverse=True)
    if len(names) < 2:
        return None
    singers, vectors = songs.singers[kept], songs.vectors[kept]
    folds = min(FOLDS, int(np.bincount(albums).min()))
    scores = np.zeros((len(kept), len(names)))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        # The last digits of a probe's weights do not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for fitted, asked in StratifiedKFold(folds, shuffle=True, random_state=seed).split(
            vectors, albums
        ):
            model.fit(vectors[fitted], albums[fitted])
            scores[asked] = model.predict_log_proba(vectors[asked])
    owner = np.zeros(len(names), dtype=np.int64)
    owner[albums] = singers
    many = np.bincount(albums)
    rows = np.flatnonzero(np.bincount(owner)[singers] > 1)
    if not len(rows):
        return None
    own = np.where(owner[None] == singers[rows, None], scores[rows], -np.inf).argmax(axis=1)
    largest = sum(int(many[owner == singer].max()) for singer in np.unique(singers[rows]))
    return Probe(
        len(kept),
        len(names),
        bootstrap_interval(mean_of(scores.argmax(axis=1) == albums), len(kept), seed, albums),
        float(many.max() / len(kept)),
        len(rows),
        bootstrap_interval(mean_of(own == albums[rows]), len(rows), seed, albums[rows]),
        largest / len(rows),
    )


SPLITS = ("song", "album")


@dataclass(frozen=True)
class Gap:
    """One member's share of songs right under both rules."""

    member: str
    segment_s: float
    seed: int
    measured_on: str  # split of the songs
    songs: tuple[int, int]  # under the song and the album split
    song: Estimate
    album: Estimate
    lost: Estimate  # album − song


def split_gaps(rows: Path) -> list[Gap]:
    """Of all rows that have a partner under the other rule, largest loss first."""
    found: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for path in sorted(rows.glob("*.json")):
        row = read_json(path)
        try:
            if row["split"] in SPLITS:
                key = row["member"], float(row["segment_s"]), int(row["seed"])
                found.setdefault(key, {})[row["split"]] = row
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is no row of a benchmark ({error!r}); delete it") from None
    pairs = [pair for pair in found.values() if len(pair) == len(SPLITS)]
    gaps = [_gap(*(pair[split] for split in SPLITS)) for pair in pairs]
    return sorted(gaps, key=lambda gap: gap.lost.value)


def _gap(by_song: dict[str, Any], by_album: dict[str, Any]) -> Gap:
    song, album = (
        Estimate(float(row["accuracy"]), float(row["low"]), float(row["high"]))
        for row in (by_song["song"], by_album["song"])
    )
    return Gap(
        str(by_song["member"]),
        float(by_song["segment_s"]),
        int(by_song["seed"]),
        str(by_album["measured_on"]),
        (int(by_song["song"]["count"]), int(by_album["song"]["count"])),
        song,
        album,
        unpaired_difference(album, song),
    )
