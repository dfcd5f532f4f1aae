"""The map page: songs and segments as points, near each other where their embeddings are alike.

A map for each member and for all together, at song and segment level and for a few perplexities,
and under it how much of the embedding's neighbourhoods the map keeps. Songs are rows of the run's
list, and placed files are numbered after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.colourings import Colouring, colourings
from analysis.excerpts import Excerpt, file_players, song_players
from analysis.maps import EVERYBODY, LEVELS, View, all_views
from analysis.measures.voices import ranges_of
from analysis.page import choice, escape, page, table
from analysis.projections import FIRST
from analysis.run_data import RunData, album_title, song_title
from analysis.singer_facts import with_ranges
from analysis.wording import interval, points
from embedder.errors import Command
from embedder.metrics import ranking
from embedder.run import SPLITS
from embedder.statistics import Estimate
from embedder.text import counted

SHAPES = {"train": "●", "validation": "◆", "test": "▲"}


def map_finding(view: View) -> str:
    """What a map shows of its embedding, in a sentence with its numbers."""
    number = default_map(view)
    kept, who = view.kept[number], view.member or TOGETHER
    title = f"{view.perplexities[number]:g}"
    if kept.embedding is None or kept.map is None or kept.change is None:
        return (
            f"The map of {who} shows {view.mapped:,} {view.level}s, none of them held out, so "
            "nothing says how well it parts the singers of new ones."
        )
    start = (
        f"The {counted(kept.neighbours, 'nearest training song')} in the embedding of {who} name "
        f"the right singer for {kept.embedding.value:.1%} of {kept.songs:,} {kept.split} songs "
        f"({interval(kept.embedding, kept.songs)}); on its map of perplexity {title} they do "
    )
    if kept.change.value == 0:
        return f"{start}for as many."
    if kept.change.high < 0:
        end = "the map parts the singers worse than the embedding does"
    elif kept.change.low > 0:
        end = "the map parts the singers better than the embedding does"
    else:
        end = "no difference between map and embedding can be told"
    return f"{start}for {kept.map.value:.1%}: {end} ({points(kept.change)})."


def tsne_page(run_data: RunData) -> str:
    """The text of `tsne.html`. Vocal ranges that no csv gives are those that were measured."""
    ranges = {
        singer: one for singer, one in ranges_of(run_data.run).items()
        if singer in run_data.songs.singers
    }  # fmt: skip
    run_data = replace(run_data, facts=with_ranges(run_data.facts, ranges))
    songs, placed = run_data.songs, run_data.placed
    views = list(all_views(run_data))
    modes = colourings(songs, run_data.facts)
    members = list(dict.fromkeys(view.member for view in views))
    splits = [split for number, split in enumerate(SPLITS) if (songs.splits == number).any()]
    controls = choice(
        "member", "Embedding", [(str(i), name or TOGETHER) for i, name in enumerate(members)]
    )
    controls += choice("level", "One point is one", [(level, level) for level in LEVELS])
    controls += choice("colour", "Colour by", [(one.name, one.label) for one in modes])
    controls += choice("drag", "Drag to", [("pan", "move the map"), ("lasso", "select songs")])
    shapes = "".join(f"<li><b>{SHAPES[split]}</b>{split} split</li>" for split in splits)
    shapes += "<li><b>◎</b>ringed: identified wrongly</li>"
    shapes += "<li><b>★</b>placed file</li>" if placed else ""
    legends = "".join(
        f'<div data-colour="{escape(one.name)}"{" hidden" if number else ""}>{one.legend()}</div>'
        for number, one in enumerate(modes)
    )
    body = f"""<p id="finding">{escape(map_finding(views[0]))}</p>
<div class="controls">{controls}
<fieldset class="control" id="perplexities"><legend>Perplexity <output id="perplexity"></output>
</legend><input type="range" id="slider" min="0" step="1" aria-label="Perplexity"></fieldset>
<fieldset class="control"><legend>Search<output id="matches"></output></legend>
<input type="search" id="search" placeholder="song, album or singer"></fieldset></div>
<p id="shown" class="soft" aria-live="polite"></p>
<div class="figure"><div class="plot"><div id="plot"></div></div>
<aside><div id="card" aria-live="polite"><p class="soft">Click a point to keep its card here.</p>
</div><div id="legend">{legends}</div><ul class="shapes">{shapes}</ul></aside></div>
<p id="kept"></p>
<section id="selection" hidden><h2></h2><p><button type="button" id="copy">Copy</button></p>
<textarea readonly rows="8" aria-label="Selected songs"></textarea></section>
<p class="soft">A map bends distances: points that lie close together are alike, but the size of a
cluster and the distance between two far ones mean nothing. A small perplexity keeps the nearest
neighbours, a large one the wider surroundings.</p>
{"".join(f'<p class="soft">{escape(one)}</p>' for one in missing(run_data, views))}
<h2>What the maps keep</h2>{kept_table(views)}
<p class="soft">Trustworthiness is 1 where neighbours on the map are neighbours in the embedding.
Both shares are of validation songs whose nearest training points name the right singer; at segment
level, the mean over songs of the share of their segments. Small: 95% intervals, bootstrap over
albums.</p>"""
    note = (
        "t-SNE: openTSNE, cosine distance; the map of the perplexity nearest to 30 first, the "
        "others from it. All members together: their unit embeddings one after the other, each "
        "divided by the root of their number, so that cosines are the members' mean. Predictions "
        "are the fused ones, of whole songs."
    )
    data = page_data(run_data, views, modes)
    return page("tsne.html", "Map of the embeddings", body, data, ["tsne.js"], note)


def missing(run_data: RunData, views: Sequence[View]) -> list[str]:
    """What the page lacks and how to get it, in sentences."""
    found = []
    if len(run_data.members) > 1 and (EVERYBODY, "segment") not in {
        (view.member, view.level) for view in views
    }:
        found.append(
            "The members' segments lie at different places, so there is no map of all together at "
            f"segment level; to have the same ones: {Command('fuse', segment_s=5.0, hop_s=1.5)}"
        )
    files = run_data.placed.names if run_data.placed else ()
    for view in views:
        there = set(view.new.files.tolist()) if view.new else set()
        absent = [name for number, name in enumerate(files) if number not in there]
        if absent and view.level == "song":
            who = view.member or TOGETHER
            found.append(f"Not embedded by {who}, so not on that map: {', '.join(absent)}.")
    return found


def kept_table(views: Sequence[View]) -> str:
    """A row for each map: what it keeps of its embedding."""

    def cell(one: Estimate | None) -> str:
        return f"{one.value:.1%}\n{one.low:.1%} to {one.high:.1%}" if one else ""

    rows = [
        (
            f"{view.member or TOGETHER}\n{view.mapped:,} {view.level}s",
            f"{perplexity:g}",
            "" if kept.trustworthiness is None else f"{kept.trustworthiness:.3f}",
            cell(kept.map),
            cell(kept.embedding),
            points(kept.change).replace(", 95% interval ", "\n") if kept.change else "",
        )
        for view in views
        for perplexity, kept in zip(view.perplexities, view.kept, strict=True)
    ]
    head = ("map", "perplexity", "trustworthiness", "right on the map", "embedding", "change")
    return table(head, rows, numeric=range(1, len(head)))


PLACES = 3  # singers named of each song
TOGETHER = "all members together"


def default_map(view: View) -> int:
    """Which of a view's maps is shown first: that of the perplexity nearest to 30."""
    return min(range(len(view.perplexities)), key=lambda one: abs(view.perplexities[one] - FIRST))


def page_data(
    run_data: RunData, views: Sequence[View], modes: Sequence[Colouring]
) -> dict[str, Any]:
    """All of it."""
    songs, placed = run_data.songs, run_data.placed
    members = list(dict.fromkeys(view.member for view in views))
    unknown = ["unknown singer"] * bool((songs.labels < 0).any())
    players = song_players(run_data) if run_data.with_audio else []
    facts = [run_data.facts.get(singer) for singer in songs.singers]
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
            "top": tops(run_data),
            "audio": list(map(_player, players)),
        },
        "files": {
            "title": placed.names,
            "singers": placed.singers,
            "top": best_places(placed.probabilities),
            "audio": list(map(_player, file_players(run_data))) if run_data.with_audio else [],
        }
        if placed
        else None,
        "modes": {one.name: one.data() for one in modes},
        "views": [view_data(view, run_data, members.index(view.member)) for view in views],
    }


def tops(run_data: RunData) -> list[list[int] | None]:
    """Of each song that was predicted, who is named, as `best_places` says it.

    Of a song whose singer is not known, the first only.
    """
    songs = run_data.songs
    found: dict[str, list[int]] = {}
    for one in run_data.predicted:
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


def view_data(view: View, run_data: RunData, member: int) -> dict[str, Any]:
    """One view: positions for each perplexity, and what is said of them."""
    drawn, what = len(view.songs), f"{view.level}s"
    splits = run_data.songs.splits[view.songs]
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
