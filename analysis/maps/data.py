"""What the map page hands to its script: songs, views, colours, players.

Enters: `Material`, its views and colourings. Leaves: one JSON value. Songs are rows of the run's
list, and placed files are numbered after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.excerpts import Excerpt, file_players, song_players
from analysis.inputs import album_title, song_title
from analysis.maps.colourings import Colouring
from analysis.maps.fit import FIRST
from analysis.maps.views import View
from analysis.material import Material
from embedder.artifacts import SPLITS
from embedder.metrics import ranking

PLACES = 3  # singers named of each song
TOGETHER = "all members together"


def default_map(view: View) -> int:
    """Which of a view's maps is shown first: that of the perplexity nearest to 30."""
    return min(range(len(view.perplexities)), key=lambda one: abs(view.perplexities[one] - FIRST))


def page_data(
    material: Material, views: Sequence[View], modes: Sequence[Colouring]
) -> dict[str, Any]:
    """All of it."""
    songs, placed = material.songs, material.placed
    members = list(dict.fromkeys(view.member for view in views))
    unknown = ["unknown singer"] * bool((songs.labels < 0).any())
    players = song_players(material) if material.with_audio else []
    facts = [material.facts.get(singer) for singer in songs.singers]
    return {
        "singers": [*songs.singers, *unknown],
        "known": len(songs.singers),
        "facts": [
            one
            and {
                "sex": one.sex,
                "low": one.low_hz,
                "high": one.high_hz,
                "measured": one.measured,
            }
            for one in facts
        ],
        "splits": SPLITS,
        "songs": {
            "title": [song_title(song) for song in songs.ids],
            "album": [album_title(album) for album in songs.albums],
            "singer": np.where(songs.labels < 0, len(songs.singers), songs.labels).tolist(),
            "split": songs.splits.tolist(),
            "top": tops(material),
            "audio": list(map(_player, players)),
        },
        "files": {
            "title": placed.names,
            "singers": placed.singers,
            "top": best_places(placed.probabilities),
            "audio": list(map(_player, file_players(material))) if material.with_audio else [],
        }
        if placed
        else None,
        "modes": {one.name: one.data() for one in modes},
        "views": [view_data(view, material, members.index(view.member)) for view in views],
    }


def tops(material: Material) -> list[list[int] | None]:
    """Of each song that was predicted, who is named, as `best_places` says it.

    Of a song whose singer is not known, the first only.
    """
    songs = material.songs
    found: dict[str, list[int]] = {}
    for one in material.predicted:
        found.update(zip(one.ids, best_places(one.probabilities), strict=True))
    for song, named, sure in zip(
        songs.ids, songs.predictions.tolist(), songs.confidences.tolist(), strict=True
    ):
        if named >= 0:
            found.setdefault(song, [named, round(10_000 * sure)])
    return [found.get(song) for song in songs.ids]


def best_places(probabilities: NDArray[np.float64]) -> list[list[int]]:
    """Of each row (rows, singers): first, second, third singer, each with its probability.

    `[singer, probability, singer, …]`, probabilities in ten-thousandths.
    """
    best = ranking(probabilities)[:, :PLACES]
    shares = np.rint(10_000 * np.take_along_axis(probabilities, best, axis=1)).astype(np.int64)
    pairs = np.stack([best, shares], axis=2)
    rows: list[list[int]] = pairs.reshape(len(best), 2 * best.shape[1]).tolist()
    return rows


def view_data(view: View, material: Material, member: int) -> dict[str, Any]:
    """One view: positions for each perplexity, and what is said of them."""
    drawn, what = len(view.songs), f"{view.level}s"
    splits = material.songs.splits[view.songs]
    parts = ", ".join(
        f"{int((splits == number).sum()):,} {split}"
        for number, split in enumerate(SPLITS)
        if (splits == number).any()
    )
    much = f"{view.total:,} {what}"
    if view.mapped < view.total:
        much += f", of which {view.mapped:,} are mapped, evenly over the songs"
    if drawn < view.mapped:
        much += f"; {drawn:,} are drawn, evenly over the {_groups(view.level)}"
    who = f"Member {view.member}" if view.member else TOGETHER.capitalize()
    new = view.new
    return {
        "member": member,
        "level": view.level,
        "says": f"{who}: {much} ({parts}).",
        "perplexities": view.perplexities,
        "first": default_map(view),
        "kept": [
            kept.says(view.level, f"{perplexity:g}")
            for perplexity, kept in zip(view.perplexities, view.kept, strict=True)
        ],
        "song": view.songs.tolist(),
        "start": None if view.starts_s is None else view.starts_s.round(2).tolist(),
        **_positions(view.points),
        "new": {
            "file": new.files.tolist(),
            "start": None if new.starts_s is None else new.starts_s.round(2).tolist(),
            **_positions(new.points),
        }
        if new
        else None,
    }


def _positions(points: NDArray[np.float64]) -> dict[str, Any]:
    return {axis: points[:, :, place].round(2).tolist() for place, axis in enumerate("xy")}


def _groups(level: str) -> str:
    return "singers" if level == "song" else "songs"


def _player(excerpt: Excerpt | None) -> list[str | float] | None:
    return [excerpt.source, excerpt.start_s] if excerpt else None
