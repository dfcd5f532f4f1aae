"""From a run folder that `fuse` has filled to `pages/<name>.html`, each whole or not at all.

No model is loaded and no torch imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from analysis.maps import fit_all
from analysis.page import PAGES, single_file, write_plotly
from analysis.pages.albums import albums_page
from analysis.pages.confusion import confusion_page
from analysis.pages.experts import members_page
from analysis.pages.map import tsne_page
from analysis.pages.overview import overview_page
from analysis.pages.reliability import reliability_page
from analysis.pages.robustness import robustness_page
from analysis.pages.spectrograms import spectrograms_page
from analysis.pages.timeline import timeline_page
from analysis.pages.training import training_page
from analysis.pages.voices import voices_page
from analysis.run_data import RunData, read_run_data
from embedder.artifact import write_text
from embedder.errors import UserError, did_you_mean
from embedder.run import Run
from ensemble.results import PlacedFiles

# File name → what makes its text. A page that lacks something says what, and how to get it.
BUILDERS: dict[str, Callable[[RunData], str]] = {
    "index.html": overview_page,
    "tsne.html": tsne_page,
    "confusion.html": confusion_page,
    "albums.html": albums_page,
    "reliability.html": reliability_page,
    "members.html": members_page,
    "timeline.html": timeline_page,
    "voices.html": voices_page,
    "spectrograms.html": spectrograms_page,
    "robustness.html": robustness_page,
    "training.html": training_page,
}

# Title → a context that yields what is called with (done, total), as `embedder.console.meter`.
Progress = Callable[[str], AbstractContextManager[Callable[[int, int], object]]]


def unseen(title: str) -> AbstractContextManager[Callable[[int, int], object]]:
    """Progress that nobody watches."""
    del title
    return nullcontext(lambda *_: None)


def analyze(
    run: Run,
    members: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress = unseen,
    pages: Sequence[str] | None = None,
    with_audio: bool = False,
    singers_csv: Path | None = None,
    placed: PlacedFiles | None = None,
    single_files: bool = False,
) -> list[Path]:
    """Write the pages of a run.

    Args:
        members: Names of the members to map, `None` for those of the fusion.
        seed: Of the maps and the bootstrap.
        progress: Is shown the fitting of maps, which takes longest, and then the pages.
        pages: Names without suffix, `None` for all.
        with_audio: Pages may carry players.
        singers_csv: What is known of the singers, `None` for the run's own.
        placed: New files for the maps.
        single_files: Each page holds plotly's script, instead of one beside them all.

    Returns:
        Paths of the pages, the front page first.

    Raises:
        UserError: If stores or predictions are missing, unreadable or made from different things;
            no page is written then.
    """
    chosen = choose_pages(pages)
    run_data = read_run_data(run, members, seed, with_audio, singers_csv, placed)
    if "tsne.html" in chosen:
        with progress("fitting maps, percent") as tick:
            fit_all(run_data, tick)
    texts = {}
    with progress("drawing pages") as tick:
        for file in chosen:
            texts[file] = BUILDERS[file](run_data)
            tick(len(texts), len(chosen))
    if not single_files:
        write_plotly(run.pages)
    for file, text in texts.items():
        write_text(run.pages / file, single_file(text) if single_files else text)
    return [run.pages / file for file in texts]


def choose_pages(names: Sequence[str] | None) -> list[str]:
    """File names of the named pages in their order, or of all; `UserError` for another name."""
    legal = {file.removesuffix(".html"): file for file, _ in PAGES}
    wrong = [name for name in names or () if name not in legal]
    if wrong:
        raise UserError(
            f"--pages {wrong[0]}{did_you_mean(wrong[0], legal)} is unknown; "
            f"choose from {', '.join(legal)}"
        )
    return [file for name, file in legal.items() if names is None or name in names]
