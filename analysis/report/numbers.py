"""The numbers of a run that several slides show, computed once, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from analysis.maps import View, all_views
from analysis.measures.album_effect import AlbumEffect, album_effect, neighbourhood, usable
from analysis.measures.robustness import Curve, curves
from analysis.pages.albums import embeddings
from analysis.pages.experts import Opinions, best_of, opinions
from analysis.pages.reliability import answered_groups, answers
from analysis.pages.training import Gap, Log, read_log, training_gap
from analysis.report.deck import short
from analysis.run_data import Predicted, RunData
from analysis.wording import no_mistake
from embedder.metrics import summarise
from embedder.statistics import Estimate
from embedder.text import counted
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fitted import ResultRow
from ensemble.robustness import Measured, fitting

HOW = {"validation": "cross-fitted by album", "test": "held out: nothing was fitted on them"}


@dataclass(frozen=True, eq=False)
class Numbers:
    """What slides show."""

    lead: Predicted  # the test songs where there are any, else the validation songs
    opinions: Opinions  # of the lead
    best: str  # name of the best single expert, "" where none is known
    rows: tuple[ResultRow, ...]  # of each expert and all fused, of each split
    view: View  # the map of songs, of all members together or of the only one
    albums: tuple[str, AlbumEffect] | None  # name of the embedding; None: albums say nothing
    robustness: Measured | str  # or why there is none
    curves: tuple[Curve, ...]  # robustness of the fused answers
    logs: tuple[Log, ...]  # of the members that have one
    gaps: tuple[Gap, ...]  # between training and validation songs, likewise


def numbers_of(data: RunData) -> Numbers:
    """All of them."""
    measured = fitting(data.run)
    lead = data.predicted[-1]
    found = opinions(lead)
    logs = [read_log(data.run, name) for name in data.members]
    gaps = [training_gap(data.stores(name), data.seed) for name in data.members]
    return Numbers(
        lead, found, best_of(data.fusion, found), song_rows(data),
        next(all_views(data)), album_effect_of(data), measured,
        () if isinstance(measured, str) else tuple(curves(measured, FUSED)),
        tuple(one for one in logs if isinstance(one, Log)),
        tuple(one for one in gaps if one is not None),
    )  # fmt: skip


def legible(data: RunData) -> RunData:
    """The same run with singers' names that a slide can show."""
    singers = tuple(short(name) for name in data.songs.singers)
    return replace(
        data,
        songs=replace(data.songs, singers=singers),
        predicted=tuple(replace(one, singers=singers) for one in data.predicted),
    )


def album_effect_of(data: RunData) -> tuple[str, AlbumEffect] | None:
    """Name and album effect of the embedding of all together; None where albums say nothing."""
    name, songs = next(embeddings(data))
    return (name, album_effect(neighbourhood(songs), data.seed)) if usable(songs) else None


def song_rows(data: RunData) -> tuple[ResultRow, ...]:
    """A row for each expert and all fused, of each predicted split, the fused one last.

    Those of the fusion where it has them, else computed from the predictions.
    """
    held = data.fusion.report.results if data.fusion else ()
    found: list[ResultRow] = []
    for table in data.predicted:
        rows = [row for row in held if row.split == table.split and row.level == "song"]
        found += rows or _computed(table, data.seed)
    return tuple(found)


def _computed(table: Predicted, seed: int) -> list[ResultRow]:
    rows = []
    with np.errstate(divide="ignore"):
        for name, (truth, probabilities) in answers(table).items():
            groups = answered_groups(table, name)
            summary = summarise(truth, np.log(probabilities), seed, groups)
            rows.append(ResultRow(name, table.split, "song", table.split == "validation", summary))
    return [*rows[1:], rows[0]]  # `answers` has the fused one first


def of_split(rows: Iterable[ResultRow], split: str) -> tuple[ResultRow, ...]:
    """The rows of one split."""
    return tuple(row for row in rows if row.split == split)


def is_fused(row: ResultRow) -> bool:
    """Whether a row is of all experts together."""
    return "/" not in row.expert


def as_text(one: Estimate, songs: int, share: bool = False) -> str:
    """The interval in words; where there is no mistake to resample, what albums leave likely."""
    if one.value == 1 and share:
        return no_mistake(one, songs)
    low, high = (f"{x:.1%}" if share else f"{x:.3f}" for x in (one.low, one.high))
    return f"95% interval {low} to {high}"


def with_interval(one: Estimate) -> str:
    """`0.990 (0.970–1.000)`."""
    return f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})"


def signed(one: Estimate) -> str:
    """`−0.010 (−0.030 to +0.020)`."""
    value, low, high = (f"{x:+.3f}".replace("-", "−") for x in (one.value, one.low, one.high))
    return f"{value} ({low} to {high})"


def footing(predicted: Predicted) -> str:
    """Split, level, songs and how far the numbers can be trusted."""
    songs = counted(len(predicted.ids), f"{predicted.split} song")
    return f"{songs}, {HOW[predicted.split]}. 95% intervals: bootstrap over albums."
