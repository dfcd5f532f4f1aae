"""Results: all fused, each expert, ways to fuse, mistakes, singers, map and calibration."""

from __future__ import annotations

from functools import partial

import numpy as np

from analysis.pages.confusion import alphabetical, confusion_finding, mistakes
from analysis.pages.experts import members_finding
from analysis.pages.map import TOGETHER, default_map, map_finding
from analysis.pages.reliability import CELLS, answers, curves, reliability_finding
from analysis.report import charts, sentences
from analysis.report.deck import (
    SOFT,
    Block,
    Column,
    Figure,
    Slide,
    Table,
    Text,
    Tiles,
    plain,
    short,
)
from analysis.report.facts import Facts
from analysis.report.numbers import (
    Numbers,
    as_text,
    footing,
    is_fused,
    of_split,
    signed,
    with_interval,
)
from analysis.run_data import Predicted, RunData, song_title
from embedder.metrics import confusion_matrix, per_singer_recall, ranking
from embedder.statistics import wilson
from embedder.text import counted
from ensemble.fusion.experts import FUSED

MAX_ROWS = 20  # of a table over the whole height
DRAWN = 10  # rows of a chart under tiles
KINDS = 8  # of mistakes


def results_slide(data: RunData, numbers: Numbers) -> Slide:
    """The fused result in large numbers, beside every expert's."""
    lead = numbers.lead
    rows = of_split(numbers.rows, lead.split)
    fused = next(row for row in rows if is_fused(row))
    metrics = fused.metrics
    tiles = Tiles(
        tuple(
            (label, f"{one.value:.1%}" if share else f"{one.value:.3f}",
             as_text(one, metrics.songs, share))
            for label, one, share in (
                ("top-1", metrics.top_1, True), ("top-3", metrics.top_3, True),
                ("score, of 1.5", metrics.score, False), ("macro F1", metrics.macro_f1, False),
            )
        )
    )  # fmt: skip
    experts = sorted(
        (row for row in rows if not is_fused(row)), key=lambda row: -row.metrics.top_1.value
    )
    shown = [(plain(row.expert), row.metrics.top_1) for row in [fused, *experts[: DRAWN - 1]]]
    axis = f"right singer first, {metrics.songs:,} {lead.split} songs, 95% intervals"
    drawing = Figure(
        partial(charts.draw_estimates, rows=shown, axis=axis, bold=(0,)),
        "Top-1 of each expert and fused",
    )
    message = [
        sentences.result_sentence(lead, data.seed),
        sentences.change_sentence(numbers.opinions, numbers.best),
    ]
    title = f"Results on {lead.split} songs" + " (cross-fitted)" * fused.cross_fitted
    note = footing(lead)
    if len(experts) >= DRAWN:
        note += f" Drawn: the {DRAWN - 1} best of {len(experts)} experts."
    return Slide(title, " ".join(message), (Column((tiles, drawing)),), note)


def ablation_slide(numbers: Numbers, facts: Facts) -> Slide:
    """Every expert and all fused, of every split that was predicted."""
    rows = numbers.rows
    fused = [row for row in rows if is_fused(row)]
    experts = [row for row in rows if not is_fused(row)]
    kept = sorted(experts, key=lambda row: -row.metrics.score.value)[: MAX_ROWS - len(fused)]
    shown = [row for row in rows if row in fused or row in kept]
    names = ("top_1", "top_3", "score", "macro_f1")
    cells = tuple(
        (short(row.expert), row.split + "*" * row.cross_fitted,
         *(with_interval(getattr(row.metrics, name)) for name in names))
        for row in shown
    )  # fmt: skip
    bold = tuple(place for place, row in enumerate(shown) if is_fused(row))
    table = Table(("answers of", "split", "top-1", "top-3", "score", "macro F1"), cells,
                  (2, 3, 4, 5), bold)  # fmt: skip
    first = fused[-1].metrics
    message = (
        f"All fused: score {with_interval(first.score)} of 1.5, macro F1 "
        f"{with_interval(first.macro_f1)} on {counted(first.songs, f'{fused[-1].split} song')}."
    )
    remixed = [one.name for one in facts.members if one.remixed]
    if 0 < len(remixed) < len(facts.members):
        message += f" Trained with other songs' backings: {', '.join(remixed)}; the others without."
    if len(experts) > len(kept):
        message += f" The {len(kept)} rows of experts with the highest score, of {len(experts)}."
    note = "Songs. *: cross-fitted by album. In brackets: 95% intervals, bootstrap over albums."
    return Slide("Ablation: each expert, and all fused", message, (Column((table,)),), note)


def fusion_slide(data: RunData, numbers: Numbers) -> list[Slide]:
    """What fusing adds, and how other ways to do so compare."""
    fusion = data.fusion
    if not fusion or not fusion.report.methods:
        return []
    rows = tuple(
        (one.method, f"{one.metrics.score.value:.3f}", signed(one.score_gain), signed(one.nll_gain))
        for one in fusion.report.methods
    )
    used = tuple(n for n, one in enumerate(fusion.report.methods) if one.method == fusion.method)
    table = Table(
        ("way to fuse", "score", "score gained", "NLL gained, nats"), rows, (1, 2, 3), used
    )
    text = (
        f"Gains: against the best single expert, {fusion.report.best_expert}, picked with "
        "hindsight; 95% intervals over albums. Bold: in use."
    )
    heavy = sorted(fusion.weights.items(), key=lambda one: -one[1])[: MAX_ROWS - 1]
    cut = f", {len(heavy)} of {len(fusion.weights)}" if len(heavy) < len(fusion.weights) else ""
    weights = Table(
        (f"expert, heaviest first{cut}", "weight"),
        tuple((short(name), f"{weight:.3f}") for name, weight in heavy), (1,),
    )  # fmt: skip
    message = members_finding(numbers.opinions, numbers.best, data.seed)
    columns = (Column((table, Text(plain(text), 15.0, colour=SOFT)), 1.9), Column((weights,)))
    return [Slide("What fusing adds", message, columns, footing(data.predicted[0]))]


def confusion_slide(predicted: Predicted, seed: int) -> Slide:
    """The matrix, and the most frequent mistakes."""
    order = alphabetical(predicted.singers)
    count = len(order)
    matrix = confusion_matrix(predicted.truth, ranking(predicted.probabilities)[:, 0], count)
    names = [predicted.singers[one] for one in order]
    counts = matrix[np.ix_(order, order)]
    drawing = Figure(partial(charts.draw_confusion, counts=counts, names=names), "Confusion matrix")
    kinds = mistakes(predicted)
    totals = np.bincount(predicted.truth, minlength=count)
    rows = tuple(
        (predicted.singers[true], predicted.singers[named], f"{len(found)} of {totals[true]}")
        for true, named, found in kinds[:KINDS]
    )
    blocks: tuple[Block, ...] = (Text("No song is named wrongly."),)
    if kinds:
        blocks = (Table(("singer", "taken for", "songs"), rows, (2,)),)
        if len(kinds) > KINDS:
            said = f"The {KINDS} most frequent of {len(kinds)} kinds of mistake."
            blocks = (Text(said, 14.0), *blocks)
        if len(kinds) <= 4:
            titles = [song_title(predicted.ids[row]) for *_, found in kinds for row in found][:6]
            blocks += (Text(plain(f"Songs: {'; '.join(titles)}."), 14.0, colour=SOFT),)
    note = "Blue: right; orange: mistakes; darker: a larger share of the singer's songs."
    if count > charts.NAMED:
        note += f" {count} singers are numbered in alphabetical order."
    columns = (Column((drawing,), 1.7), Column((*blocks, Text(note, 14.0, colour=SOFT))))
    message = confusion_finding(predicted, seed)
    return Slide("Who is taken for whom", message, columns, footing(predicted))


def singers_slide(predicted: Predicted) -> Slide:
    """Recall, precision and F1 of each singer, or of the hardest where there are many."""
    named = ranking(predicted.probabilities)[:, 0]
    count = len(predicted.singers)
    recall, songs = per_singer_recall(predicted.truth, named, count)
    matrix = confusion_matrix(predicted.truth, named, count)
    given = matrix.sum(axis=0)
    there = [int(one) for one in alphabetical(predicted.singers) if songs[one]]
    shown = there
    if len(there) > MAX_ROWS:
        shown = sorted(there, key=lambda one: (recall[one], -songs[one]))[:MAX_ROWS]
    rows, lines = [], []
    for one in shown:
        right, name = int(matrix[one, one]), short(predicted.singers[one], 24)
        precision = f"{right / given[one]:.3f}" if given[one] else "–"
        f1 = 2 * right / (songs[one] + given[one])
        rows.append(
            (name, f"{right} of {songs[one]}", f"{recall[one]:.3f}", precision, f"{f1:.3f}")
        )
        lines.append((name, wilson(right, int(songs[one]))))
    table = Table(("singer", "right", "recall", "precision", "F1"), tuple(rows), (1, 2, 3, 4))
    drawing = Figure(
        partial(charts.draw_estimates, rows=lines, axis="recall, 95% intervals of Wilson"),
        "Recall of each singer",
    )
    message = sentences.hardest_sentence(predicted)
    if len(shown) < len(there):
        message += f" Of {len(there)} singers, the {len(shown)} with the lowest recall are listed."
    if absent := count - len(there):
        message += f" {counted(absent, 'singer')} without a {predicted.split} song left out."
    columns = (Column((table,)), Column((drawing,)))
    return Slide("Results by singer", message, columns, footing(predicted))


def map_slide(data: RunData, numbers: Numbers) -> Slide:
    """The finished t-SNE map of songs, of all members together or the only one."""
    songs, view = data.songs, numbers.view
    number = default_map(view)
    drawing = Figure(
        partial(
            charts.draw_map, points=view.points[number], labels=songs.labels[view.songs],
            splits=songs.splits[view.songs], singers=songs.singers,
        ),
        "t-SNE map of the songs",
    )  # fmt: skip
    who = f"member {view.member}" if view.member else TOGETHER
    trust = view.kept[number].trustworthiness
    note = f"Song embeddings of {plain(who)}, perplexity {view.perplexities[number]:g}"
    note += f", trustworthiness {trust:.3f} of 1." if trust is not None else "."
    note += " Sizes of clusters and distances between far ones mean nothing."
    message = map_finding(view)
    if len(songs.singers) > charts.NAMED:
        message += f" Which of {len(songs.singers)} singers a point is: pages/tsne.html."
    return Slide("Map of the songs (t-SNE)", message, (Column((drawing,)),), note)


def calibration_slide(data: RunData, lead: Predicted) -> Slide:
    """Whether the fused answers are as sure as they are right."""
    found = curves(*answers(lead)[FUSED])
    left = Figure(
        partial(charts.draw_reliability, curves=found, cells=CELLS), "Reliability diagram"
    )
    right: tuple[Block, ...] = (
        Figure(partial(charts.draw_risk, curves=found), "Risk against coverage"),
    )
    said = sentences.calibration_sentence(data.fusion.report.calibration) if data.fusion else ""
    if said:
        right += (Text(f"Temperatures, on validation songs: {said}", 15.0, colour=SOFT),)
    return Slide(
        "Calibration: is it as sure as it is right?",
        reliability_finding(lead, data.seed),
        (Column((left,)), Column(right)),
        footing(lead) + " Bars and band: of Wilson.",
    )
