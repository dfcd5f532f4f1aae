"""The members page: how alike the experts answer, and what came of putting them together.

Enters: predictions of every expert and of all fused, and the fusion's weights. Leaves: the text of
`members.html`: each expert's accuracy and weight, agreement and double faults of every pair, and
the songs that the ensemble fixed and broke against the best single expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.page import choice, escape, page, table
from analysis.run_data import FUSE, Predicted, RunData, album_title, song_title
from analysis.wording import counted, interval, points
from embedder.agreement import Pairs, double_faults, kappas
from embedder.metrics import Estimate, bootstrap_interval, mean_of, paired_difference, ranking
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fit import best_expert
from ensemble.fusion.fitted import Fusion

LISTED = 40  # songs of each kind that are listed
WEIGHTS_SAY = {  # what a weight means under each way to fuse
    "log_linear": "A weight is what an expert's log-probability counts in the pool.",
    "best_single": "The method takes one expert alone.",
    "vote": "Every expert has one vote.",
    "mean": "Every expert counts the same in the mean of probabilities.",
    "stack": "Weights hold for songs that some expert cannot hear; for all others a regression "
    "decides.",
}


def members_finding(found: Opinions, best: str, seed: int = 0) -> str:
    """What the ensemble adds to its best expert, in a sentence."""
    truth, songs = found.predicted.truth, len(found.predicted.ids)
    where = f"{songs:,} {found.predicted.split} songs"
    hits = found.fused == truth
    groups = found.predicted.groups
    whole = bootstrap_interval(mean_of(hits), songs, seed, groups)
    start = (
        f"On {where} the ensemble names the right singer for {whole.value:.1%} "
        f"({interval(whole, songs)})"
    )
    if best not in found.experts:
        return f"{start}; what single experts say is not known."
    single = found.named[found.experts.index(best)]
    moved = changes(truth, single, found.fused)
    gain = paired_difference(mean_of(hits), mean_of(single == truth), songs, seed, groups, 1.0)
    among = f"the best of {counted(len(found.experts), 'single expert')}, "
    return (
        f"{start} and {best}, {among if len(found.experts) > 1 else ''}for "
        f"{(single == truth).mean():.1%}: the ensemble fixed {counted(len(moved.fixed), 'song')} "
        f"and broke {len(moved.broken):,} ({points(gain)})."
    )


def members_page(run_data: RunData) -> str:
    """The text of `members.html`."""
    fusion, seed = run_data.fusion, run_data.seed
    sets = [opinions(one) for one in run_data.predicted]
    best = best_of(fusion, sets[0])
    splits = [(str(number), one.predicted.split) for number, one in enumerate(sets)]
    controls = choice("split", "Split", splits)
    pairs = len(sets[0].experts) > 1
    units = choice(
        "unit", "Of two experts", [("kappa", "agreement (kappa)"), ("fault", "both wrong")]
    )
    parts = "".join(
        f'<div data-set="{number}"{" hidden" if number else ""}>{_songs(one, best)}'
        f"{_numbers(one, fusion, seed)}</div>"
        for number, one in enumerate(sets)
    )
    method = fusion.method if fusion is not None else ""
    body = f"""<p id="finding">{escape(members_finding(sets[0], best, seed))}</p>
<div class="controls">{controls}</div>
<h2>Right answers and weights</h2>
<div class="plot"><div id="accuracy"></div></div>
<p class="soft">Lines are 95% intervals, bootstrap over albums; the ring marks the best single
expert, picked with hindsight. {escape(WEIGHTS_SAY.get(method, ""))}</p>
{_agreement(units) if pairs else _missing(sets[0])}
{parts}"""
    data = {
        "best": best,
        "weights": {name: round(weight, 4) for name, weight in fusion.weights.items()}
        if fusion
        else {},
        "sets": [_set_data(one, seed) for one in sets],
    }
    notes = [one.predicted.how for one in sets]
    return page("members.html", _title(sets[0]), body, data, ["experts.js"], " ".join(notes))


def _agreement(units: str) -> str:
    return f"""<h2>How alike two experts answer</h2>
<div class="controls">{units}</div>
<div class="plot"><div class="scroll"><div id="plot"></div></div></div>
<p class="soft">Cohen's kappa: 1 where two experts always name the same singer, 0 where they agree
no more than by chance. Both wrong: the share of songs that neither gets right; on the diagonal,
those that one gets wrong. Experts that are right and seldom wrong together have most to give each
other. Click a cell for its songs.</p>
<div id="cell" aria-live="polite"></div>"""


def _missing(found: Opinions) -> str:
    """Why there are no pairs, and what would make them."""
    if found.experts:
        return (
            f"<p>There is one expert, {escape(found.experts[0])}, and no other to agree with.</p>"
        )
    return f"<p>The predictions hold no single expert's answers; {escape(str(FUSE))}</p>"


def _numbers(found: Opinions, fusion: Fusion | None, seed: int) -> str:
    """The figure's numbers as a table."""
    rows = []
    for name, hits in _right(found).items():
        one = bootstrap_interval(mean_of(hits), len(hits), seed, found.predicted.groups)
        weight = fusion.weights.get(name) if fusion is not None else None
        rows.append(
            (
                "\n".join(name.rsplit("/", 1)),
                f"{int(hits.sum()):,} of {len(hits):,}",
                f"{one.value:.1%}\n{one.low:.1%} to {one.high:.1%}",
                "" if weight is None else f"{weight:.3f}",
            )
        )
    heading = f"<h2>All experts, {found.predicted.split} split, song level</h2>"
    return heading + table(("answers of", "songs right", "right", "weight"), rows, range(1, 4))


def _right(found: Opinions) -> dict[str, NDArray[np.bool_]]:
    """Source → whether it names the right singer (songs,), the fused one first."""
    everyone = zip(found.experts, found.named, strict=True)
    answers = {FUSED: found.fused, **dict(everyone)}
    return {name: named == found.predicted.truth for name, named in answers.items()}


def _songs(found: Opinions, best: str) -> str:
    """Tables of the songs that the ensemble fixed, broke and left wrong."""
    if best not in found.experts:
        return ""
    predicted, single = found.predicted, found.named[found.experts.index(best)]
    moved = changes(predicted.truth, single, found.fused)
    confidence = {
        best: predicted.experts[best].max(axis=1),
        FUSED: predicted.probabilities.max(axis=1),
    }
    parts = []
    for heading, says, rows in (
        ("Fixed by the ensemble", f"{best} is wrong, the ensemble right.", moved.fixed),
        ("Broken by the ensemble", f"{best} is right, the ensemble wrong.", moved.broken),
        ("Wrong in both", f"{best} and the ensemble are wrong.", moved.missed),
    ):
        where = f"{len(rows):,} of {len(predicted.ids):,} {predicted.split} songs"
        parts.append(f"<h2>{heading}: {where}</h2>")
        if not len(rows):
            continue
        parts.append(f'<p class="soft">{escape(says)}</p>')
        shown = rows[np.argsort(-confidence[FUSED][rows], kind="stable")][:LISTED]
        lines = [
            (
                f"{song_title(predicted.ids[row])}\n{album_title(predicted.albums[row])}",
                predicted.singers[predicted.truth[row]],
                f"{predicted.singers[single[row]]}\n{confidence[best][row]:.1%} sure",
                f"{predicted.singers[found.fused[row]]}\n{confidence[FUSED][row]:.1%} sure",
            )
            for row in shown
        ]
        parts.append(table(("song", "true singer", best, "ensemble"), lines))
        if len(rows) > LISTED:
            parts.append(f'<p class="soft">These are the {LISTED} surest.</p>')
    return "".join(parts)


def _set_data(found: Opinions, seed: int) -> dict[str, Any]:
    predicted = found.predicted
    right = _right(found)
    groups = predicted.groups
    estimates = [
        bootstrap_interval(mean_of(hits), len(groups), seed, groups) for hits in right.values()
    ]
    pairs = len(found.experts) > 1
    return {
        "title": _title(found),
        "split": predicted.split,
        "accuracy": {"names": list(right), **_columns(estimates)},
        "experts": found.experts,
        "kappa": _matrices(kappas(found.named, seed, groups)) if pairs else None,
        "fault": _matrices(double_faults(predicted.truth, found.named, seed, groups))
        if pairs
        else None,
        "singers": predicted.singers,
        "truth": predicted.truth.tolist(),
        "named": found.named.tolist(),
        "songs": [song_title(song) for song in predicted.ids],
        "albums": [album_title(album) for album in predicted.albums],
    }


def _columns(estimates: Sequence[Estimate]) -> dict[str, list[float]]:
    return {
        name: [round(getattr(one, name), 6) for one in estimates]
        for name in ("value", "low", "high")
    }


def _matrices(pairs: Pairs) -> dict[str, list[list[float | None]]]:
    """Rounded matrices; what is not defined becomes null."""
    return {
        name: [
            [None if np.isnan(value) else round(float(value), 6) for value in row]
            for row in getattr(pairs, name)
        ]
        for name in ("value", "low", "high")
    }


def _title(found: Opinions) -> str:
    return (
        f"Experts and their ensemble: {found.predicted.split} split, song level, "
        f"{len(found.predicted.ids):,} songs"
    )


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
    if fusion is not None and fusion.report.best_expert in found.experts:
        return fusion.report.best_expert
    with np.errstate(divide="ignore"):
        logs = {name: np.log(p) for name, p in found.predicted.experts.items()}
    return best_expert(found.predicted.truth, logs) if logs else ""
