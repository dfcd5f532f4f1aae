"""The commands that add singers to the index without training, and take them out again.

Enters: options. Leaves: the index's song table, changed whole or not at all, and a table that shows
what all that is enrolled costs the known singers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.cli.options import Device, RunDir, catalogue_of
from embedder.console import print_table, say, shown, warn
from embedder.errors import Command, UserError
from embedder.run import locked, open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedder.inference.store import Store
    from embedder.run import Run
    from ensemble.fusion.fitted import Fusion
    from ensemble.index.members import MemberIndex, NewSong
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
    run = open_run(run_dir, after="fuse")
    if undo:
        if singer is not None or audio_dir is not None:
            raise UserError("--undo takes the last change back; it goes with no other option")
        take_back(run)
        return
    if singer is None or audio_dir is None:
        raise UserError("enroll needs --singer NAME and --audio_dir D, or --undo")
    from embedder.inference.embed_files import usable_files
    from ensemble.answering import list_files
    from ensemble.commands.hearing import hear, load_listeners
    from ensemble.enrolled.enrolling import (
        check_new,
        enrolled_from,
        enrolled_ids,
        singer_named,
        spelled_like,
    )
    from ensemble.fusion.pipeline import open_fusion
    from ensemble.index.database import LOCK_S
    from ensemble.index.table import enroll as add
    from ensemble.predictions import prediction_names

    singer_named(singer, ())  # before anything is read
    fusion, indexes = open_fusion(run, None)
    first = next(iter(indexes.values()))
    name = singer_named(singer, first.singers)
    known = known_songs(run, fusion)
    files = list_files(audio_dir, "--audio_dir")
    check_new(enrolled_ids(name, prediction_names(files, audio_dir), audio_dir), first)
    listeners = load_listeners(run, fusion, list(fusion.members), device)
    files, bad, odd = usable_files(files, skip_bad, shown)
    ids = enrolled_ids(name, prediction_names(files, audio_dir), audio_dir)
    heard = hear(listeners, files, ids, root=audio_dir, takes_stems=False, progress=shown)
    if heard.dropped:
        raise UserError(
            f"{' and '.join(heard.dropped)} cannot hear these files without vocals, and the index "
            f"needs every member; train a separator: {Command('train-separator')}"
        )
    songs = enrolled_from(heard.batches)
    with locked(run, "fusion", wait_s=LOCK_S):
        change = add(run.index_table, name, songs, fusion.id)
    for path, why in sorted(bad.items()):
        warn(f"left out {path}: {why}")
    for path, notes in odd.items():
        warn(f"{path}: {'; '.join(notes)}")
    say(told(change))
    for line in said_of_copies(songs, indexes):
        warn(line)
    if alike := spelled_like(name, first.singers):
        others = ", ".join(map(repr, alike))
        warn(f"{name!r} and {others} differ in case, form or spaces only, and are kept apart")
    print_costs(run, known)
    say(f"to take it back: {Command('enroll', undo=True)}")


def unenroll(
    singer: Singer = None,
    undo: Undo = False,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Take the enrolled songs of a singer out of the index.

    Example: python app.py unenroll --singer "Aimee Mann"
    """
    from ensemble.index.database import LOCK_S
    from ensemble.index.table import unenroll as take_out

    run = open_run(run_dir, after="fuse")
    if undo:
        if singer is not None:
            raise UserError("--undo takes the last change back; it goes with no other option")
        take_back(run)
        return
    if singer is None:
        raise UserError("unenroll needs --singer NAME, or --undo")
    known = known_songs(run)
    with locked(run, "fusion", wait_s=LOCK_S):
        change = take_out(run.index_table, singer)
    say(told(change))
    print_costs(run, known)
    say(f"to take it back: {Command('unenroll', undo=True)}")


def take_back(run: Run) -> None:
    """Undo the last change and say which it was."""
    from ensemble.index.database import LOCK_S
    from ensemble.index.table import undo

    known = known_songs(run)
    with locked(run, "fusion", wait_s=LOCK_S):
        change = undo(run.index_table)
    say(f"taken back: {told(change)}")
    print_costs(run, known)


def told(change: Change) -> str:
    """A change of the index in a sentence."""
    if change.action == "enroll":
        what = "is enrolled" if change.songs == 1 else "are enrolled"
    else:
        what = "was taken out" if change.songs == 1 else "were taken out"
    return f"{counted(change.songs, 'song')} of {change.singer} {what} (change {change.number})"


def counted(number: int, what: str) -> str:
    """`1 song`, `2 songs`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def said_of_copies(songs: Sequence[NewSong], before: Mapping[str, MemberIndex]) -> list[str]:
    """A line for each song that the index already held under another name."""
    import numpy as np

    from ensemble.enrolled.enrolling import copies_of

    first = next(iter(before.values()))
    new = {name: np.stack([song.by_member[name].embedding for song in songs]) for name in before}
    rows = copies_of(new, {name: index.embeddings for name, index in before.items()})
    return [
        f"{song.song_id} is the same recording as {first.song_ids[row]} of "
        f"{first.singers[first.labels[row]]}, which stays in the index too"
        for song, row in zip(songs, rows.tolist(), strict=True)
        if row >= 0
    ]


def known_songs(run: Run, fusion: Fusion | None = None) -> tuple[list[Store], list[Store]] | None:
    """The stores of training and of validation songs; None where the run has no songs.

    They are read before the index changes: a store that does not fit is refused, and nothing done.
    """
    from ensemble.fusion.pipeline import RunStores, open_fusion

    found = fusion or open_fusion(run, None)[0]
    catalogue = catalogue_of(run) if run.catalogue.is_file() else None
    if catalogue is None or not catalogue.of("validation"):
        return None
    stores = RunStores(run, catalogue, found.members, found.listening)
    return stores.of("train"), stores.of("validation")


def print_costs(run: Run, known: tuple[list[Store], list[Store]] | None) -> None:
    """What is enrolled, and what it costs the trained singers on validation songs."""
    from ensemble.enrolled.cost import costs
    from ensemble.fusion.pipeline import open_fusion

    fusion, indexes = open_fusion(run, None)
    first = next(iter(indexes.values()))
    new = first.singers[first.known :]
    verb = "is" if len(new) == 1 else "are"
    who = f"{counted(len(new), 'singer')} {verb}" if new else "no singer is"
    names = f": {', '.join(new)}" if new else ""
    say(f"{who} enrolled beside the {first.known} trained ones{names}")
    if known is None:
        say("what that costs the trained ones cannot be measured here: there are no songs")
        return
    found = costs(fusion, *known, indexes)
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
