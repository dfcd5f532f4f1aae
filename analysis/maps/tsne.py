"""The map page: songs and segments as points, near each other where their embeddings are alike.

Enters: `Material`, whose maps `views` makes. Leaves: the text of `tsne.html`: a map for each member
and for all together, at song and segment level and for a few perplexities, and under it how much of
the embedding's neighbourhoods the map keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.maps.clouds import LEVELS
from analysis.maps.colourings import colourings
from analysis.maps.data import TOGETHER, default_map, page_data
from analysis.maps.views import EVERYBODY, View, all_views
from analysis.material import Material
from analysis.page import choice, escape, page, table
from analysis.singer_facts import with_ranges
from analysis.voices.ranges import ranges_of
from analysis.wording import counted, interval, points
from embedder.artifacts import SPLITS
from embedder.errors import Command
from embedder.metrics import Estimate

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


def tsne_page(material: Material) -> str:
    """The text of `tsne.html`. Vocal ranges that no csv gives are those that were measured."""
    ranges = {
        singer: one for singer, one in ranges_of(material.run).items()
        if singer in material.songs.singers
    }  # fmt: skip
    material = replace(material, facts=with_ranges(material.facts, ranges))
    songs, placed = material.songs, material.placed
    views = list(all_views(material))
    modes = colourings(songs, material.facts)
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
{"".join(f'<p class="soft">{escape(one)}</p>' for one in missing(material, views))}
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
    data = page_data(material, views, modes)
    return page("tsne.html", "Map of the embeddings", body, data, ["maps/tsne.js"], note)


def missing(material: Material, views: Sequence[View]) -> list[str]:
    """What the page lacks and how to get it, in sentences."""
    found = []
    if len(material.members) > 1 and (EVERYBODY, "segment") not in {
        (view.member, view.level) for view in views
    }:
        found.append(
            "The members' segments lie at different places, so there is no map of all together at "
            f"segment level; to have the same ones: {Command('fuse', segment_s=5.0, hop_s=1.5)}"
        )
    files = material.placed.names if material.placed else ()
    for view in views:
        there = set(view.new.files.tolist()) if view.new else set()
        absent = [name for number, name in enumerate(files) if number not in there]
        if absent and view.level == "song":
            who = view.member or TOGETHER
            found.append(f"Not heard by {who}, so not on that map: {', '.join(absent)}.")
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
