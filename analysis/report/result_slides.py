"""The second half of the deck: results, what explains them, limits, and how to repeat the run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from analysis.measures.robustness import songs_of
from analysis.measures.voice_confusion import mistakes_overlap, pairs_of, relation, sex_of, sexes
from analysis.measures.voices import read_measured, told_by, vocal_ranges, voices
from analysis.pages.albums import albums_finding
from analysis.pages.confusion import alphabetical, confusion_finding, mistakes
from analysis.pages.experts import members_finding
from analysis.pages.map import TOGETHER, default_map, map_finding
from analysis.pages.reliability import CELLS, answers, curves, reliability_finding
from analysis.pages.robustness import robustness_finding
from analysis.pages.training import training_finding
from analysis.questions import range_sentences, sex_sentences, table_sentences
from analysis.report import charts, sentences
from analysis.report.deck import (
    SOFT,
    Author,
    Block,
    Bullets,
    Column,
    Figure,
    LeftOut,
    Slide,
    Table,
    Text,
    Tiles,
    not_measured,
    plain,
    short,
)  # fmt: skip
from analysis.report.facts import NOT_STORED, Facts, commands
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
from analysis.wording import counted
from embedder.errors import Command
from embedder.metrics import confusion_matrix, per_singer_recall, ranking
from embedder.statistics import wilson
from ensemble.fusion.experts import FUSED
from ensemble.robustness import Measured

MAX_ROWS = 20  # of a table over the whole height
DRAWN = 10  # rows of a chart under tiles
KINDS = 8  # of mistakes


def curves_slide(numbers: Numbers) -> list[Slide]:
    """Loss and validation score by epoch."""
    if not numbers.logs:
        return []
    logs = numbers.logs[:6]
    message = "Large dots: the epoch whose weights are kept, chosen by the validation score."
    if len(numbers.logs) > len(logs):
        message += f" Drawn: {len(logs)} of {len(numbers.logs)} members."
    drawing = Figure(
        partial(charts.draw_training, logs=logs), "Training loss and validation by epoch"
    )
    return [Slide("Training and validation curves", message, (Column((drawing,)),))]


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


def album_slide(numbers: Numbers) -> Slide | LeftOut:
    """Whether songs are near each other for the voice or for the album's production."""
    if not numbers.albums:
        again = Command("prepare", data_dir="SINGER_ALBUM_SONG_FOLDERS")
        return not_measured("the album effect, as no singer has two known albums", again)
    name, effect = numbers.albums
    rows = [
        ("album", effect.album), ("singer", effect.singer),
        ("singer, other albums only", effect.singer_apart),
    ]  # fmt: skip
    drawing = Figure(
        partial(
            charts.draw_estimates,
            rows=rows,
            axis="training songs whose nearest other song is of the same …, 95% intervals",
        ),
        "Shares of songs whose nearest other song is of the same album or singer",
    )
    message = albums_finding(name, effect)
    return Slide("Album effect: production or voice?", message, (Column((drawing,)),))


def questions_slide(data: RunData, numbers: Numbers) -> tuple[Slide, list[LeftOut]]:
    """The course's questions, as far as they were measured; and what would answer the others."""
    lead, sex, measured = numbers.lead, sex_of(data.facts), read_measured(data.run)
    answered = {
        "Does it overfit?": [training_finding(numbers.logs, numbers.gaps)],
        "Does the confusion table look right?": table_sentences(lead, data.seed),
    }
    left_out = []
    if found := sexes(lead, sex):
        said = sex_sentences(found, bool(sex), lead.split)
        answered["Are male and female singers told apart?"] = said
    else:
        csv = data.run.singer_facts
        how = f"to add it: write {csv} with the columns singer and sex, then {Command('report')}"
        left_out.append(LeftOut("whether male and female singers are told apart", how))
    if isinstance(measured, str):
        left_out.append(not_measured("vocal ranges", Command("measure", what="voices")))
    else:
        ranges = vocal_ranges(voices(measured))
        pairs = pairs_of(lead, ranges)
        count = len(pairs.first)
        related = relation(pairs, data.seed) if count else None
        overlapping = mistakes_overlap(lead, ranges)
        said = range_sentences(related, count, overlapping, told_by(measured), lead.split)
        answered["Are singers of different range told apart?"] = said
    blocks = [
        Text(" ".join(answer), 17.0, lead=question)
        for question, answer in answered.items()
        if answer
    ]
    return Slide("Questions", "", (Column(tuple(blocks)),), footing(lead)), left_out


def robustness_slide(numbers: Numbers) -> Slide | LeftOut:
    """Top-1 of the fused answers against degradation."""
    measured = numbers.robustness
    if not isinstance(measured, Measured) or not numbers.curves:
        return not_measured("robustness", Command("measure", what="robustness"))
    drawing = Figure(
        partial(charts.draw_ladders, found=numbers.curves), "Top-1 against degradation"
    )
    there = len(songs_of(measured))
    note = f"Fused, top-1, {counted(there, f'{measured.conditions.split} song')}"
    if there < measured.wanted:
        note += f" of {measured.wanted:,} that were asked for"
    note += (
        ". Bars: 95% intervals. Open: undegraded. Diamond: below it, sign test of albums and Holm, "
        "p < 0.05."
    )
    message = robustness_finding(measured, numbers.curves)
    return Slide("Robustness", message, (Column((drawing,)),), note)


def limitations_slide(data: RunData, numbers: Numbers) -> Slide:
    """What the numbers do not show, as far as the run's own numbers say so."""
    lead, fusion = numbers.lead, data.fusion
    groups = len(set(lead.groups))
    texts = [
        f"The numbers rest on {counted(len(lead.ids), f'{lead.split} song')} of "
        f"{counted(groups, 'album')} and {counted(len(lead.singers), 'singer')}; the intervals "
        "say what that leaves open."
    ]
    if lead.split == "validation":
        texts.append(
            "No song was held out from every choice: epochs were chosen, and the fusion was "
            "fitted, on the validation songs, so that its numbers are cross-fitted by album."
        )
    if numbers.albums and numbers.albums[1].production.low > 0:
        texts.append(f"Albums help: {sentences.album_sentence(numbers.albums[1])}")
    gaps = [one for one in numbers.gaps if one.value.low > 0]
    if gaps:
        texts.append(
            f"Overfitting: {', '.join(one.member for one in gaps)} "
            f"{'knows' if len(gaps) == 1 else 'know'} training songs better than new ones."
        )
    if fusion and fusion.unknown is None:
        texts.append("Whether it notices singers that it does not know was not measured.")
    texts.append(sentences.hardest_sentence(lead))
    return Slide("Limitations", "", (Column((Bullets(tuple(texts)),)),), footing(lead))


def conclusion_slide(data: RunData, numbers: Numbers) -> Slide:
    """The findings, each in a sentence."""
    lead = numbers.lead
    texts = [
        *(sentences.result_sentence(one, data.seed) for one in reversed(data.predicted)),
        sentences.change_sentence(numbers.opinions, numbers.best),
        sentences.album_sentence(numbers.albums[1]) if numbers.albums else "",
    ]
    if isinstance(numbers.robustness, Measured) and numbers.curves:
        texts.append(robustness_finding(numbers.robustness, numbers.curves))
    said: Sequence[str] = [text for text in texts if text]
    return Slide("Conclusion", "", (Column((Bullets(tuple(said), 20.0),)),), footing(lead))


def reproduction_slide(data: RunData, facts: Facts, author: Author) -> Slide:
    """The commands that make the run again."""
    given = {"name": author.name, "student_id": author.student_id}
    options = {option: value for option, value in given.items() if value}
    lines = tuple(commands(facts, data.fusion, options))
    blocks = (Bullets(lines, 16.0, mono=True), Text(NOT_STORED, 14.0, colour=SOFT))
    note = "Settings are the run's own, where they differ from a preset's."
    return Slide("How to make this again", "", (Column(blocks),), note)
