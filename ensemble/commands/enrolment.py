"""The commands that add singers to the index without training, and take them out again.

Enters: options. Leaves: the index's song table, changed whole or not at all, and tables that show
what the change costs the known singers and gains the new one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.artifacts import open_run
from embedder.commands.members import Device, RunDir, catalogue_of, in_run
from embedder.console import print_table, say, shown
from embedder.errors import UserError

if TYPE_CHECKING:
    from embedder.artifacts import Run
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
    run = open_run(run_dir)
    if undo:
        if singer is not None or audio_dir is not None:
            raise UserError("--undo takes the last change back; it goes with no other option")
        take_back(run)
        return
    if singer is None or audio_dir is None:
        raise UserError("enroll needs --singer NAME and --audio_dir D, or --undo")
    name = singer.strip()

    from embedder.embed_files import usable_files
    from ensemble.commands.hearing import hear, load_listeners
    from ensemble.enrolling import album_names, check_name, enrolled_from
    from ensemble.index.table import enroll as add
    from ensemble.pipeline import list_files, open_fusion
    from ensemble.predictions import prediction_names

    check_name(name)
    fusion, _ = open_fusion(run, None)
    files = list_files(audio_dir, "--audio_dir")
    listeners = load_listeners(run, fusion, list(fusion.members), device)
    files, bad = usable_files(files, skip_bad, shown)
    ids = [f"{name}/{one}" for one in prediction_names(files, audio_dir)]
    heard = hear(listeners, files, ids, root=audio_dir, takes_stems=False, progress=shown)
    if heard.dropped:
        raise UserError(
            f"{' and '.join(heard.dropped)} cannot hear these files without vocals, and the index "
            "needs every member; train a separator: python app.py train-separator"
        )
    songs = enrolled_from(heard.batches, album_names(ids, name))
    change = add(run.index_table, name, songs)
    for path, why in sorted(bad.items()):
        say(f"left out {path}: {why}")
    say(told(change))
    print_costs(run)
    say(f"to take it back: python app.py enroll --undo{in_run(run_dir)}")


def unenroll(
    singer: Singer = None,
    undo: Undo = False,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Take the enrolled songs of a singer out of the index.

    Example: python app.py unenroll --singer "Aimee Mann"
    """
    from ensemble.index.table import unenroll as take_out

    run = open_run(run_dir)
    if undo:
        if singer is not None:
            raise UserError("--undo takes the last change back; it goes with no other option")
        take_back(run)
        return
    if singer is None:
        raise UserError("unenroll needs --singer NAME, or --undo")
    say(told(take_out(run.index_table, singer.strip())))
    print_costs(run)
    say(f"to take it back: python app.py unenroll --undo{in_run(run_dir)}")


def take_back(run: Run) -> None:
    """Undo the last change and say which it was."""
    from ensemble.index.table import undo

    change = undo(run.index_table)
    say(f"taken back: {told(change)}")
    print_costs(run)


def told(change: Change) -> str:
    """A change of the index in a sentence."""
    what = "are enrolled" if change.action == "enroll" else "were taken out"
    return f"{change.songs} songs of {change.singer} {what} (change {change.number})"


def print_costs(run: Run) -> None:
    """What the enrolled singers cost the known ones on validation songs, where the run has them."""
    from ensemble.enrolling import costs
    from ensemble.pipeline import open_fusion, read_stores

    fusion, indexes = open_fusion(run, None)
    first = next(iter(indexes.values()))
    new = first.singers[first.known :]
    if not new:
        say(f"no singer is enrolled beside the {first.known} trained ones")
        return
    say(f"{len(new)} singers are enrolled beside {first.known} trained ones: {', '.join(new)}")
    if not run.catalogue.is_file():
        say("what that costs the trained ones cannot be measured here: there are no songs")
        return
    stores = read_stores(run, catalogue_of(run), fusion.members, "validation", fusion.listening)
    rows = costs(fusion, stores, indexes)
    print_table(
        f"Known singers with {len(new)} enrolled: {len(stores[0].song_ids)} validation songs, song "
        "level, bootstrap 95 % intervals; the fusion was fitted on these songs",
        ("measure", "without them", "with them", "difference"),
        [(row.name, *map(str, (row.before, row.after, row.change))) for row in rows],
    )
