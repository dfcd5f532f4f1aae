"""From a run folder to the deck that is handed in: `report.pdf` and `report.pptx`.

Enters: a run folder that `fuse` has filled, and whose work it is. Leaves: two files with the same
slides, each whole or not at all. No model is loaded and no torch imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from analysis.report.deck import TITLE, Author, slides_of
from analysis.report.facts import read_facts
from analysis.report.layout import PlacedTable, Words, place
from analysis.report.lettering import covering, installed, lacking, plain
from analysis.report.pdf import write_pdf
from analysis.report.powerpoint import write_powerpoint
from analysis.report.slide import Slide
from analysis.run_data import read_run_data
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
) -> list[Path]:
    """Write `report.pdf` and `report.pptx`, and return their paths.

    `members`: names of the members to show, `None` for those of the fusion. `folder`: where to, by
    default the run's pages. `warn` is told once of letters that no font of this machine has.
    Raises `UserError` as `read_run_data` does, and for a folder that is a file.
    """
    author = author or Author()
    for option, value in (("name", author.name), ("student_id", author.student_id)):
        if len(value) > LONGEST:
            raise UserError(f"--{option} is longer than {LONGEST} letters")
    target = folder or run.pages
    if target.exists() and not target.is_dir():
        raise UserError(f"--output {target} is a file; it must be a folder")
    run_data = read_run_data(run, members, seed)
    slides = slides_of(run_data, read_facts(run, run_data.members, run_data.fusion), author)
    names = [plain(name) for name in (*run_data.songs.singers, *run_data.members)]
    absent = lacking([*names, *texts_of(slides)])
    families, missing = covering(absent, installed() if absent else [])
    if missing:
        some = " ".join(sorted(missing)[:5])
        warn(
            f"no font on this machine has {len(missing)} of the letters, {some} among them; boxes "
            "stand for them in the PDF and in pictures: install a font such as Noto Sans CJK"
        )
    title = f"{TITLE}: {plain(author.name)}" if author.name else TITLE
    pdf, pptx = target / "report.pdf", target / "report.pptx"
    write_pdf(pdf, slides, title, families, frozenset(missing))
    write_powerpoint(pptx, slides, title, families, frozenset(missing))
    return [pdf, pptx]


def texts_of(slides: Sequence[Slide]) -> Iterator[str]:
    """All lines and cells of the slides, without those inside figures."""
    for number, slide in enumerate(slides, 1):
        for one in place(slide, number):
            if isinstance(one, Words):
                yield from (line for lines in one.paragraphs for line in lines)
            elif isinstance(one, PlacedTable):
                yield from (cell for row in one.grid.rows for cell in row)
