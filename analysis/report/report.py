"""From a run folder to the deck that is handed in: `report.pdf` and `report.pptx`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.report import data_slides, finding_slides, result_slides, system_slides
from analysis.report.deck import TITLE, Author, LeftOut, Slide, plain
from analysis.report.facts import Facts, read_facts
from analysis.report.fonts import covering, installed, lacking
from analysis.report.layout import arrange
from analysis.report.numbers import legible, numbers_of
from analysis.report.pdf import write_pdf
from analysis.report.pptx import write_pptx
from analysis.run_data import RunData, read_run_data
from embedder.errors import UserError
from embedder.run import Run

LONGEST = 120  # letters of a name


def write_report(
    run: Run,
    author: Author | None = None,
    members: Sequence[str] | None = None,
    folder: Path | None = None,
    seed: int = 0,
    warn: Callable[[str], object] = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
) -> list[Path]:
    """Write `report.pdf` and `report.pptx` with the same slides, each whole or not at all.

    Args:
        run: A run that `fuse` has filled. No model is loaded and no torch imported.
        author: Whose work it is.
        members: Names of the members to show, `None` for those of the fusion.
        folder: Where to, by default the run's pages.
        seed: Of the maps and the bootstrap.
        warn: Given one line where no font of this machine has some of the letters.
        say: Given a line for each slide that is left out, with the command that measures it.

    Returns:
        The paths of the two files.

    Raises:
        UserError: As `read_run_data` does, for too long a name, and for a folder that is a file.
    """
    author = author or Author()
    for option, value in (("name", author.name), ("student_id", author.student_id)):
        if len(value) > LONGEST:
            raise UserError(f"--{option} is longer than {LONGEST} letters")
    target = folder or run.pages
    if target.exists() and not target.is_dir():
        raise UserError(f"--output {target} is a file; it must be a folder")
    data = read_run_data(run, members, seed)
    slides, left_out = slides_of(data, read_facts(run, data.members, data.fusion), author)
    names = [plain(name) for name in (*data.songs.singers, *data.members)]
    absent = lacking([*names, *map(repr, slides)])  # all texts of a slide are in its `repr`
    families, missing = covering(absent, installed() if absent else [])
    if missing:
        some = " ".join(sorted(missing)[:5])
        warn(
            f"no font on this machine has {len(missing)} of the letters, {some} among them; boxes "
            "stand for them in the PDF and in pictures: install a TrueType font that has them"
        )
    title = f"{TITLE}: {plain(author.name)}" if author.name else TITLE
    pages = [arrange(slide, number, families) for number, slide in enumerate(slides, 1)]
    pdf, pptx = target / "report.pdf", target / "report.pptx"
    write_pdf(pdf, pages, title)
    write_pptx(pptx, pages, title)
    for one in left_out:
        say(f"not in the deck: {one.what}; {one.how}")
    return [pdf, pptx]


def slides_of(data: RunData, facts: Facts, author: Author) -> tuple[list[Slide], list[LeftOut]]:
    """All slides that the run has numbers for, and what it has none for."""
    data = legible(data)
    numbers = numbers_of(data)
    questions, unanswered = finding_slides.questions_slide(data, numbers)
    found: list[Slide | LeftOut] = [
        system_slides.cover(data, numbers, author),
        system_slides.method_slide(data, facts),
        *system_slides.novelty_slide(data, facts),
        *system_slides.training_slide(facts),
        data_slides.data_slide(data, facts),
        data_slides.spectrogram_slide(data),
        *system_slides.curves_slide(numbers),
        result_slides.results_slide(data, numbers),
        result_slides.ablation_slide(numbers, facts),
        *result_slides.fusion_slide(data, numbers),
        result_slides.confusion_slide(numbers.lead, data.seed),
        result_slides.singers_slide(numbers.lead),
        result_slides.map_slide(data, numbers),
        result_slides.calibration_slide(data, numbers.lead),
        finding_slides.album_slide(numbers),
        questions,
        *unanswered,
        finding_slides.robustness_slide(numbers),
        finding_slides.limitations_slide(data, numbers),
        finding_slides.conclusion_slide(data, numbers),
        finding_slides.reproduction_slide(data, facts, author),
    ]
    slides = [one for one in found if isinstance(one, Slide)]
    return slides, [one for one in found if isinstance(one, LeftOut)]
