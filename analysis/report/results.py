"""Rows of the results table: what the fusion measured, and the test songs beside it.

Enters: `RunData`. Leaves: `ResultRow`s at song level, and how estimates are written.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analysis.pages.reliability import answered_groups, answers
from analysis.run_data import Predicted, RunData
from analysis.wording import counted, no_mistake
from embedder.metrics import Estimate, summarise
from ensemble.fusion.fitted import ResultRow


def song_rows(run_data: RunData) -> tuple[ResultRow, ...]:
    """A row for each expert and all fused, of each predicted split, the fused one last.

    Those of the fusion where it has them, else computed from the predictions.
    """
    held = run_data.fusion.results if run_data.fusion else ()
    found: list[ResultRow] = []
    for table in run_data.predicted:
        rows = [row for row in held if row.split == table.split and row.level == "song"]
        found += rows or _computed(table, run_data.seed)
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


def as_text(one: Estimate, songs: int, share: bool = False) -> str:
    """The interval in words; where there is no mistake to resample, what albums leave likely."""
    if one.value == 1 and share:
        return no_mistake(one, songs)
    low, high = (f"{x:.1%}" if share else f"{x:.3f}" for x in (one.low, one.high))
    return f"95% interval {low} to {high}"


def footing(predicted: Predicted) -> str:
    """Split, level, songs and how far the numbers can be trusted."""
    how = {
        "validation": "cross-fitted by album",
        "test": "on which nothing was fitted",
    }[predicted.split]
    return (
        f"Song level, {counted(len(predicted.ids), f'{predicted.split} song')}, {how}. Intervals: "
        "95%, bootstrap over albums."
    )


def with_interval(one: Estimate) -> str:
    """`0.990 (0.970–1.000)`."""
    return f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})"
