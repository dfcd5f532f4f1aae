"""The commands that draw pages and write the report: thin fronts, registered by `app.py`.

Enters: options. Leaves: what each command names in its last lines. Drawing is imported only inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedder.artifacts import open_run
from embedder.commands.members import Device, RunDir, Seed
from embedder.console import meter, say
from embedder.errors import UserError
from ensemble.commands.answers import Members, names_in


def analyze(
    members: Members = None,
    pages: Annotated[
        list[str] | None, typer.Option("--pages", help="Pages by name, with commas. Default: all.")
    ] = None,
    place: Annotated[
        list[Path] | None,
        typer.Option("--place", help="New audio files, or folders of them, onto the map."),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,
    singers_csv: Annotated[
        Path | None,
        typer.Option("--singers_csv", help="singer, sex, low_hz, high_hz. Default: the run's."),
    ] = None,
    with_audio: Annotated[
        bool, typer.Option("--with_audio", help="Players, with excerpts in pages/audio.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Draw the interactive pages: overview, maps, confusion, albums, and more; see --pages.

    Example: python app.py analyze --place new/*.mp3 --with_audio
    """
    from analysis.analyze import analyze as draw
    from analysis.analyze import choose_pages

    names, chosen = names_in(members), names_in(pages)
    choose_pages(chosen)  # a page that there is not is refused before files are heard
    if more and not place:
        raise UserError(f"{more[0]} is no option; new files go on the map with --place")
    run = open_run(run_dir)
    placed = None
    if place:
        from ensemble.commands.placing import hear_placed

        placed = hear_placed(run, names, [*place, *(more or ())], device)
    written = draw(run, names, seed, meter, chosen, with_audio, singers_csv, placed)
    for page in written:
        say(f"wrote {page}")
    say(f"next: open {written[0]} in a browser")


def report(
    name: Annotated[str, typer.Option("--name", help="Whose work it is, for the cover.")] = "",
    student_id: Annotated[str, typer.Option("--student_id", help="Likewise.")] = "",
    members: Members = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder. Default: the run's pages.")
    ] = None,
    seed: Seed = 0,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Write the deck that is handed in: report.pdf, and report.pptx with the same pages.

    Example: python app.py report --name "Ada Lovelace" --student_id R12345678
    """
    from analysis.report.deck import Author
    from analysis.report.report import write_report

    def warn(text: str) -> None:
        typer.echo(f"note: {text}", err=True)

    author = Author(name.strip(), student_id.strip())
    for path in write_report(open_run(run_dir), author, names_in(members), output, seed, warn):
        say(f"wrote {path}")
