"""`verify` and `similar`: lines and tables, or JSON alone on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedder.cli.arguments import Device, RunDir
from embedder.console import print_table, say, warn
from embedder.errors import UserError, did_you_mean
from embedder.text import counted
from ensemble.cli.predict import Members, names_in

if TYPE_CHECKING:
    pass

AsJson = Annotated[bool, typer.Option("--json", help="JSON alone on standard output.")]


def verify(
    first: Annotated[Path, typer.Argument(metavar="A", help="An audio file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    members: Members = None,
    as_json: AsJson = False,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Say whether two recordings are of one singer.

    Example: python app.py verify one.wav other.wav
    """
    from ensemble.identifier import SingerIdentifier

    check_files([first, second])
    tell = teller(as_json)
    with SingerIdentifier.load(
        run_dir, device=device, members=names_in(members), say=tell, warn=warn, packed=False
    ) as identifier:
        found = identifier.verify(first, second)
    if as_json:
        print_json({"first": str(first), "second": str(second), **found.to_dict()})
        return
    say(f"cosine       {found.cosine:6.3f}, mean over {', '.join(found.members)}")
    say(
        f"threshold    {found.threshold:6.3f}, of equal error rates on "
        f"{counted(found.pairs, 'pair')} of "
        "whole songs"
    )
    say(f"probability  {found.probability:6.3f} of one singer, where it was 0.5 beforehand")
    if found.same_recording:
        say("these are the same recording, or copies of it")
    elif found.same_singer:
        say("one singer sings both: they are as alike as the threshold asks, or more")
    else:
        say("two singers: they are less alike than the threshold asks")


def similar(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An audio file.")],
    top: Annotated[int, typer.Option("--top", min=1, help="Songs to name.")] = 10,
    members: Members = None,
    as_json: AsJson = False,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Name the songs of the index that are most like a recording.

    Example: python app.py similar song.wav --top 5
    """
    from ensemble.identifier import SingerIdentifier

    check_files([file])
    tell = teller(as_json)
    with SingerIdentifier.load(
        run_dir, device=device, members=names_in(members), say=tell, warn=warn, packed=False
    ) as identifier:
        found = identifier.similar(file, top)
    if as_json:
        print_json({"file": str(file), **found.to_dict()})
        return
    print_table(
        f"The {len(found.nearest)} of {counted(found.songs, 'song')} in the index most like "
        f"{file}, "
        f"cosine of {', '.join(found.members)}",
        ("singer", "album", "song", "similarity", ""),
        [
            (
                song.singer,
                song.album,
                song.song,
                f"{song.similarity:.3f}",
                "the same recording" if song.same_recording else "",
            )
            for song in found.nearest
        ],
    )


def teller(as_json: bool) -> Callable[[str], None]:
    """What says a line: on standard output, or beside it where that belongs to JSON."""
    return partial(print, file=sys.stderr, flush=True) if as_json else say


def print_json(value: dict[str, Any]) -> None:
    """JSON in ASCII, which every terminal and pipe takes."""
    print(json.dumps(value, indent=2), flush=True)


def check_files(files: Sequence[Path]) -> None:
    """Raise `UserError` unless all files are there."""
    from ensemble.predictions import prediction_names

    for file in files:
        prediction_names([file], file.parent)  # refuses a name that is no text
        if file.is_dir():
            raise UserError(f"{file} is a folder")
        if not file.is_file():
            there = file.parent.iterdir() if file.parent.is_dir() else ()
            near = did_you_mean(file.name, (one.name for one in there))
            raise UserError(f"{file}{near} does not exist")
