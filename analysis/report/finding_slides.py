"""What the results mean: album effect, questions, robustness, limits, and how to repeat the run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from analysis.measures.questions import range_sentences, sex_sentences, table_sentences
from analysis.measures.robustness import songs_of
from analysis.measures.voice_confusion import mistakes_overlap, pairs_of, relation, sex_of, sexes
from analysis.measures.voices import feature_probes, read_measured, vocal_ranges, voices
from analysis.pages.albums import albums_finding
from analysis.pages.robustness import robustness_finding
from analysis.pages.training import training_finding
from analysis.report import charts, sentences
from analysis.report.deck import (
    SOFT,
    Author,
    Bullets,
    Column,
    Figure,
    LeftOut,
    Slide,
    Text,
    not_measured,
)
from analysis.report.facts import NOT_STORED, Facts, commands
from analysis.report.numbers import Numbers, footing
from analysis.run_data import RunData
from embedder.errors import Command
from embedder.text import counted
from ensemble.robustness import Measured


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
        said = range_sentences(related, count, overlapping, feature_probes(measured), lead.split)
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
