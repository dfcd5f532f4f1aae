"""The recording's place on the map of songs.

Enters: the songs of the finished t-SNE map, and the answer. Leaves: an SVG: the likeliest singers
in their colours, the other songs pale, the nearest songs ringed, the recording as a star.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from analysis.listening.schemas import MapPoint, Near, Place, Recognised
from analysis.page import UNKNOWN_COLOUR, escape
from analysis.run_data import album_title

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
        f'{start}<p class="soft">{escape(said(points, answer.place))} Distances on a map are bent: '
        "what lies close together is alike, far distances mean little.</p>"
        f'<svg class="map" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-labelledby="map-says">'
        f'<title id="map-says">{escape(said(points, answer.place))}</title>'
        f'<g class="pale" fill="{UNKNOWN_COLOUR}">{"".join(parts[False])}</g>'
        f"<g>{''.join(parts[True])}</g><g>{labels}</g>"
        f'<path class="star" d="{STAR}" transform="translate({x:.1f} {y:.1f})">'
        "<title>your recording</title></path></svg>"
        f"{_legend(shown, colours, bool(near))}</section>"
    )


def said(points: Sequence[MapPoint], place: Place, count: int = 5) -> str:
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
