"""The run's finished map and songs to play, and where a recording lies on that map, as a picture.

All of the run is read once; where the maps are not drawn yet, or the songs are gone, there is less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from analysis.excerpts import Wanted, excerpt_of, sung
from analysis.maps import Cloud, cloud, together
from analysis.page import UNKNOWN_COLOUR, escape
from analysis.projections import FIRST, FittedMap, centred, place, read_map
from analysis.run_data import album_title, member_stores, song_title
from analysis.web.recogniser import RunContext
from analysis.web.schemas import MapPoint, Near, Place, Recognised
from embedder.catalogue import read_catalogue
from embedder.errors import UserError
from embedder.inference.store import Store
from embedder.run import Run

AMONG = 1000  # songs of the map, the nearest ones, among which a recording is placed
PLAYED = 64  # excerpts that are kept once they were cut
SAME = 2e-3  # how far half precision may take a map's vectors from the stores'

Floats = NDArray[np.float32]


def run_context(run: Run, members: Sequence[str]) -> RunContext:
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
            return None  # a member is unavailable for it
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


WIDE, HIGH, EDGE = 640, 460, 26
Scale = Callable[[float], float]
STAR = "M0-13 3.2-4.4 12.4-4 5.2 1.7 7.6 10.5 0 5.5-7.6 10.5-5.2 1.7-12.4-4-3.2-4.4Z"


def place_on_map(points: Sequence[MapPoint], answer: Recognised, colours: Mapping[str, str]) -> str:
    """The map as HTML, or why there is none. `colours` are of the singers to be shown."""
    start = '<section aria-labelledby="map-title"><h2 id="map-title">Where it lies</h2>'
    if not points or answer.place is None:
        return (
            f'{start}<p class="soft">There is no map for this recording: it is drawn from the '
            "songs' embeddings, and needs songs of more than one singer.</p></section>"
        )
    across, down = _scales(points, answer.place)
    near = {_song(one) for one in answer.nearest}
    shown = [one.singer for one in answer.top if one.singer in colours]
    parts: dict[bool, list[str]] = {False: [], True: []}
    for one in points:
        chosen = one.singer in shown
        rings = ' class="near"' if _song(one) in near else ""
        parts[chosen].append(
            f'<circle cx="{across(one.x):.1f}" cy="{down(one.y):.1f}" r="{5 if chosen else 4}"'
            f"{rings}{f' fill={chr(34)}{colours[one.singer]}{chr(34)}' if chosen else ''}>"
            f"<title>{escape(_tip(one))}</title></circle>"
        )
    labels = "".join(_label(singer, points, across, down) for singer in shown)
    x, y = across(answer.place.x), down(answer.place.y)
    return (
        f'{start}<p class="soft">{escape(place_summary(points, answer.place))} '
        "Distances on a map are bent: what lies close together is alike, far distances mean "
        "little.</p>"
        f'<svg class="map" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-labelledby="map-says">'
        f'<title id="map-says">{escape(place_summary(points, answer.place))}</title>'
        f'<g class="pale" fill="{UNKNOWN_COLOUR}">{"".join(parts[False])}</g>'
        f"<g>{''.join(parts[True])}</g><g>{labels}</g>"
        f'<path class="star" d="{STAR}" transform="translate({x:.1f} {y:.1f})">'
        "<title>your recording</title></path></svg>"
        f"{_legend(shown, colours, bool(near))}</section>"
    )


def place_summary(points: Sequence[MapPoint], place: Place, count: int = 5) -> str:
    """Whose songs lie around the recording on the map."""
    around = sorted(points, key=lambda one: (one.x - place.x) ** 2 + (one.y - place.y) ** 2)
    names: dict[str, int] = {}
    for one in around[:count]:
        names[one.singer] = names.get(one.singer, 0) + 1
    listed = ", ".join(f"{name} ({songs})" for name, songs in names.items())
    return f"Of {len(points):,} songs, the {min(count, len(points))} around it are by {listed}."


def _scales(points: Sequence[MapPoint], place: Place) -> tuple[Scale, Scale]:
    """From the map's unit to that of the drawing: the same for both axes, all points inside."""
    xs = [one.x for one in points] + [place.x]
    ys = [one.y for one in points] + [place.y]
    span = max((max(xs) - min(xs)) / (WIDE - 2 * EDGE), (max(ys) - min(ys)) / (HIGH - 2 * EDGE))
    unit = 1 / span if span else 1.0
    middle_x, middle_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return (
        lambda x: WIDE / 2 + (x - middle_x) * unit,
        lambda y: HIGH / 2 - (y - middle_y) * unit,
    )


def _label(singer: str, points: Sequence[MapPoint], across: Scale, down: Scale) -> str:
    own = [one for one in points if one.singer == singer]
    if not own:
        return ""
    x, y = across(median(one.x for one in own)), down(median(one.y for one in own))
    return f'<text x="{x:.1f}" y="{y - 10:.1f}">{escape(singer)}</text>'


def _song(one: MapPoint | Near) -> tuple[str, str, str]:
    """What tells a song on the map and in the index; an album may carry its singer's name there."""
    return one.singer, one.album.removeprefix(f"{one.singer}/"), one.title


def _tip(one: MapPoint) -> str:
    album = f", {album_title(one.album)}" if one.album else ""
    return f"{one.singer}: {one.title}{album}"


def _legend(shown: Sequence[str], colours: Mapping[str, str], near: bool) -> str:
    parts = ["<li><b>★</b>your recording</li>"]
    parts += [
        f'<li><i style="background:{colours[singer]}"></i>{escape(singer)}</li>' for singer in shown
    ]
    parts.append(f'<li><i style="background:{UNKNOWN_COLOUR}"></i>other singers</li>')
    parts += ["<li><b>◯</b>one of the songs most like it</li>"] if near else []
    return f'<ul class="key">{"".join(parts)}</ul>'
