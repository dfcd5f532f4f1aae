"""The detail slides: data, spectrograms, results, singers, confusion, map, calibration and so on.

Enters: `RunData`. Leaves: `Slide`s.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from analysis.maps import View
from analysis.pages.confusion import alphabetical, confusion_finding, mistakes
from analysis.pages.map import TOGETHER, default_map, map_finding
from analysis.report.data_slide import data_slide
from analysis.report.figures.cloud import LISTED, draw_cloud
from analysis.report.figures.estimates import draw_estimates
from analysis.report.figures.matrix import NAMED, draw_confusion
from analysis.report.findings import Numbers
from analysis.report.lettering import plain
from analysis.report.measured import robustness_slide, spectrogram_slides
from analysis.report.results import footing, with_interval
from analysis.report.sentences import hardest_sentence
from analysis.report.slide import SOFT, Column, Drawing, Slide, Table, Text
from analysis.report.together import calibration_slide, ensemble_slide
from analysis.run_data import Predicted, RunData, song_title
from analysis.wording import counted
from embedder.intervals import wilson
from embedder.metrics import confusion_matrix, per_singer_recall, ranking

MOST_ROWS = 20  # of a table over the whole height
MISTAKES = 12


def detail_slides(run_data: RunData, numbers: Numbers) -> list[Slide]:
    """All of them, in the course's order."""
    predicted = run_data.predicted[0]
    return [
        data_slide(run_data),
        *spectrogram_slides(run_data),
        results_slide(numbers),
        singers_slide(predicted),
        confusion_slide(predicted, run_data.seed),
        map_slide(run_data, numbers.view),
        calibration_slide(run_data),
        ensemble_slide(run_data, numbers),
        robustness_slide(numbers),
    ]


def results_slide(numbers: Numbers) -> Slide:
    """Every expert and all fused, of every split that was predicted."""
    rows = numbers.rows
    fused = [row for row in rows if "/" not in row.expert]
    experts = [row for row in rows if "/" in row.expert]
    room = MOST_ROWS - len(fused)
    kept = sorted(experts, key=lambda row: -row.metrics.score.value)[:room]
    shown = [row for row in rows if row in fused or row in kept]
    several = len({row.split for row in rows}) > 1
    cells = tuple(
        (
            plain(row.expert),
            *([row.split + "*" * row.cross_fitted] if several else []),
            f"{row.metrics.songs:,}",
            *(
                with_interval(getattr(row.metrics, name))
                for name in ("top_1", "top_3", "score", "macro_f1")
            ),
        )
        for row in shown
    )
    bold = tuple(place for place, row in enumerate(shown) if "/" not in row.expert)
    head = ("answers of", *(["split"] * several), "songs", "top-1", "top-3", "score", "macro F1")
    table = Table(head, cells, tuple(range(1 + several, len(head))), bold, 14.0)
    first = fused[0].metrics
    message = (
        f"All fused: score {with_interval(first.score)} of 1.5, macro F1 "
        f"{with_interval(first.macro_f1)} on {counted(first.songs, f'{fused[0].split} song')}."
    )
    if len(experts) > len(kept):
        message += f" The {len(kept)} rows of experts with the highest score, of {len(experts)}."
    how = ""
    if any(row.cross_fitted for row in shown):
        how = " *: cross-fitted by album." if several else " Cross-fitted by album."
    return Slide(
        "Results: each expert, and all fused",
        message,
        (Column((table,)),),
        f"Song level.{how} In brackets: 95% intervals, bootstrap over albums.",
    )


def singers_slide(predicted: Predicted) -> Slide:
    """Recall, precision and F1 of each singer, or of the hardest where there are many."""
    named = ranking(predicted.probabilities)[:, 0]
    count = len(predicted.singers)
    recall, songs = per_singer_recall(predicted.truth, named, count)
    matrix = confusion_matrix(predicted.truth, named, count)
    given = matrix.sum(axis=0)
    there = [int(one) for one in alphabetical(predicted.singers) if songs[one]]
    absent = count - len(there)
    shown = there
    if len(there) > MOST_ROWS:
        shown = sorted(there, key=lambda one: (recall[one], -songs[one]))[:MOST_ROWS]
    rows, lines = [], []
    for one in shown:
        right = int(matrix[one, one])
        precision = f"{right / given[one]:.3f}" if given[one] else "–"
        f1 = 2 * right / (songs[one] + given[one])
        rows.append(
            (
                predicted.singers[one], f"{right} of {songs[one]}", f"{recall[one]:.3f}",
                precision, f"{f1:.3f}",
            )
        )  # fmt: skip
        lines.append(
            (predicted.singers[one], wilson(right, int(songs[one])), f"{right}/{songs[one]}")
        )
    table = Table(("singer", "right", "recall", "precision", "F1"), tuple(rows), (1, 2, 3, 4))
    drawing = Drawing(
        partial(draw_estimates, rows=lines, axis="recall, 95% intervals of Wilson"),
        "Recall of each singer",
    )
    message = hardest_sentence(predicted)
    if len(shown) < len(there):
        message += f" Of {len(there)} singers, the {len(shown)} with the lowest recall are listed."
    if absent:
        message += f" {counted(absent, 'singer')} without a {predicted.split} song left out."
    return Slide(
        "Results by singer", message, (Column((table,)), Column((drawing,))), footing(predicted)
    )


def confusion_slide(predicted: Predicted, seed: int) -> Slide:
    """The matrix, and the most frequent mistakes."""
    order = alphabetical(predicted.singers)
    count = len(order)
    matrix = confusion_matrix(predicted.truth, ranking(predicted.probabilities)[:, 0], count)
    matrix = matrix[np.ix_(order, order)]
    names = [predicted.singers[one] for one in order]
    drawing = Drawing(partial(draw_confusion, counts=matrix, names=names), "Confusion matrix")
    kinds = mistakes(predicted)
    totals = np.bincount(predicted.truth, minlength=count)
    rows = tuple(
        (predicted.singers[true], predicted.singers[named], f"{len(rows)} of {totals[true]}")
        for true, named, rows in kinds[:MISTAKES]
    )
    said = f"The {MISTAKES} most frequent of {len(kinds)} kinds of mistake."
    blocks: tuple[Text | Table, ...] = (Text("No song is named wrongly.", 15.0),)
    if kinds:
        listed = said if len(kinds) > MISTAKES else f"{counted(len(kinds), 'kind')} of mistake."
        blocks = (Text(listed, 13.0), Table(("singer", "taken for", "songs"), rows, (2,)))
        if len(kinds) <= 4:
            titles = [
                f"{song_title(predicted.ids[row])} ({predicted.singers[true]})"
                for true, _, found in kinds
                for row in found
            ]
            blocks += (Text(plain("Songs: " + "; ".join(titles[:6]) + "."), 12.0, colour=SOFT),)
    note = "Blue: right; orange: mistakes; darker: a larger share of the singer's songs."
    if count > NAMED:
        note += f" {count} singers are numbered in alphabetical order."
    return Slide(
        "Who is taken for whom",
        confusion_finding(predicted, seed),
        (Column((drawing,), 1.25), Column((*blocks, Text(note, 11.0, colour=SOFT)))),
        footing(predicted),
    )


def map_slide(run_data: RunData, view: View) -> Slide:
    """The finished t-SNE map of songs, of all members together or the only one."""
    songs = run_data.songs
    number = default_map(view)
    drawing = Drawing(
        partial(
            draw_cloud,
            points=view.points[number],
            labels=songs.labels[view.songs],
            splits=songs.splits[view.songs],
            singers=songs.singers,
        ),
        "t-SNE map of the songs",
    )
    who = f"member {view.member}" if view.member else TOGETHER
    trust = view.kept[number].trustworthiness
    note = f"Song embeddings of {plain(who)}, perplexity {view.perplexities[number]:g}"
    note += f", trustworthiness {trust:.3f} of 1." if trust is not None else "."
    note += " Sizes of clusters and distances between far ones mean nothing."
    message = map_finding(view)
    if len(songs.singers) > LISTED:
        message += f" Which of {len(songs.singers)} singers a point is: pages/tsne.html."
    return Slide("Map of the songs (t-SNE)", message, (Column((drawing,)),), note)
