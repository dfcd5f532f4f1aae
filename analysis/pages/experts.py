"""The members page: how alike the experts answer, and what came of putting them together.

Each expert's accuracy and weight, agreement and double faults of every pair, and the songs that the
ensemble fixed and broke against the best single expert.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis import figures as fig
from analysis.figures import Json
from analysis.page import choice, escape, numbered, page, panel, plot, table, variants
from analysis.run_data import FUSE, Predicted, RunData, album_title, song_title
from analysis.wording import interval, points, share_cell
from embedder.metrics import ranking
from embedder.statistics import (
    Estimate,
    Pairs,
    bootstrap_interval,
    double_faults,
    kappas,
    mean_of,
    paired_difference,
)
from embedder.text import counted
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fit import best_expert
from ensemble.fusion.fitted import Fusion

LISTED = 40  # songs of each kind that are listed
UNITS = (("kappa", "agreement (kappa)"), ("fault", "both wrong"))
WEIGHTS_SAY = {  # what a weight means under each way to fuse
    "log_linear": "A weight is what an expert's log-probability counts in the pool.",
    "best_single": "The method takes one expert alone.",
    "vote": "Every expert has one vote.",
    "mean": "Every expert counts the same in the mean of probabilities.",
    "stack": "Weights hold for songs for which some expert is unavailable; for all others a "
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
    controls = choice("split", "Split", numbered(one.predicted.split for one in sets))
    pairs = len(sets[0].experts) > 1
    units = choice("unit", "Of two experts", UNITS)
    parts = [_songs(one, best) + _numbers(one, fusion, seed) for one in sets]
    method = fusion.method if fusion is not None else ""
    body = f"""<p id="finding">{escape(members_finding(sets[0], best, seed))}</p>
<div class="controls">{controls}</div>
<h2>Right answers and weights</h2>
{plot("accuracy")}
<p class="soft">Lines are 95% intervals, bootstrap over albums; the ring marks the best single
expert, picked with hindsight. {escape(WEIGHTS_SAY.get(method, ""))}</p>
{_agreement(units, sets) if pairs else _missing(sets[0])}
{variants("div", parts, "split")}"""
    weights = fusion.weights if fusion is not None else {}
    figures = {"accuracy": accuracy_figure(sets, best, weights, seed)}
    if pairs:
        figures["plot"] = pairs_figure(sets, seed)
    note = " ".join(one.predicted.how for one in sets)
    return page("members.html", [_title(one) for one in sets], body, note=note, figures=figures)


def accuracy_figure(
    sets: Sequence[Opinions], best: str, weights: Mapping[str, float], seed: int
) -> Json:
    """Dots of accuracy beside bars of weight, a row an expert."""
    layout = {
        "margin": {"l": 14, "r": 14, "t": 10, "b": 50},
        "xaxis": fig.axis("right, song level", domain=[0, 0.62], tickformat=".0%", nticks=6),
        "xaxis2": fig.axis("weight", domain=[0.68, 1], rangemode="tozero", nticks=4, tickangle=0),
    }
    cases = []
    for split, found in enumerate(sets):
        right = _right(found)
        groups = found.predicted.groups
        shares = [
            bootstrap_interval(mean_of(hits), len(groups), seed, groups) for hits in right.values()
        ]
        names, places = list(right), list(range(len(right)))
        strong = [name == FUSED for name in names]
        marker = {
            "color": [fig.colour("text" if one else "right") for one in strong],
            "size": [13 if one else 11 for one in strong],
            "symbol": ["diamond" if one else "circle" for one in strong],
            "opacity": 1,
            "line": {"color": fig.colour("text"), "width": [2.5 * (n == best) for n in names]},
        }
        text = [
            f"<b>{fig.label(name, 48)}</b><br>right {fig.spread(one)}"
            + ("<br>the best single expert" if name == best else "")
            for name, one in zip(names, shares, strict=True)
        ]
        dots = fig.markers(
            fig.rounded([one.value for one in shares], 6), places, text,
            marker=marker, error_x=fig.error_bars(shares, thickness=1.5, width=4),
        )  # fmt: skip
        heavy = fig.bars(
            [weights.get(name) for name in names],
            places,
            [f"<b>{fig.label(one, 48)}</b><br>weight {weights.get(one, 0):.3f}" for one in names],
            "right",
            **{"orientation": "h", "xaxis": "x2", "width": 0.5},
        )
        lowest = min(one.low for one in shares)
        low = max(0.0, lowest - 0.1 * (1 - lowest) - 0.005)
        ends = [len(names) - 0.5, -0.5]
        shape = {
            "height": 74 + 30 * len(names),
            "xaxis": {"range": [low, 1.002 + 0.03 * (1 - lowest)]},
            "yaxis": fig.categories(
                [" ".join(_parts(name, 30)) for name in names], 48, range=ends, automargin=True
            ),
        }
        short = {
            "height": 74 + 38 * len(names),
            "xaxis": {"domain": [0, 0.58], "nticks": 4},
            "xaxis2": {"domain": [0.72, 1], "nticks": 3},
            "yaxis": {
                "ticktext": ["<br>".join(map(fig.label, _parts(name, 14)[::-1])) for name in names],
                "tickfont": {"size": 11},
            },
        }
        cases.append(fig.case([dots, heavy], shape, split=str(split)))
        cases.append(fig.case(layout=short, split=str(split), narrow=True))
    return fig.figure([], layout, cases)


def _parts(name: str, letters: int) -> list[str]:
    """An expert's member, at most so long, and its kind; the fused one has no member."""
    member, _, kind = name.rpartition("/")
    short = member if len(member) <= letters else member[: letters - 1] + "…"
    return [one for one in (short, kind) if one]


def pairs_figure(sets: Sequence[Opinions], seed: int) -> Json:
    """Agreement and double faults of each two experts as a matrix; a click lists their songs."""
    size = max(len(one.experts) for one in sets)
    layout, square = fig.matrix(size, least=26, most=64)
    cases = []
    for split, found in enumerate(sets):
        predicted, groups = found.predicted, found.predicted.groups
        pairs = {
            "kappa": kappas(found.named, seed, groups),
            "fault": double_faults(predicted.truth, found.named, seed, groups),
        }
        count = range(len(found.experts))
        keys = [[f"{split}-{min(i, j)}-{max(i, j)}" for j in count] for i in count]
        text = [[_pair_text(found.experts, pairs, i, j) for j in count] for i in count]
        for unit, drawn in pairs.items():
            values = drawn.value.copy()
            if unit == "kappa":
                np.fill_diagonal(values, np.nan)  # an expert agrees with itself
            known = values[~np.isnan(values)]
            highest = max(float(known.max(initial=0.0)), 0.01)
            limits = {"zmin": -0.35 * highest, "zmax": highest}
            if unit == "kappa":
                limits = {"zmin": min(float(known.min(initial=1.0)), 0.95) - 0.02, "zmax": 1}
            tint = "right" if unit == "kappa" else "wrong"
            heat = fig.heatmap(
                fig.rounded(values, 6), [(0, "empty"), (1, tint)], hovertext=text, customdata=keys,
                text=[[_cell_text(unit, float(one)) for one in row] for row in values],
                texttemplate="%{text}", **limits,
            )  # fmt: skip
            cases.append(fig.case([heat], split=str(split), unit=unit))
        for letters, narrow in ((26, False), (12, True)):
            ticks = fig.categories([" ".join(_parts(n, letters)) for n in found.experts], 40)
            shape = {name: {k: ticks[k] for k in TICKS} for name in ("xaxis", "yaxis")}
            cases.append(fig.case(layout=shape, split=str(split), narrow=narrow))
    return fig.figure([], layout, cases, square)


TICKS = ("tickmode", "tickvals", "ticktext")


def _cell_text(unit: str, value: float) -> str:
    if np.isnan(value):
        return ""
    if unit == "fault":
        return f"{100 * value:.1f}"
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−").replace("0.", ".", 1)


def _pair_text(experts: Sequence[str], pairs: Mapping[str, Pairs], row: int, column: int) -> str:
    def says(unit: str) -> str:
        one = pairs[unit]
        value, low, high = (float(part[row, column]) for part in (one.value, one.low, one.high))
        if np.isnan(value):
            return "not defined: both name one singer only"
        if unit == "fault":
            return fig.spread(Estimate(value, low, high))
        return f"{value:.3f} (95% {low:.3f} to {high:.3f})"

    first, second = (f"<b>{fig.label(experts[one])}</b>" for one in (row, column))
    if row == column:
        return f"{first}<br>wrong {says('fault')}"
    return f"{first}<br>{second}<br>kappa {says('kappa')}<br>both wrong {says('fault')}"


def _pair_panels(sets: Sequence[Opinions]) -> str:
    """For each cell of the matrix the songs behind it."""
    panels = ""
    for split, found in enumerate(sets):
        count = len(found.experts)
        for row, column in itertools.combinations_with_replacement(range(count), 2):
            panels += panel(f"{split}-{row}-{column}", _pair_songs(found, row, column))
    return panels


def _pair_songs(found: Opinions, row: int, column: int) -> str:
    first, second, truth = found.named[row], found.named[column], found.predicted.truth
    names = [found.experts[one] for one in (row, column)]
    both = np.flatnonzero((first != truth) & (second != truth))
    if row == column:
        return _listed(found, f"{names[0]} is wrong", both, [first])
    text = _listed(found, f"{names[0]} and {names[1]} are both wrong", both, [first, second])
    apart = np.flatnonzero(first != second)
    return text + _listed(found, "They name different singers", apart, [first, second])


def _listed(found: Opinions, title: str, rows: Rows, named: Sequence[Rows]) -> str:
    predicted = found.predicted
    cut = f", the first {LISTED}" if len(rows) > LISTED else ""
    items = "".join(
        "<li>"
        + escape(
            f"{song_title(predicted.ids[row])}, {album_title(predicted.albums[row])}: "
            f"{predicted.singers[predicted.truth[row]]}, named "
            + " and ".join(predicted.singers[one[row]] for one in named)
        )
        + "</li>"
        for row in rows[:LISTED]
    )
    heading = f"{title}: {len(rows)} of {len(predicted.ids)} songs{cut}"
    return f'<h2>{escape(heading)}</h2><ul class="songs">{items}</ul>'


def _agreement(units: str, sets: Sequence[Opinions]) -> str:
    return f"""<h2>How alike two experts answer</h2>
<div class="controls">{units}</div>
{plot("plot")}
<p class="soft">Cohen's kappa: 1 where two experts always name the same singer, 0 where they agree
no more than by chance. Both wrong: the share of songs that neither gets right; on the diagonal,
those that one gets wrong. Experts that are right and seldom wrong together have most to give each
other. Click a cell for its songs.</p>
<div id="panel" aria-live="polite"></div>{_pair_panels(sets)}"""


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
                share_cell(one),
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
    missing = {name: np.isnan(p).any(axis=1) for name, p in predicted.experts.items()}
    experts = {n: p for n, p in predicted.experts.items() if not missing[n].all()}
    rows = np.ones(len(predicted.ids), dtype=bool)
    for name in experts:
        rows &= ~missing[name]
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
