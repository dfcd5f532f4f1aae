"""The albums page: how much of what the embeddings find alike is the album, not the singer.

Enters: `Material`, and a benchmark's rows where the run holds one. Leaves: the text of
`albums.html`: nearest neighbours by album and singer against chance, a probe for the album, and the
gap between song and album split.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.album_effect.effect import (
    AlbumEffect,
    AlbumSongs,
    album_effect,
    neighbourhood,
    probe,
    usable,
    within,
)
from analysis.album_effect.split_gap import split_gaps
from analysis.album_effect.tables import Embedding, gap_section, neighbour_table, probe_table
from analysis.maps.clouds import cloud, together
from analysis.maps.data import TOGETHER
from analysis.material import Material
from analysis.page import choice, escape, page
from analysis.wording import counted, interval
from embedder.errors import Command

MISSING = (
    "There is no album of two training songs whose singer has another album, so nothing can be "
    "said of albums; a data folder laid out as <singer>/<album>/<song> names them"
)


def embeddings(material: Material) -> Iterator[tuple[str, AlbumSongs]]:
    """Name and training songs of all members together, where there are several, and of each."""
    songs = material.songs
    rows = np.flatnonzero(
        (songs.splits == 0) & (songs.labels >= 0) & np.array([bool(one) for one in songs.albums])
    )
    names = np.array(songs.albums)[rows]
    albums = np.unique(names, return_inverse=True)[1] if len(rows) else rows
    members = material.members
    for group in [members] * (len(members) > 1) + [(name,) for name in members]:
        vectors = together(cloud(material.stores(name), "song", lambda _: rows) for name in group)
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


def albums_page(material: Material) -> str:
    """The text of `albums.html`."""
    title = "Albums: production or voice?"
    gaps = split_gaps(material.run.benchmark_rows)
    by_split = gap_section(gaps, material.run.benchmark_rows.parent)
    groups = list(embeddings(material))
    if not usable(groups[0][1]):
        why = f"{MISSING}: {Command('prepare', data_dir='SONGS')}"
        body = f'<p id="finding">{escape(why)}</p>{by_split}'
        return page("albums.html", title, body)
    found = []
    for name, songs in groups:
        near = neighbourhood(songs)
        effect = album_effect(near, material.seed)
        found.append(Embedding(name, near, effect, probe(songs, material.seed)))
    controls = choice("member", "Embedding", [(str(i), one.name) for i, one in enumerate(found)])
    body = f"""<p id="finding">{escape(albums_finding(found[0].name, found[0].effect))}</p>
<div class="controls">{controls}</div>
<h2>Who the nearest training songs are</h2>
<div class="plot"><div id="plot"></div></div>
<p id="shown" class="soft" aria-live="polite"></p>
<h2>The nearest song, by singer</h2>
<div class="plot"><div class="scroll"><div id="singers"></div></div></div>
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
    data = {
        "singers": material.songs.singers,
        "embeddings": [_data(one, songs) for one, (_, songs) in zip(found, groups, strict=True)],
    }
    return page("albums.html", title, body, data, ["album_effect/albums.js"], note)


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


def _data(one: Embedding, songs: AlbumSongs) -> dict[str, Any]:
    near, effect = one.near, one.effect
    album = near.same_album.mean(axis=0)
    singer = near.same_singer.mean(axis=0)
    own = near.same_singer[:, 0]
    expected = within(near)
    singers = []
    for label in np.unique(songs.singers):
        rows = np.flatnonzero((songs.singers == label) & own)
        if len(rows):
            seen = float(near.same_album[rows, 0].mean())
            singers.append(
                [int(label), len(rows), round(seen, 4), round(float(expected[rows].mean()), 4)]
            )
    return {
        "says": embedding_says(one),
        "album": album.round(4).tolist(),
        "singer": (singer - album).round(4).tolist(),
        "chance": round(effect.album_chance, 4),
        "chanceSinger": round(float(near.chance_singer.mean()), 4),
        "singers": singers,
    }
