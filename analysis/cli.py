"""The commands analyze, report and serve: parse, call one function, say what was written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from embedder.cli.arguments import Device, RunDir, Seed
from embedder.console import meter, say, warn
from embedder.errors import RUN_DIR, Command, UserError
from embedder.run import Run, open_run
from ensemble.cli.predict import BundleFile, Members, RunOrBundle, names_in


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
    single_file: Annotated[
        bool, typer.Option("--single_file", help="Each page whole in one file, to pass on.")
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
    choose_pages(chosen)  # a page that there is not is refused before files are embedded
    if more and not place:
        raise UserError(f"{more[0]} is no option; new files go on the map with --place")
    run = open_run(run_dir, after="fuse")
    placed = None
    if place:
        from ensemble.cli.predict import place_files

        placed = place_files(run_dir, members, [*place, *(more or ())], device)
    written = draw(run, names, seed, meter, chosen, with_audio, singers_csv, placed, single_file)
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

    author = Author(name.strip(), student_id.strip())
    run = open_run(run_dir, after="fuse")
    later: list[str] = []
    for path in write_report(run, author, names_in(members), output, seed, warn, later.append):
        say(f"wrote {path}")
    for line in later:
        say(line)


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 7860,
    password: Annotated[
        str | None,
        typer.Option(
            "--password",
            envvar="SERVE_PASSWORD",
            help="Asked of every visitor, with any user name; or set SERVE_PASSWORD.",
        ),
    ] = None,
    max_mb: Annotated[
        float, typer.Option("--max_mb", help="Largest recording, in units of 1,000,000 bytes.")
    ] = 50,
    max_minutes: Annotated[
        float, typer.Option("--max_minutes", help="Longest recording, minutes.")
    ] = 15,
    device: Device = "auto",
    bundle: BundleFile = None,
    run_dir: RunOrBundle = None,
) -> None:
    """Listen: a page to sing to or drop recordings on, and a JSON API.

    Example: python app.py serve --port 7860
    """
    for name, value in (("max_mb", max_mb), ("max_minutes", max_minutes)):
        if not 0 < value < float("inf"):
            raise UserError(f"--{name} {value:g} is not legal; it must be above 0")
    if password == "":
        raise UserError("--password is empty; leave it out, or give one")
    from importlib.util import find_spec

    from analysis.web.server import address, bound, is_loopback, serve_on

    if find_spec("gradio") is None:  # before anything is loaded
        raise ModuleNotFoundError("gradio", name="gradio")
    with bound(host, port) as made:  # what is in use is refused before anything is loaded
        from analysis.web.map import run_context
        from analysis.web.recogniser import RunContext, open_recogniser
        from analysis.web.schemas import Limits
        from ensemble.cli.predict import open_identifier

        limits = Limits(max_mb, max_minutes)
        with open_identifier(run_dir, bundle, None, device) as identifier:
            known = RunContext()
            if bundle is None:
                known = run_context(Run(run_dir or RUN_DIR), identifier.members)
            predictor = open_recogniser(identifier, known, limits, say)
            from analysis.web.app import open_page

            page = open_page(predictor, limits, password)
            if bundle is None and not predictor.map_points():
                say(f"there is no map of the songs; to draw it: {Command('analyze', pages='tsne')}")
            if not is_loopback(made):
                who = "who knows the password" if password else "without any password"
                warn(f"other machines reach this page, {who}, and can enrol singers")
            say(f"listening on {address(made)}; Ctrl-C ends it")
            with suppress(KeyboardInterrupt):
                serve_on(made, page)
            say("stopped")
