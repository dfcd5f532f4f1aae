"""The slide on the data: how many songs, albums and singers, and how they are split.

Enters: `RunData`, and the run's catalogue for lengths where there is one. Leaves: a `Slide`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from analysis.pages.confusion import alphabetical
from analysis.report.figures.estimates import draw_splits
from analysis.report.slide import Column, Drawing, Slide, Table, Text
from analysis.run_data import RunData
from analysis.wording import counted
from embedder.catalogue import read_catalogue
from embedder.run import SPLITS

DRAWN = 26  # singers that have a bar; of more, those with fewest songs


def data_slide(run_data: RunData) -> Slide:
    """Counts by split, and songs by singer."""
    songs = run_data.songs
    known = songs.labels >= 0
    there = [number for number in range(len(SPLITS)) if (songs.splits == number).any()]
    counts = np.zeros((len(songs.singers), len(there)), dtype=np.int64)
    for column, number in enumerate(there):
        rows = known & (songs.splits == number)
        counts[:, column] = np.bincount(songs.labels[rows], minlength=len(songs.singers))
    hours = _hours(run_data)
    lines = [_row(run_data, SPLITS[number], hours) for number in there]
    lines.append(_row(run_data, "", hours))
    head = ("split", "singers", "albums", "songs", "songs a singer", *(["hours"] if hours else []))
    table = Table(head, tuple(lines), tuple(range(1, len(head))), (len(lines) - 1,), 15.0)
    order = alphabetical(songs.singers)
    if len(order) > DRAWN:
        order = sorted(order, key=lambda one: int(counts[one].sum()))[:DRAWN]
    names = [songs.singers[one] for one in order]
    drawing = Drawing(
        partial(draw_splits, names=names, counts=counts[order], splits=[SPLITS[n] for n in there]),
        "Songs of each singer by split",
    )
    blocks: tuple[Table | Text, ...] = (table, Text(leakage_sentence(run_data), 14.0))
    if len(order) < len(songs.singers):
        said = f"Drawn: the {len(order)} singers with the fewest songs."
        blocks += (Text(said, 12.0),)
    message = (
        f"{counted(len(songs.ids), 'song')} by {counted(len(songs.singers), 'singer')}; the "
        "members are trained on the train split, and the fusion is fitted on the validation split."
    )
    return Slide("Data and split", message, (Column(blocks, 1.1), Column((drawing,))))


def leakage_sentence(run_data: RunData) -> str:
    """Whether songs of one album stand in several splits, in a sentence."""
    songs = run_data.songs
    splits: dict[str, set[int]] = {}
    for album, split in zip(songs.albums, songs.splits.tolist(), strict=True):
        if album:
            splits.setdefault(album, set()).add(split)
    if not splits:
        return "The albums of the songs are not known."
    torn = sum(len(found) > 1 for found in splits.values())
    if not torn:
        return f"None of the {counted(len(splits), 'album')} stands in two splits."
    return (
        f"{torn:,} of {counted(len(splits), 'album')} {'has' if torn == 1 else 'have'} songs in "
        "several splits, so a band that is known may help to name a singer."
    )


def _row(run_data: RunData, split: str, hours: dict[str, float]) -> tuple[str, ...]:
    """Counts of a split, of all songs for ""."""
    songs = run_data.songs
    rows = np.ones(len(songs.ids), dtype=bool)
    if split:
        rows = songs.splits == SPLITS.index(split)
    labels = songs.labels[rows & (songs.labels >= 0)]
    _, each = np.unique(labels, return_counts=True)
    albums = {songs.albums[row] for row in np.flatnonzero(rows) if songs.albums[row]}
    span = "–" if not len(each) else f"{each.min()}–{each.max()}"
    if len(each) and each.min() == each.max():
        span = str(each.min())
    numbers = (len(each), len(albums), int(rows.sum()))
    found = (split or "all", *(f"{number:,}" for number in numbers), span)
    return (*found, f"{hours.get(split, 0.0):.1f}") if hours else found


def _hours(run_data: RunData) -> dict[str, float]:
    """Split → hours of song, all of them under ""; empty where the catalogue does not tell."""
    path = run_data.run.catalogue
    if not path.is_file():
        return {}
    seconds = {song.id: song.seconds for song in read_catalogue(path).songs}
    found: dict[str, float] = {"": 0.0}
    for song, split in zip(run_data.songs.ids, run_data.songs.splits.tolist(), strict=True):
        if song not in seconds:
            return {}
        found[SPLITS[split]] = found.get(SPLITS[split], 0.0) + seconds[song] / 3600
        found[""] += seconds[song] / 3600
    return found
