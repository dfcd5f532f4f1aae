"""The slides of a run, in the course's order: cover, highlights, details, and how to repeat it.

Enters: `RunData`, the facts of its members, and whose work it is. Leaves: `Slide`s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from analysis.pages.experts import best_of, opinions
from analysis.report.details import detail_slides
from analysis.report.facts import Facts
from analysis.report.figures.estimates import draw_estimates
from analysis.report.findings import Numbers, all_findings, numbers_of
from analysis.report.lettering import plain
from analysis.report.measured import robustness_sentence
from analysis.report.method_slide import method_slide
from analysis.report.novelty import novelties
from analysis.report.reproduction import NOT_STORED, commands
from analysis.report.results import as_text, footing, of_split
from analysis.report.sentences import (
    album_sentence,
    change_sentence,
    confidence_sentence,
    hardest_sentence,
    result_sentence,
)
from analysis.report.slide import SOFT, Bullets, Column, Drawing, Slide, Text, Tiles
from analysis.run_data import RunData
from analysis.wording import counted

TITLE = "Who sings?"
ABOUT = "Singer identification with an ensemble of embeddings"
LISTED = 14  # experts of the result highlight


@dataclass(frozen=True)
class Author:
    """Whose work it is; empty texts are left out."""

    name: str = ""
    student_id: str = ""

    @property
    def options(self) -> dict[str, str]:
        """As they were given to the command."""
        given = (("name", self.name), ("student_id", self.student_id))
        return {option: value for option, value in given if value}


def slides_of(run_data: RunData, facts: Facts, author: Author) -> list[Slide]:
    """All slides. Names of singers and members are made to fit on one line first."""
    run_data = legible(run_data)
    numbers = numbers_of(run_data)
    return [
        cover(run_data, author),
        novelty_slide(run_data, facts, numbers),
        method_slide(run_data, facts),
        result_slide(run_data, numbers),
        findings_highlight(run_data, numbers),
        *detail_slides(run_data, numbers),
        findings_slide(run_data, numbers),
        reproduction_slide(run_data, facts, author),
    ]


def legible(run_data: RunData) -> RunData:
    """The same run with singers' names that a page can show."""
    singers = tuple(plain(name) for name in run_data.songs.singers)
    return replace(
        run_data,
        songs=replace(run_data.songs, singers=singers),
        predicted=tuple(replace(one, singers=singers) for one in run_data.predicted),
    )


def cover(run_data: RunData, author: Author) -> Slide:
    """Title, and whose work it is."""
    songs = run_data.songs
    lines = [plain(author.name), f"Student ID {plain(author.student_id)}" * bool(author.student_id)]
    blocks = tuple(
        Text(line, 24.0 if not place else 18.0, bold=not place)
        for place, line in enumerate(line for line in lines if line)
    )
    message = (
        f"{ABOUT}: {counted(len(songs.ids), 'song')} by {counted(len(songs.singers), 'singer')}, "
        f"{counted(len(run_data.members), 'member')}. {result_sentence(run_data.predicted[0])}"
    )
    return Slide(TITLE, message, (Column(blocks),), cover=True)


def novelty_slide(run_data: RunData, facts: Facts, numbers: Numbers) -> Slide:
    """What the system does differently."""
    rows = of_split(numbers.rows, "validation")
    found = novelties(facts, run_data.fusion, rows)
    texts: tuple[str, ...] = tuple(f"{one.what} {one.effect}".rstrip() for one in found)
    silent = sum(not one.effect for one in found)
    note = f"Measured on validation songs, cross-fitted. {silent} of {len(found)} are without a "
    note += "number: this run holds no comparison without them." if silent else ""
    if not found:
        texts = ("One member answers by itself; nothing is put together.",)
    return Slide(
        "Novelty: what is different here",
        "Each point holds for this run; a number stands where this run measured it.",
        (Column((Bullets(texts, 20.0),)),),
        note if silent else "Measured on validation songs, cross-fitted by album.",
    )


def result_slide(run_data: RunData, numbers: Numbers) -> Slide:
    """The fused result on validation songs in large numbers, beside every expert's."""
    predicted = run_data.predicted[0]
    rows = of_split(numbers.rows, predicted.split)
    fused = next(row for row in rows if "/" not in row.expert)
    metrics = fused.metrics
    how = " (cross-fitted)" if fused.cross_fitted else ""
    tiles = Tiles(
        tuple(
            (
                label,
                f"{one.value:.1%}" if share else f"{one.value:.3f}",
                as_text(one, metrics.songs, share),
            )
            for label, one, share in (
                ("top-1", metrics.top_1, True), ("top-3", metrics.top_3, True),
                ("score, of 1.5", metrics.score, False),
                ("macro F1", metrics.macro_f1, False),
            )
        )
    )  # fmt: skip
    experts = sorted(
        (row for row in rows if "/" in row.expert), key=lambda row: -row.metrics.top_1.value
    )[: LISTED - 1]
    shown = [fused, *experts]
    lines = [
        (plain(row.expert), row.metrics.top_1, f"{row.metrics.top_1.value:.1%}") for row in shown
    ]
    axis = f"right singer first, {metrics.songs:,} {predicted.split} songs, 95% intervals"
    drawing = Drawing(
        partial(draw_estimates, rows=lines, axis=axis, bold=(0,)), "Top-1 of each expert and fused"
    )
    cut = sum("/" in row.expert for row in rows) - len(experts)
    said = f" The {len(experts)} best of {cut + len(experts)} experts are drawn." if cut else ""
    return Slide(
        f"Result on {predicted.split} songs{how}",
        result_sentence(predicted, run_data.seed) + said,
        (Column((tiles, drawing)),),
        footing(predicted),
    )


def findings_highlight(run_data: RunData, numbers: Numbers) -> Slide:
    """Four or five short findings."""
    predicted = run_data.predicted[0]
    found = opinions(predicted)
    texts = [
        hardest_sentence(predicted),
        change_sentence(found, best_of(run_data.fusion, found)),
        confidence_sentence(predicted),
        album_sentence(numbers.albums[1]) if numbers.albums else "",
        robustness_sentence(numbers),
    ]
    if len(run_data.predicted) > 1:
        texts.insert(0, result_sentence(run_data.predicted[1], run_data.seed))
    return Slide(
        "Findings",
        result_sentence(predicted, run_data.seed),
        (Column((Bullets(tuple(text for text in texts if text), 22.0),)),),
        footing(predicted),
    )


def findings_slide(run_data: RunData, numbers: Numbers) -> Slide:
    """All findings in full sentences."""
    return Slide(
        "All findings, in sentences made from the numbers",
        "",
        (Column((Bullets(tuple(all_findings(run_data, numbers)), 14.0),)),),
        footing(run_data.predicted[0]),
    )


def reproduction_slide(run_data: RunData, facts: Facts, author: Author) -> Slide:
    """The commands that make the run again."""
    lines: Sequence[str] = commands(facts, run_data.fusion, author.options)
    return Slide(
        "How to make this again",
        "",
        (Column((Bullets(tuple(lines), 15.0), Text(NOT_STORED, 12.0, colour=SOFT))),),
        "Settings are the run's own, where they differ from a preset's.",
    )
