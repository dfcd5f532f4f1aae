"""The songs: how they are split, and what they look like."""

from __future__ import annotations

from functools import partial

import numpy as np

from analysis.pages.confusion import alphabetical
from analysis.report import charts
from analysis.report.deck import Column, Figure, LeftOut, Slide, Table, Text, not_measured, plain
from analysis.report.facts import Facts
from analysis.run_data import RunData
from embedder.catalogue import read_catalogue
from embedder.errors import Command
from embedder.measures.records import SECONDS, read_spectrograms
from embedder.run import SPLITS
from embedder.text import counted

MELS = 24  # singers whose spectrograms are shown


def data_slide(data: RunData, facts: Facts) -> Slide:
    """Counts by split, and songs by singer."""
    songs = data.songs
    known = songs.labels >= 0
    there = [number for number in range(len(SPLITS)) if (songs.splits == number).any()]
    counts = np.zeros((len(songs.singers), len(there)), dtype=np.int64)
    for column, number in enumerate(there):
        rows = known & (songs.splits == number)
        counts[:, column] = np.bincount(songs.labels[rows], minlength=len(songs.singers))
    hours = _hours(data)
    lines = [_row(data, SPLITS[number], hours) for number in there]
    lines.append(_row(data, "", hours))
    head = ("split", "singers", "albums", "songs", "a singer", *(["hours"] if hours else []))
    table = Table(head, tuple(lines), tuple(range(1, len(head))), (len(lines) - 1,), 15.0)
    order = alphabetical(songs.singers)
    texts = [leakage_sentence(data)]
    if len(order) > charts.NAMED:
        order = sorted(order, key=lambda one: int(counts[one].sum()))[: charts.NAMED]
        texts.append(f"Drawn: the {len(order)} singers with the fewest songs.")
    names, splits = [songs.singers[one] for one in order], [SPLITS[n] for n in there]
    drawing = Figure(
        partial(charts.draw_splits, names=names, counts=counts[order], splits=splits),
        "Songs of each singer by split",
    )
    by = (facts.prepared or {}).get("split")
    message = (
        f"{counted(len(songs.ids), 'song')} by {counted(len(songs.singers), 'singer')}"
        f"{f', split by {by}' if by in ('album', 'song') else ''}; members learn from the train "
        "split, the fusion is fitted on the validation split."
    )
    left = Column((table, *(Text(one, 15.0) for one in texts)), 1.1)
    return Slide("Data and split", message, (left, Column((drawing,))))


def leakage_sentence(data: RunData) -> str:
    """Whether songs of one album stand in several splits."""
    songs = data.songs
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


def _row(data: RunData, split: str, hours: dict[str, float]) -> tuple[str, ...]:
    """Counts of a split, of all songs for ""."""
    songs = data.songs
    rows = np.ones(len(songs.ids), dtype=bool)
    if split:
        rows = songs.splits == SPLITS.index(split)
    labels = songs.labels[rows & (songs.labels >= 0)]
    _, each = np.unique(labels, return_counts=True)
    albums = {songs.albums[row] for row in np.flatnonzero(rows) if songs.albums[row]}
    low, high = (int(each.min()), int(each.max())) if len(each) else (0, 0)
    numbers = (len(each), len(albums), int(rows.sum()))
    span = str(low) if low == high else f"{low}–{high}"
    found = (split or "all", *(f"{number:,}" for number in numbers), span)
    return (*found, f"{hours.get(split, 0.0):.1f}") if hours else found


def _hours(data: RunData) -> dict[str, float]:
    """Split → hours of song, all of them under ""; empty where the catalogue does not tell."""
    path = data.run.catalogue
    if not path.is_file():
        return {}
    seconds = {song.id: song.seconds for song in read_catalogue(path).songs}
    found: dict[str, float] = {"": 0.0}
    for song, split in zip(data.songs.ids, data.songs.splits.tolist(), strict=True):
        if song not in seconds:
            return {}
        found[SPLITS[split]] = found.get(SPLITS[split], 0.0) + seconds[song] / 3600
        found[""] += seconds[song] / 3600
    return found


def spectrogram_slide(data: RunData) -> Slide | LeftOut:
    """Log-mel of a training song of each singer, or of the first ones where there are many."""
    found = read_spectrograms(data.run)
    if found is None or not len(found.singers):
        return not_measured("spectrograms of the singers", Command("measure", what="spectrograms"))
    names = [plain(name) for name in found.singers[:MELS]]
    across = next(n for n in (1, 2, 3, 4, 5, 6) if n * max(n - 2, 1) >= len(names) or n == 6)
    drawing = Figure(
        partial(charts.draw_mels, names=names, levels=found.mixture[:MELS], across=across),
        "Mel spectrograms",
    )
    message = (
        f"{SECONDS} s of a training song of each singer, the mixture, in {len(found.hertz)} mel "
        f"bands from {found.hertz[0]:,.0f} Hz (below) to {found.hertz[-1]:,.0f} Hz."
    )
    if len(found.singers) > MELS:
        message += f" Shown: {MELS} of {len(found.singers)} singers."
    note = f"Brighter: louder, {found.step_db * 255:.0f} dB from dark to bright."
    return Slide("Three seconds of each singer", message, (Column((drawing,)),), note)
