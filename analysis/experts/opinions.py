"""What every expert names, and what putting them together changed.

Enters: predictions of one split. Leaves: `Opinions`, the first choices of every expert and of all
fused on the same songs; the best single expert; and `Changes`, the songs that the ensemble fixed
and broke.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.inputs import Predicted
from embedder.metrics import ranking
from ensemble.fusion.fit import best_expert
from ensemble.fusion.fitted import Fusion

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Opinions:
    """What every expert names, for the songs of one split that all of them answer."""

    predicted: Predicted
    experts: tuple[str, ...]
    named: Rows  # (experts, songs), index into singers
    fused: Rows  # (songs,)


@dataclass(frozen=True, eq=False)
class Changes:
    """Rows of the songs on which the ensemble and one expert differ in being right."""

    fixed: Rows  # the expert is wrong, the ensemble right
    broken: Rows  # the expert is right, the ensemble wrong
    missed: Rows  # both are wrong


def opinions(predicted: Predicted) -> Opinions:
    """The first choices of every expert and of all fused, on the songs that all of them answer.

    An expert without any answer is left out; if no song has them all, only the fused is kept.
    """
    silent = {name: np.isnan(p).any(axis=1) for name, p in predicted.experts.items()}
    experts = {n: p for n, p in predicted.experts.items() if not silent[n].all()}
    rows = np.ones(len(predicted.ids), dtype=bool)
    for name in experts:
        rows &= ~silent[name]
    if not rows.any():
        experts, rows = {}, ~rows
    kept = replace(predicted, experts=experts).take(np.flatnonzero(rows))
    named = [ranking(values)[:, 0] for values in kept.experts.values()]
    return Opinions(
        kept,
        tuple(experts),
        np.array(named, dtype=np.int64).reshape(len(named), len(kept.ids)),
        ranking(kept.probabilities)[:, 0],
    )


def changes(truth: Rows, single: Rows, fused: Rows) -> Changes:
    """What naming `fused` instead of `single` (songs,) did to the songs."""
    before, after = single == truth, fused == truth
    return Changes(
        np.flatnonzero(~before & after),
        np.flatnonzero(before & ~after),
        np.flatnonzero(~before & ~after),
    )


def best_of(fusion: Fusion | None, found: Opinions) -> str:
    """The expert that the fusion calls its best, or that of these songs; "" without any."""
    if fusion is not None and fusion.best_expert in found.experts:
        return fusion.best_expert
    with np.errstate(divide="ignore"):
        logs = {name: np.log(p) for name, p in found.predicted.experts.items()}
    return best_expert(found.predicted.truth, logs) if logs else ""
