"""Slides on what `measure` found: spectrograms and robustness; or which command makes them.

Enters: `RunData`, and the numbers of robustness. Leaves: `Slide`s.
"""

from __future__ import annotations

from functools import partial

from analysis.measures.robustness import songs_of
from analysis.pages.robustness import robustness_finding
from analysis.report.figures.ladders import draw_ladders
from analysis.report.figures.mels import PAGE, draw_mels, grid_for
from analysis.report.findings import Numbers
from analysis.report.lettering import plain
from analysis.report.slide import Column, Drawing, Slide, Text
from analysis.run_data import RunData
from analysis.wording import counted
from embedder.errors import Command
from embedder.measures.records import SECONDS, read_spectrograms
from ensemble.robustness import Measured

MELS = "Three seconds of each singer"


def spectrogram_slides(run_data: RunData) -> list[Slide]:
    """Log-mel of a training song of each singer, on as many pages as they need."""
    found = read_spectrograms(run_data.run)
    if found is None or not len(found.singers):
        text = f"{Command('measure', what='spectrograms')} && {Command('report')}"
        missing = Text(f"This run holds no spectrograms. To make them: {text}", 18.0)
        return [Slide(MELS, "", (Column((missing,)),))]
    singers = [plain(name) for name in found.singers]
    grid = grid_for(min(len(singers), PAGE))
    slides = []
    for start in range(0, len(singers), PAGE):
        part = slice(start, start + PAGE)
        drawing = Drawing(
            partial(draw_mels, names=singers[part], levels=found.mixture[part], grid=grid),
            "Mel spectrograms",
        )
        of = f", {start + 1} to {min(start + PAGE, len(singers))}" if len(singers) > PAGE else ""
        low, high = found.hertz[0], found.hertz[-1]
        slides.append(
            Slide(
                MELS + of,
                f"{SECONDS} s of a training song of each singer, the mixture, in "
                f"{len(found.hertz)} mel bands from {low:,.0f} Hz (below) to {high:,.0f} Hz.",
                (Column((drawing,)),),
                f"Brighter: louder, {found.step_db * 255:.0f} dB from dark to bright. Which song, "
                "and its vocals: pages/spectrograms.html.",
            )
        )
    return slides


def robustness_slide(numbers: Numbers) -> Slide:
    """Top-1 of the fused answers against degradation."""
    measured = numbers.robustness
    if not isinstance(measured, Measured) or not numbers.curves:
        why = "No fused answer was measured."
        if isinstance(measured, str):
            why = f"{measured} && {Command('report')}"
        return Slide("Robustness", "", (Column((Text(why, 18.0),)),))
    drawing = Drawing(partial(draw_ladders, found=numbers.curves), "Top-1 against degradation")
    there = len(songs_of(measured))
    note = f"Fused, top-1, {counted(there, f'{measured.conditions.split} song')}"
    if there < measured.wanted:
        note += f" of {measured.wanted:,} that were asked for"
    note += (
        ". Bars: 95% intervals. Open: undegraded. Diamond: below it, sign test of albums and Holm, "
        "p < 0.05."
    )
    return Slide(
        "Robustness", robustness_finding(measured, numbers.curves), (Column((drawing,)),), note
    )


def robustness_sentence(numbers: Numbers) -> str:
    """The finding, where robustness was measured."""
    if isinstance(numbers.robustness, Measured) and numbers.curves:
        return robustness_finding(numbers.robustness, numbers.curves)
    return ""
