"""What the listening page knows of a run beside its index: the finished map, and songs to play.

Enters: a run folder and the members that answer. Leaves: `RunContext`. All of it is read once;
where the maps are not drawn yet, or the songs are gone, there is less of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.excerpts import Wanted, excerpt_of, sung
from analysis.listening.recogniser import RunContext
from analysis.listening.schemas import MapPoint, Place
from analysis.maps import Cloud, cloud, together
from analysis.projections import FIRST, FittedMap, centred, place, read_map
from analysis.run_data import member_stores, song_title
from embedder.catalogue import read_catalogue
from embedder.errors import UserError
from embedder.inference.store import Store
from embedder.run import Run

AMONG = 1000  # songs of the map, the nearest ones, among which a recording is placed
PLAYED = 64  # excerpts that are kept once they were cut
SAME = 2e-3  # how far half precision may take a map's vectors from the stores'

Floats = NDArray[np.float32]


def surroundings(run: Run, members: Sequence[str]) -> RunContext:
    """What there is of the map and of the songs of a run."""
    try:
        stores = {name: member_stores(run, name) for name in sorted(members)}
    except UserError:
        return RunContext()
    playable = _songs_to_play(run, next(iter(stores.values())))

    @lru_cache(maxsize=PLAYED)
    def audio(song_id: str) -> bytes | None:
        return excerpt_of(run, playable[song_id]) if song_id in playable else None

    found = finished(run, stores)
    if found is None:
        return RunContext(playable=frozenset(playable), audio=audio)
    names, mapped = found
    which = min(
        range(len(mapped.perplexities)), key=lambda one: abs(mapped.perplexities[one] - FIRST)
    )
    points = mapped.points[which]

    def on_map(embeddings: Mapping[str, Floats]) -> Place | None:
        if any(name not in embeddings for name in names):
            return None  # a member did not hear it
        new = np.concatenate([embeddings[name] for name in names]) / len(names) ** 0.5
        x, y = place_one(mapped.vectors, points, new.astype(np.float32))
        return Place(x, y)

    on_map({name: stores[name][0].embeddings[0] for name in names})  # loads openTSNE now
    return RunContext(map_points(stores[names[0]], points), on_map, frozenset(playable), audio)


def finished(
    run: Run, stores: Mapping[str, Sequence[Store]]
) -> tuple[tuple[str, ...], FittedMap] | None:
    """The finished map of the members' songs, and whose it is; None where there is none.

    It is that of all members together; without it, that of the first member that has one.
    """
    names = tuple(stores)
    for group in [names] * (len(names) > 1) + [(name,) for name in names]:
        path = run.map("" if len(group) > 1 else group[0], "song")
        mapped = read_map(path)
        parts = together(_songs(stores[name]) for name in group)
        if (
            mapped is not None
            and parts is not None
            and mapped.vectors.shape == parts.vectors.shape
            and np.allclose(mapped.vectors, parts.vectors, atol=SAME)
        ):
            return group, mapped
    return None


def map_points(stores: Sequence[Store], points: NDArray[np.float64]) -> tuple[MapPoint, ...]:
    """The songs of a map, whose positions (songs, 2) are in the order of the stores."""
    found = []
    songs = ((store, row) for store in stores for row in range(len(store.song_ids)))
    for (store, row), (x, y) in zip(songs, points.tolist(), strict=True):
        label = int(store.labels[row])
        singer = store.singers[label] if label >= 0 else ""
        album = store.albums[row].removeprefix(f"{singer}/")
        found.append(MapPoint(x, y, singer, song_title(store.song_ids[row]), album))
    return tuple(found)


def place_one(vectors: Floats, points: NDArray[np.float64], new: Floats) -> tuple[float, float]:
    """Where a unit vector (dim,) lies on a finished map, as `fit.place` says it.

    On a map of many songs it is placed among the nearest of them alone: openTSNE's time grows with
    the songs, and those far away hardly move it.
    """
    rows = np.argsort(-(vectors @ new), kind="stable")[:AMONG]
    if len(rows) == len(vectors):
        x, y = place(vectors, points, new[None])[0]
        return float(x), float(y)
    rows = np.sort(rows)
    part = points[rows]
    moved = centred(part)
    x, y = place(vectors[rows], moved, new[None])[0] + (part[0] - moved[0])
    return float(x), float(y)


def _songs(stores: Sequence[Store]) -> Cloud:
    return cloud(stores, "song", lambda songs: np.arange(len(songs)))


def _songs_to_play(run: Run, stores: Sequence[Store]) -> dict[str, Wanted]:
    """The songs whose files or decoded samples are there, from where most is sung."""
    if not run.catalogue.is_file():
        return {}
    catalogue = {song.id: song for song in read_catalogue(run.catalogue).songs}
    found = {}
    for store in stores:
        for song_id, start in zip(store.song_ids, sung(store), strict=True):
            song = catalogue.get(song_id)
            if song and (run.decoded(song.audio).is_file() or Path(song.path).is_file()):
                found[song_id] = Wanted(Path(song.path), song.audio, start)
    return found
