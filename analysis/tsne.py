"""The map page: songs and segments as points, near each other where their embeddings are alike.

Enters: each member's stores and the list of songs. Leaves: `View`s (a t-SNE map each) and the text
of `tsne.html`, with a switch between members and between song and segment level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.inputs import Songs, album_title, song_title
from analysis.material import Material
from analysis.page import UNKNOWN_COLOUR, choice, colours, escape, page
from embedder.artifacts import SPLITS
from embedder.store import Store

PERPLEXITY = 30.0
SONG_CAP = 5000  # points of a map at song level; more are drawn stratified by singer
SEGMENT_CAP = 3000  # points of a map at segment level; more are drawn stratified by song
SHAPES = {"train": "●", "validation": "◆", "test": "▲"}
LEVELS = ("song", "segment")


@dataclass(frozen=True, eq=False)
class View:
    """One map: a member at one level."""

    member: str
    level: str  # "song" or "segment"
    points: NDArray[np.float64]  # (points, 2), arbitrary unit
    songs: NDArray[np.int64]  # (points,), row of `Songs`
    starts_s: NDArray[np.float64] | None  # (points,), start of the segment; None at song level
    total: int  # points there were before drawing


def stratified(groups: NDArray[np.int64], cap: int, seed: int) -> NDArray[np.int64]:
    """At most `cap` row numbers, ascending, with as equal a share for each group as can be.

    `groups` (rows,) numbers each row's group. A group smaller than its share gives all its rows and
    leaves the rest to the others; within a group the rows are spread evenly over their order.
    Raises `ValueError` if `cap` is below 1.
    """
    if cap < 1:
        raise ValueError(f"cap must be at least 1, not {cap}")
    if len(groups) <= cap:
        return np.arange(len(groups))
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    share = max(s for s in range(int(sizes.max()) + 1) if np.minimum(sizes, s).sum() <= cap)
    quota = np.minimum(sizes, share)
    larger = np.flatnonzero(sizes > share)
    extra = np.random.default_rng(seed).permutation(larger)[: cap - int(quota.sum())]
    quota[extra] += 1
    order = np.argsort(number, kind="stable")
    ends = np.cumsum(sizes)
    chosen = [
        order[end - size + (2 * np.arange(count) + 1) * size // (2 * count)]
        for end, size, count in zip(ends, sizes, quota, strict=True)
        if count
    ]
    return np.sort(np.concatenate(chosen))


def map_points(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """t-SNE (van der Maaten & Hinton 2008) of unit embeddings (n, dim) by cosine distance: (n, 2).

    Starts from the first two principal components, so that the map keeps their large arrangement
    (Kobak & Berens 2019). Perplexity is 30, or a third of the other points where there are fewer
    than 91. Up to four points have no neighbourhoods to speak of and stay on the components.
    The same embeddings and seed give the same map: exact neighbours, one thread.
    """
    start = _components(embeddings, seed)
    count = len(embeddings)
    if count <= 4:
        return start
    from openTSNE import TSNE

    fitted = TSNE(
        perplexity=min(PERPLEXITY, (count - 1) / 3),
        metric="cosine",
        neighbors="exact",
        initialization=start * 1e-4,
        random_state=seed,
        n_jobs=1,
    ).fit(embeddings)
    return np.asarray(fitted, dtype=np.float64)


def song_view(stores: Sequence[Store], seed: int) -> View:
    """The map of one member's songs, all splits together; `stores` in the order of `Songs`."""
    embeddings = np.concatenate([store.embeddings for store in stores])
    rows = stratified(np.concatenate([store.labels for store in stores]), SONG_CAP, seed)
    points = map_points(embeddings[rows], seed)
    return View(stores[0].member, "song", points, rows, None, len(embeddings))


def segment_view(stores: Sequence[Store], seed: int) -> View:
    """The map of one member's segments, at most `SEGMENT_CAP`, drawn stratified by song."""
    first = np.cumsum([0, *(len(store.song_ids) for store in stores)])
    songs = np.concatenate(
        [s.segment_song + start for s, start in zip(stores, first, strict=False)]
    )
    starts = np.concatenate([store.segment_start_s for store in stores])
    rows = stratified(songs, SEGMENT_CAP, seed)
    ends = np.cumsum([0, *(len(store.segment_song) for store in stores)])
    embeddings = np.concatenate(
        [
            store.segment_embeddings[rows[(rows >= low) & (rows < high)] - low]
            for store, low, high in zip(stores, ends, ends[1:], strict=False)
        ]
    )
    points = map_points(embeddings, seed)
    return View(
        stores[0].member, "segment", points, songs[rows], starts[rows].astype(float), len(songs)
    )


def neighbour_agreement(train: Store, queries: Store) -> tuple[int, int]:
    """(songs whose nearest training song by cosine is by the same singer, songs asked).

    Measured on the embeddings themselves, not on the map. Songs of unknown singers are left out.
    """
    known = np.flatnonzero(queries.labels >= 0)
    hits = 0
    for block in np.array_split(known, max(1, len(known) // 256)):
        nearest = (queries.embeddings[block] @ train.embeddings.T).argmax(axis=1)
        hits += int((train.labels[nearest] == queries.labels[block]).sum())
    return hits, len(known)


def tsne_page(material: Material) -> str:
    """The text of `tsne.html`."""
    songs = material.songs
    views = [
        view_of(stores, material.seed)
        for stores in map(material.stores, material.members)
        for view_of in (song_view, segment_view)
    ]
    members = list(dict.fromkeys(view.member for view in views))
    unknown = bool((songs.labels < 0).any())
    names = [*songs.singers, "unknown singer"] if unknown else list(songs.singers)
    tints = colours(len(songs.singers)) + [UNKNOWN_COLOUR] * unknown
    splits = [split for number, split in enumerate(SPLITS) if (songs.splits == number).any()]
    controls = choice("member", "Member", [(str(i), name) for i, name in enumerate(members)])
    controls += choice("level", "One point is one", [(level, level) for level in LEVELS])
    buttons = "".join(
        f'<button type="button" aria-pressed="false"><i class="swatch" style="background:{tint}">'
        f"</i>{escape(name)}</button>"
        for name, tint in zip(names, tints, strict=True)
    )
    shapes = "".join(f"<li><b>{SHAPES[split]}</b>{split} split</li>" for split in splits)
    body = f"""<p id="shown" class="soft" aria-live="polite"></p>
<div class="controls">{controls}</div>
<div class="figure"><div class="plot"><div id="plot"></div></div>
<aside><h2>Singers</h2>
<p class="soft">Click a singer to see that one alone, the others fade; click again to bring all
back.</p>
<div class="legend" id="legend">{buttons}</div>
<ul class="shapes">{shapes}<li><b>◎</b>ringed: identified wrongly</li></ul></aside></div>
<p class="soft">A map bends distances: points that lie close together are alike, but the size of a
cluster and the distance between two far ones mean nothing.</p>"""
    data = {
        "singers": names,
        "known": len(songs.singers),
        "colours": tints,
        "splits": SPLITS,
        "songs": {
            "title": [song_title(song) for song in songs.ids],
            "album": [album_title(album) for album in songs.albums],
            "singer": np.where(songs.labels < 0, len(songs.singers), songs.labels).tolist(),
            "split": songs.splits.tolist(),
            "prediction": songs.predictions.tolist(),
            "confidence": songs.confidences.round(4).tolist(),
        },
        "views": [_view_data(view, songs, members.index(view.member)) for view in views],
    }
    note = "t-SNE: openTSNE, cosine distance. Predictions are the fused ones, of whole songs."
    return page("tsne.html", "Map of the embeddings", body, data, ["tsne.js"], note)


def _view_data(view: View, songs: Songs, member: int) -> dict[str, Any]:
    shown = len(view.songs)
    splits = songs.splits[view.songs]
    parts = ", ".join(
        f"{int((splits == number).sum()):,} {split}"
        for number, split in enumerate(SPLITS)
        if (splits == number).any()
    )
    drawn = f" drawn evenly from {view.total:,}" if shown < view.total else ""
    says = f"Member {view.member}: {shown:,} {view.level}s{drawn} ({parts})."
    return {
        "member": member,
        "level": view.level,
        "says": says,
        "x": view.points[:, 0].round(2).tolist(),
        "y": view.points[:, 1].round(2).tolist(),
        "song": view.songs.tolist(),
        "start": None if view.starts_s is None else view.starts_s.round(2).tolist(),
    }


def _components(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """First two principal components (n, 2), standard deviation 1, with a trace of jitter.

    Signs are fixed by the largest entry, for they are arbitrary in a singular value decomposition.
    The jitter parts equal points; components that do not exist stay at it.
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    kept = centred @ directions[:2].T
    for column in kept.T:
        column *= np.sign(column[np.abs(column).argmax()]) or 1.0
    points = np.zeros((len(embeddings), 2))
    spread = float(kept[:, 0].std())
    if spread > 1e-9:
        points[:, : kept.shape[1]] = kept / spread
    return points + np.random.default_rng(seed).normal(scale=1e-2, size=points.shape)
