"""The albums page: how much of what the embeddings find alike is the album, not the singer.

Nearest neighbours by album and singer against chance, a probe for the album, and the gap between
song and album split where the run holds a benchmark's rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis import figures as fig
from analysis.figures import Json
from analysis.maps import cloud, together
from analysis.measures.album_effect import (
    AlbumEffect,
    AlbumSongs,
    Gap,
    Neighbourhood,
    Probe,
    album_effect,
    neighbourhood,
    probe,
    split_gaps,
    usable,
    within,
)
from analysis.page import choice, escape, numbered, page, plot, table, variants
from analysis.pages.map import TOGETHER
from analysis.run_data import RunData
from analysis.wording import interval, points, points_cell, share_cell
from embedder.errors import Command
from embedder.text import counted

MISSING = (
    "There is no album of two training songs whose singer has another album, so nothing can be "
    "said of albums; a data folder laid out as <singer>/<album>/<song> names them"
)


@dataclass(frozen=True, eq=False)
class Embedding:
    """What was found in one member's embedding, or in that of all together."""

    name: str
    songs: AlbumSongs
    near: Neighbourhood
    effect: AlbumEffect
    probe: Probe | None


def embeddings(run_data: RunData) -> Iterator[tuple[str, AlbumSongs]]:
    """Name and training songs of all members together, where there are several, and of each."""
    songs = run_data.songs
    rows = np.flatnonzero(
        (songs.splits == 0) & (songs.labels >= 0) & np.array([bool(one) for one in songs.albums])
    )
    names = np.array(songs.albums)[rows]
    albums = np.unique(names, return_inverse=True)[1] if len(rows) else rows
    members = run_data.members
    for group in [members] * (len(members) > 1) + [(name,) for name in members]:
        vectors = together(cloud(run_data.stores(name), "song", lambda _: rows) for name in group)
        assert vectors is not None  # all members have the same songs
        name = TOGETHER if len(group) > 1 else group[0]
        yield name, AlbumSongs(vectors.vectors, songs.labels[rows], albums)


def albums_finding(name: str, effect: AlbumEffect) -> str:
    """How much of the neighbourhood is the album, in a sentence with its numbers."""
    songs, made = effect.songs, effect.production
    start = (
        f"In the embedding of {name}, the nearest other song of {effect.album.value:.1%} of "
        f"{counted(songs, 'training song')} ({interval(effect.album, songs)}) is of the same "
        f"album, where chance would make it {effect.album_chance:.1%} and the singer's voice alone "
        f"{effect.voice_chance:.1%}"
    )
    if np.isnan(made.value):
        return f"{start}; no nearest song is by the same singer."
    limits = f"95% interval {max(made.low, 0):.0%} to {max(made.high, 0):.0%}"
    if made.low > 0:
        return (
            f"{start}: up to {made.value:.0%} ({limits}) of what makes a singer's songs neighbours "
            "is the album's production rather than the voice."
        )
    return f"{start}: no part of it can be told to be production rather than voice ({limits})."


def albums_page(run_data: RunData) -> str:
    """The text of `albums.html`."""
    title = "Albums: production or voice?"
    gaps = split_gaps(run_data.run.benchmark_rows)
    by_split = gap_section(gaps, run_data.run.benchmark_rows.parent)
    groups = list(embeddings(run_data))
    if not usable(groups[0][1]):
        why = f"{MISSING}: {Command('prepare', data_dir='SONGS')}"
        body = f'<p id="finding">{escape(why)}</p>{by_split}'
        return page("albums.html", title, body)
    found = []
    for name, songs in groups:
        near = neighbourhood(songs)
        effect = album_effect(near, run_data.seed)
        found.append(Embedding(name, songs, near, effect, probe(songs, run_data.seed)))
    controls = choice("member", "Embedding", numbered(one.name for one in found))
    body = f"""<p id="finding">{escape(albums_finding(found[0].name, found[0].effect))}</p>
<div class="controls">{controls}</div>
<h2>Who the nearest training songs are</h2>
{plot("plot")}
{variants("p", [escape(embedding_says(one)) for one in found], "member", ' class="soft"')}
<h2>The nearest song, by singer</h2>
{plot("singers")}
<p class="soft">Dots: share of a singer's training songs whose nearest other song by that singer is
of the same album. Lines: what it would be if the singer's other songs were all as near.</p>
<h2>Neighbours, training split, song level</h2>{neighbour_table(found)}
<p class="soft">Each training song against all others, itself left out. By voice alone: if a
singer's other songs were all as near, whatever their album. Production: what goes beyond that, 0%
if albums do not matter and 100% if nothing else does; an upper limit, for a voice also changes from
album to album. Lost: how many points fewer songs have their own singer nearest when their album is
left out. The members were trained on these songs, so these have their own singer nearer than new
songs have.</p>
<h2>Can the album be told from the embedding?</h2>{probe_table(found)}
<p class="soft">Multinomial logistic regression on training songs' embeddings, cross-validated by
song, of albums with two songs or more. The singer's own albums: the choice is only among the albums
of the song's singer, so that the voice does not help. Chance: the largest album always named.</p>
{by_split}"""
    note = (
        "Intervals: bootstrap over albums, 2,000 resamples, 95%. All members together: the mean of "
        "the members' cosines."
    )
    figures = {
        "plot": neighbours_figure(found),
        "singers": singers_figure(found, run_data.songs.singers),
    }
    return page("albums.html", title, body, note=note, figures=figures)


def embedding_says(one: Embedding) -> str:
    """Who the nearest songs are in one embedding, in a sentence."""
    effect = one.effect
    other = float((one.near.same_singer[:, 0] & ~one.near.same_album[:, 0]).mean())
    name = one.name[0].upper() + one.name[1:] if one.name == TOGETHER else one.name
    return (
        f"{name}: of {counted(effect.songs, 'training song')}, the nearest other song is of the "
        f"same album for {effect.album.value:.1%} (by chance {effect.album_chance:.1%}, by voice "
        f"alone {effect.voice_chance:.1%}) and of another album of the singer for {other:.1%}."
    )


def neighbours_figure(found: Sequence[Embedding]) -> Json:
    """Stacked bars of who the nearest songs are, by rank."""
    axis_y = fig.axis("share of songs", range=[0, 1], tickformat=".0%")
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    layout = {
        "height": 400,
        "barmode": "stack",
        "bargap": 0.12,
        "margin": {"l": 58, "r": 14, "t": 58, "b": 52},
        "showlegend": True,
        "legend": {**legend, "itemclick": False, "itemdoubleclick": False},
        "xaxis": fig.axis("rank of the neighbour", dtick=1, showgrid=False),
        "yaxis": axis_y,
    }
    narrow = fig.case(layout={"height": 420, "margin": {"t": 116}}, narrow=True)
    cases = [fig.case(_neighbour_traces(one), member=str(i)) for i, one in enumerate(found)]
    return fig.figure([], layout, [*cases, narrow])


def _neighbour_traces(one: Embedding) -> list[Json]:
    album = one.near.same_album.mean(axis=0)
    singer = one.near.same_singer.mean(axis=0) - album
    parts = (
        ("same album", album, "wrong"),
        ("same singer, another album", singer, "right"),
        ("another singer", 1 - album - singer, "line"),
    )
    ranks = list(range(1, len(album) + 1))
    traces = [
        fig.bars(
            ranks,
            fig.rounded(shares, 6),
            [
                f"{fig.percent(share)} of the {rank}. nearest songs:<br>{name}"
                for rank, share in zip(ranks, shares, strict=True)
            ],
            tint,
            name=name,
        )
        for name, shares, tint in parts
    ]
    for name, value, dash in (
        ("same album by chance", one.effect.album_chance, "dot"),
        ("same singer by chance", float(one.near.chance_singer.mean()), "dash"),
    ):
        line = {"color": fig.colour("text"), "width": 1.5, "dash": dash}
        text = [f"{name}: {fig.percent(value)}"] * 2
        ends, values = [0.5, len(ranks) + 0.5], fig.rounded([value, value])
        traces.append(fig.markers(ends, values, text, mode="lines", name=name, line=line))
    return traces


def singers_figure(found: Sequence[Embedding], singers: Sequence[str]) -> Json:
    """Of each singer, how often the nearest song is of the same album."""
    title = "nearest song of the singer is of the same album"
    layout = {
        "margin": {"l": 10, "r": 20, "t": 12, "b": 56},
        "xaxis": fig.axis(title, range=[-0.03, 1.03], tickformat=".0%"),
    }
    cases = []
    for number, one in enumerate(found):
        rows = singer_shares(one)
        names = [singers[singer] for singer, *_ in rows]
        places = list(range(len(rows)))
        text = [
            f"<b>{fig.label(name)}</b><br>same album {fig.percent(seen)} of {songs} songs"
            f"<br>if albums did not matter {fig.percent(expected)}"
            for name, (_, songs, seen, expected) in zip(names, rows, strict=True)
        ]
        tick = {"symbol": "line-ns-open", "size": 14, "line": {"width": 2}}
        traces = [
            fig.markers(fig.rounded([row[3] for row in rows]), places, text,
                    marker={**tick, "color": fig.colour("text")}),
            fig.markers(fig.rounded([row[2] for row in rows]), places, text,
                    marker={"size": 11, "color": fig.colour("wrong"), "opacity": 1}),
        ]  # fmt: skip
        ends = [len(rows) - 0.4, -0.6]
        shape = {
            "height": 72 + 22 * len(rows),
            "yaxis": fig.categories(names, 26, range=ends, automargin=True),
        }
        short = {
            "yaxis": {"ticktext": [fig.label(name, 14) for name in names]},
            "xaxis": {"title": {"text": "nearest of same album"}},
        }
        cases.append(fig.case(traces, shape, member=str(number)))
        cases.append(fig.case(layout=short, member=str(number), narrow=True))
    return fig.figure([], layout, cases)


def singer_shares(one: Embedding) -> list[tuple[int, int, float, float]]:
    """(singer, songs, share whose nearest is of the same album, share by voice alone).

    Of the songs whose nearest other song is by the same singer; those whose albums matter most
    come first.
    """
    own, expected = one.near.same_singer[:, 0], within(one.near)
    found = []
    for singer in np.unique(one.songs.singers):
        rows = np.flatnonzero((one.songs.singers == singer) & own)
        if len(rows):
            seen = float(one.near.same_album[rows, 0].mean())
            found.append((int(singer), len(rows), seen, float(expected[rows].mean())))
    return sorted(found, key=lambda row: (-row[2], row[0]))


def neighbour_table(found: Sequence[Embedding]) -> str:
    """A row for each embedding: the nearest song against chance."""
    head = (
        "embedding", "songs", "same album", "by chance", "by voice alone", "production",
        "singer right", "own album left out", "lost",
    )  # fmt: skip
    rows = [
        (
            one.name,
            f"{one.effect.songs:,}",
            share_cell(one.effect.album),
            f"{one.effect.album_chance:.1%}",
            f"{one.effect.voice_chance:.1%}",
            share_cell(one.effect.production),
            share_cell(one.effect.singer),
            share_cell(one.effect.singer_apart),
            points_cell(one.effect.lost),
        )
        for one in found
    ]
    return table(head, rows, range(1, len(head)))


def probe_table(found: Sequence[Embedding]) -> str:
    """A row for each embedding: how well albums are named, against chance."""
    head = (
        "embedding", "songs", "albums", "album right", "by chance",
        "among the singer's own", "by chance",
    )  # fmt: skip
    rows = [
        (
            one.name,
            f"{one.probe.songs:,}",
            f"{one.probe.albums:,}",
            share_cell(one.probe.right),
            f"{one.probe.chance:.1%}",
            share_cell(one.probe.own),
            f"{one.probe.own_chance:.1%}",
        )
        for one in found
        if one.probe
    ]
    return table(head, rows, range(1, len(head)))


def gap_finding(gaps: Sequence[Gap]) -> str:
    """What the album split costs the member that loses most, and one in the middle."""
    worst = gaps[0]
    kind = f"{worst.member}, segments of {worst.segment_s:g} s, seed {worst.seed}"
    mean = sum(gap.lost.value for gap in gaps) / len(gaps)
    rest = (
        f"; the mean over {len(gaps)} pairs of runs is {100 * mean:+.1f} points".replace("-", "−")
        if len(gaps) > 1
        else ""
    )
    return (
        f"By song split {worst.song.value:.1%} of {worst.songs[0]:,} songs are right, by album "
        f"split {worst.album.value:.1%} of {worst.songs[1]:,} ({kind}, {worst.measured_on} songs): "
        f"{points(worst.lost)}{rest}."
    )


def gap_section(gaps: Sequence[Gap], folder: Path) -> str:
    """What the album split costs, or the command that measures it into `folder`."""
    heading = "<h2>Song split against album split</h2>"
    if not gaps:
        both = Command("benchmark", data_dir="SONGS", splits="song,album", run_dir=folder)
        says = (
            f"No benchmark in this run measured the same member under both rules; to do so: {both}"
        )
        return f"{heading}<p>{escape(says)}</p>"
    head = ("member", "segment", "seed", "song split", "album split", "lost")
    rows = [
        (
            gap.member,
            f"{gap.segment_s:g} s",
            str(gap.seed),
            f"{share_cell(gap.song)}, {gap.songs[0]:,} songs",
            f"{share_cell(gap.album)}, {gap.songs[1]:,} songs",
            points_cell(gap.lost),
        )
        for gap in gaps
    ]
    return f"{heading}<p>{escape(gap_finding(gaps))}</p>" + table(head, rows, range(1, len(head)))
