"""Slides on the answers of all experts together: their calibration, and what the ensemble adds.

Enters: `RunData`, and its numbers. Leaves: `Slide`s.
"""

from __future__ import annotations

from functools import partial

from analysis.pages.experts import best_of, members_finding, opinions
from analysis.pages.reliability import CELLS, answers, curves, reliability_finding
from analysis.report.figures.confidence import draw_reliability, draw_risk
from analysis.report.figures.estimates import draw_estimates
from analysis.report.findings import Numbers
from analysis.report.lettering import plain
from analysis.report.results import footing, of_split
from analysis.report.sentences import calibration_sentence, gain_sentence
from analysis.report.slide import SOFT, Column, Drawing, Slide, Table, Text
from analysis.run_data import FUSE, RunData
from embedder.errors import Command
from ensemble.fusion.experts import FUSED, member_of
from ensemble.fusion.fitted import ResultRow

DRAWN = 7  # answers that are drawn beside the ways to fuse
WEIGHTS = 16  # experts whose weights are listed


def calibration_slide(run_data: RunData) -> Slide:
    """Whether the fused answers are as sure as they are right."""
    predicted = run_data.predicted[0]
    found = curves(*answers(predicted)[FUSED])
    left = Drawing(partial(draw_reliability, curves=found, cells=CELLS), "Reliability diagram")
    right = Drawing(partial(draw_risk, curves=found), "Risk against coverage")
    said = calibration_sentence(run_data.fusion.calibration) if run_data.fusion else ""
    blocks = (right, Text(f"Temperatures: {said}", 13.0, colour=SOFT)) if said else (right,)
    return Slide(
        "Calibration: is it as sure as it is right?",
        reliability_finding(predicted, run_data.seed),
        (Column((left,)), Column(blocks)),
        footing(predicted) + " Bars and band: of Wilson.",
    )


def ensemble_slide(run_data: RunData, numbers: Numbers) -> Slide:
    """What putting the experts together adds, and how other ways to do so compare."""
    predicted, fusion = run_data.predicted[0], run_data.fusion
    found = opinions(predicted)
    best = best_of(fusion, found)
    message = members_finding(found, best, run_data.seed)
    if len(found.experts) < 2:
        message = (
            f"There is one expert, {found.experts[0]}; a second member makes an ensemble: "
            f"{Command('train-embedder', loss='triplet')} && {Command('fuse')}"
            if found.experts
            else f"The predictions hold no single expert's answers; {FUSE}"
        )
    blocks: list[Text | Table | Drawing] = []
    if fusion and fusion.methods:
        rows = tuple(
            (
                one.method, f"{one.metrics.score.value:.3f}",
                _signed(one.score_gain.value, one.score_gain.low, one.score_gain.high),
                _signed(one.nll_gain.value, one.nll_gain.low, one.nll_gain.high),
            )
            for one in fusion.methods
        )  # fmt: skip
        used = [n for n, one in enumerate(fusion.methods) if one.method == fusion.pooling.method]
        head = ("way to fuse", "score", "score gained", "NLL gained, nats")
        blocks.append(Table(head, rows, (1, 2, 3), tuple(used)))
        text = (
            f"{gain_sentence(fusion)} Gains: against that expert, 95% intervals over albums; in "
            "bold: in use. Cross-fitted by album."
        )
        blocks.append(Text(plain(text), 12.0, colour=SOFT))
    if not blocks:
        blocks.append(Text(f"There is no comparison of ways to fuse; {FUSE}", 14.0))
    if len(found.experts) > 1:
        blocks.append(_members_drawing(of_split(numbers.rows, predicted.split)))
    columns = [Column(tuple(blocks), 1.9)]
    if fusion:
        heavy = sorted(fusion.weights.items(), key=lambda one: -one[1])[:WEIGHTS]
        cells = tuple((plain(name), f"{weight:.3f}") for name, weight in heavy)
        cut = "" if len(heavy) == len(fusion.weights) else f", {WEIGHTS} of {len(fusion.weights)}"
        columns.append(Column((Table((f"expert, heaviest first{cut}", "weight"), cells, (1,)),)))
    return Slide("What the ensemble adds", message, tuple(columns), footing(predicted))


def _members_drawing(rows: tuple[ResultRow, ...]) -> Drawing:
    """The best expert of each member beside all fused."""
    best: dict[str, ResultRow] = {}
    for row in rows:
        name = member_of(row.expert) if "/" in row.expert else row.expert
        if name not in best or row.metrics.top_1.value > best[name].metrics.top_1.value:
            best[name] = row
    fused = [name for name, row in best.items() if "/" not in row.expert]
    most = DRAWN - len(fused)
    members = sorted(set(best) - set(fused), key=lambda name: -best[name].metrics.top_1.value)
    shown = [best[name] for name in (*fused, *members[:most])]
    lines = [
        (plain(row.expert), row.metrics.top_1, f"{row.metrics.top_1.value:.1%}") for row in shown
    ]
    axis = "right singer first: all fused, and the best expert of each member"
    bold = tuple(range(len(fused)))
    return Drawing(partial(draw_estimates, rows=lines, axis=axis, bold=bold), axis)


def _signed(*numbers: float) -> str:
    value, low, high = (f"{one:+.3f}".replace("-", "−") for one in numbers)
    return f"{value} ({low} to {high})"
