"""How a member learned: its training's log, and what it knows of training and of other songs.

Enters: a member's `log.csv`, and its stores of training and validation songs. Leaves: `Log`, values
by epoch with the kept one, and `Gap`, shares of right answers on songs that were trained on and on
songs that were not.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts import Run
from embedder.inference.store import Store
from embedder.intervals import difference
from embedder.metrics import Estimate, bootstrap_interval, mean_of, ranking
from embedder.settings import train_again

SCORES = ("segment_score", "score")  # what an epoch is chosen by; older logs lack the first
CURVES = ("loss", *SCORES, "nll", "lr")


@dataclass(frozen=True)
class Log:
    """What a member's training wrote after each epoch."""

    member: str
    columns: dict[str, list[float]]  # name → a value an epoch
    kept: int  # row of the epoch whose weights the member has

    @property
    def epochs(self) -> int:
        return len(self.columns["epoch"])

    @property
    def chosen_by(self) -> str:
        """The column by which epochs are compared."""
        return next((name for name in SCORES if name in self.columns), "")


@dataclass(frozen=True)
class Gap:
    """What a member gets right of songs that it was trained on, and of others."""

    member: str
    how: str  # "head": share of segments; "neighbours": share of songs
    train: Estimate
    train_songs: int
    validation: Estimate
    validation_songs: int

    @property
    def value(self) -> Estimate:
        """train − validation."""
        return difference(self.train, self.validation)


def read_log(run: Run, member: str) -> Log | str:
    """A member's log, or why there is none to draw."""
    path = run.log(member)
    again = train_again(run, member)
    if not path.is_file():
        return f"Member {member} has no log of its training; {again}"
    broken = f"The log of member {member} cannot be read; {again}"
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        names = ["epoch", *CURVES]
        there = [name for name in names if rows and rows[0].get(name) not in (None, "")]
        columns = {name: [float(row[name]) for row in rows] for name in there}
        best = [number for number, row in enumerate(rows) if row.get("best") == "1"]
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        return broken
    finite = all(math.isfinite(value) for column in columns.values() for value in column)
    if "epoch" not in columns or not best or not finite:
        return broken
    return Log(member, columns, best[-1])


def training_gap(stores: Sequence[Store], seed: int = 0) -> Gap | None:
    """What the kept epoch gets right of training and of validation songs, each song counting once.

    With a head: the share of a song's segments that it names right. Without one: whether the
    nearest training song of another album is by the same singer. None where neither can be asked.
    """
    by_split = {store.split: store for store in stores}
    if not {"train", "validation"} <= by_split.keys():
        return None
    train = by_split["train"]
    if all(by_split[split].segment_logits is not None for split in ("train", "validation")):
        how = "head"
        parts = [segments_right(by_split[split]) for split in ("train", "validation")]
    else:
        how = "neighbours"
        parts = [nearest_right(train, by_split[split]) for split in ("train", "validation")]
    kept = [np.flatnonzero(~np.isnan(part)) for part in parts]
    if not all(len(rows) for rows in kept):
        return None
    first, second = (
        bootstrap_interval(
            mean_of(part[rows]), len(rows), seed, np.array(by_split[split].groups)[rows]
        )
        for part, rows, split in zip(parts, kept, ("train", "validation"), strict=True)
    )
    return Gap(train.member, how, first, len(kept[0]), second, len(kept[1]))


def segments_right(store: Store) -> NDArray[np.float64]:
    """Share of each song's segments whose highest logit is that of the true singer (songs,).

    NaN where the singer is unknown.
    """
    if store.segment_logits is None:
        raise ValueError(f"member {store.member!r} has no classification head")
    right = ranking(store.segment_logits)[:, 0] == store.labels[store.segment_song]
    hits = np.bincount(store.segment_song, right, len(store.song_ids))
    counts = np.bincount(store.segment_song, minlength=len(store.song_ids))
    return np.where(store.labels >= 0, hits / counts, np.nan)


def nearest_right(train: Store, queries: Store) -> NDArray[np.float64]:
    """Whether the nearest training song by cosine that is of another album has the same singer.

    (songs,), NaN where the singer is unknown or has no such song. A song without an album is its
    own.
    """
    albums = np.array(train.groups)
    found = np.full(len(queries.labels), np.nan)
    for row, (label, album) in enumerate(zip(queries.labels, queries.groups, strict=True)):
        allowed = albums != album
        if label >= 0 and (train.labels[allowed] == label).any():
            cosines = np.where(allowed, train.embeddings @ queries.embeddings[row], -np.inf)
            found[row] = float(train.labels[int(cosines.argmax())] == label)
    return found
