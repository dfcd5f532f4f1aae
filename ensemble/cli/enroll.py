"""`enroll` and `unenroll`, and what all that is enrolled costs the trained singers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.cli.arguments import Device, RunDir
from embedder.console import print_table, say, shown, warn
from embedder.errors import Command, UserError
from embedder.run import Run
from embedder.text import counted
from ensemble.cli.predict import naming_bad_files, open_identifier

if TYPE_CHECKING:
    from embedder.inference.store import Store
    from ensemble.identifier import SingerIdentifier
    from ensemble.index.table import Change

Singer = Annotated[str | None, typer.Option("--singer", help="Name of the singer.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take the last change back.")]


def enroll(
    singer: Singer = None,
    audio_dir: Annotated[
        Path | None,
        typer.Option("--audio_dir", help="Folder of the singer's songs; folders in it are albums."),
    ] = None,
    undo: Undo = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip_bad", help="Leave out files that cannot be used.")
    ] = False,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Add a singer, or songs of a known one, to the index; no training.

    Example: python app.py enroll --singer "Aimee Mann" --audio_dir songs/aimee_mann
    """
    from ensemble.enrollment_cost import known_songs
    from ensemble.predictions import list_files

    if undo:
        if singer is not None or audio_dir is not None:
            raise UserError("--undo takes the last change back; it goes with no other option")
        take_back(run_dir)
        return
    if singer is None or audio_dir is None:
        raise UserError("enroll needs --singer NAME and --audio_dir D, or --undo")
    with open_identifier(run_dir, None, None, device) as identifier:
        known = known_songs(Run(run_dir), identifier.fusion)
        list_files(audio_dir, "--audio_dir")  # refuses what is no folder of audio
        with naming_bad_files():
            found = identifier.enroll(singer, audio_dir, skip_bad=skip_bad, progress=shown)
        for file, why in sorted(found.skipped.items()):
            warn(f"left out {file}: {why}")
        say(sentence(found.change))
        for song, (other, owner) in found.copies.items():
            warn(
                f"{song} is the same recording as {other} of {owner}, which stays in the index too"
            )
        if found.spelled_alike:
            others = ", ".join(map(repr, found.spelled_alike))
            warn(
                f"{found.change.singer!r} and {others} differ in case, form or spaces only, and "
                "are kept apart"
            )
        print_costs(identifier, known)
    say(f"to take it back: {Command('enroll', undo=True)}")


def unenroll(
    singer: Singer = None,
    undo: Undo = False,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Take the enrolled songs of a singer out of the index.

    Example: python app.py unenroll --singer "Aimee Mann"
    """
    from ensemble.enrollment_cost import known_songs

    if undo:
        if singer is not None:
            raise UserError("--undo takes the last change back; it goes with no other option")
        take_back(run_dir)
        return
    if singer is None:
        raise UserError("unenroll needs --singer NAME, or --undo")
    with open_identifier(run_dir, None, None, "auto") as identifier:
        known = known_songs(Run(run_dir), identifier.fusion)
        say(sentence(identifier.unenroll(singer)))
        print_costs(identifier, known)
    say(f"to take it back: {Command('unenroll', undo=True)}")


def take_back(run_dir: Path) -> None:
    """Undo the last change and say which it was."""
    from ensemble.enrollment_cost import known_songs

    with open_identifier(run_dir, None, None, "auto") as identifier:
        known = known_songs(Run(run_dir), identifier.fusion)
        say(f"taken back: {sentence(identifier.undo())}")
        print_costs(identifier, known)


def sentence(change: Change) -> str:
    """A change of the index in a sentence."""
    if change.action == "enroll":
        what = "is enrolled" if change.songs == 1 else "are enrolled"
    else:
        what = "was taken out" if change.songs == 1 else "were taken out"
    return f"{counted(change.songs, 'song')} of {change.singer} {what} (change {change.number})"


def print_costs(
    identifier: SingerIdentifier, known: tuple[list[Store], list[Store]] | None
) -> None:
    """What is enrolled, and what it costs the trained singers on validation songs."""
    from ensemble.enrollment_cost import costs

    first = identifier.first_index
    new = first.singers[first.known :]
    verb = "is" if len(new) == 1 else "are"
    who = f"{counted(len(new), 'singer')} {verb}" if new else "no singer is"
    names = f": {', '.join(new)}" if new else ""
    say(f"{who} enrolled beside the {first.known} trained ones{names}")
    if known is None:
        say("what that costs the trained ones cannot be measured here: there are no songs")
        return
    found = costs(identifier.fusion, *known, identifier.indexes)
    if found.left_out:
        say(
            f"{counted(found.left_out, 'validation song')} stood among the enrolled ones and "
            "cannot say what they cost"
        )
    if found.rows:
        print_table(
            f"Trained singers beside {counted(found.enrolled, 'enrolled song')}: "
            f"{counted(found.songs, 'validation song')}, song level; 95 % intervals: "
            "bootstrap over albums; the fusion was fitted on these songs",
            ("measure", "without enrolled songs", "with them", "difference"),
            [(row.name, *map(str, (row.before, row.after, row.change))) for row in found.rows],
        )
