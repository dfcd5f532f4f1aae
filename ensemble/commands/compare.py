"""The commands that compare recordings: thin fronts, registered by `app.py`.

Enters: audio files. Leaves: lines and tables, or JSON alone on standard output, where messages go
to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedder.cli.options import Device, RunDir
from embedder.console import print_table, say, warn
from embedder.errors import UserError, did_you_mean
from embedder.run import Run, open_run
from ensemble.commands.answers import Members, names_in

if TYPE_CHECKING:
    from embedder.inference.store import Store
    from ensemble.fusion.fitted import Fusion

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
    from ensemble.fusion.pipeline import open_fusion
    from ensemble.similarity import SAME_RECORDING, cosine, embeddings_of
    from ensemble.verification.verification import check_verification, read_verification

    run = open_run(run_dir, after="fuse")
    fusion, indexes = open_fusion(run, names_in(members))
    verification = read_verification(run.verification)
    check_verification(verification, fusion.id)
    stores = heard(run, fusion, list(indexes), [first, second], device, teller(as_json))
    calibration = verification.of([store.member for store in stores])
    found = cosine(embeddings_of(stores, 0), embeddings_of(stores, 1))
    probability, threshold = calibration.probability(found), calibration.threshold
    same = found >= threshold
    if as_json:
        print_json(
            {
                "first": str(first),
                "second": str(second),
                "members": list(calibration.members),
                "cosine": found,
                "threshold": threshold,
                "probability": probability,
                "same_singer": same,
                "same_recording": found > SAME_RECORDING,
            }
        )
        return
    pairs = verification.targets + verification.non_targets
    say(f"cosine       {found:6.3f}, mean over {', '.join(calibration.members)}")
    say(f"threshold    {threshold:6.3f}, of equal error rates on {pairs} pairs of whole songs")
    say(f"probability  {probability:6.3f} of one singer, where it was 0.5 beforehand")
    if found > SAME_RECORDING:
        say("these are the same recording, or copies of it")
    elif same:
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
    from ensemble.fusion.pipeline import open_fusion
    from ensemble.index.members import check_index
    from ensemble.similarity import embeddings_of, similar_songs

    run = open_run(run_dir, after="fuse")
    fusion, indexes = open_fusion(run, names_in(members))
    stores = heard(run, fusion, list(indexes), [file], device, teller(as_json))
    for store in stores:
        check_index(indexes[store.member], store.made_from["checkpoint"], store.singers)
    found = similar_songs(embeddings_of(stores, 0), indexes, top, file.resolve().as_posix())
    chosen = [store.member for store in stores]
    songs = len(indexes[chosen[0]].song_ids)
    if as_json:
        nearest = [{"rank": rank, **asdict(song)} for rank, song in enumerate(found, 1)]
        print_json({"file": str(file), "members": chosen, "songs": songs, "nearest": nearest})
        return
    print_table(
        f"The {len(found)} of {songs} songs in the index most like {file}, "
        f"cosine of {', '.join(chosen)}",
        ("singer", "album", "song", "similarity", ""),
        [
            (
                song.singer,
                song.album,
                song.song,
                f"{song.similarity:.3f}",
                "the same recording" if song.same_recording else "",
            )
            for song in found
        ],
    )


def teller(as_json: bool) -> Callable[[str], None]:
    """What says a line: on standard output, or beside it where that belongs to JSON."""
    return partial(print, file=sys.stderr, flush=True) if as_json else say


def print_json(value: dict[str, Any]) -> None:
    """JSON in ASCII, which every terminal and pipe takes."""
    print(json.dumps(value, indent=2), flush=True)


def heard(
    run: Run,
    fusion: Fusion,
    members: Sequence[str],
    files: Sequence[Path],
    device: str,
    tell: Callable[[str], None],
) -> list[Store]:
    """The stores of a few files, one a member that can hear all of them.

    A member that hears vocals, and finds none in a file, is left out as in `predict`.
    """
    from embedder.inference.embed_files import check_files
    from ensemble.commands.hearing import hear, load_listeners
    from ensemble.predictions import prediction_names

    for file in files:
        prediction_names([file], file.parent)  # refuses a name that is no text
        if file.is_dir():
            raise UserError(f"{file} is a folder")
        if not file.is_file():
            there = file.parent.iterdir() if file.parent.is_dir() else ()
            near = did_you_mean(file.name, (one.name for one in there))
            raise UserError(f"{file}{near} does not exist")
    listeners = load_listeners(run, fusion, members, device)
    bad, odd = check_files(files)
    if bad:
        raise UserError("; ".join(f"{path}: {reason}" for path, reason in sorted(bad.items())))
    for path, notes in odd.items():
        warn(f"{path}: {'; '.join(notes)}")
    names = [f"file {number}" for number in range(1, len(files) + 1)]  # one may be given twice
    audition = hear(listeners, files, names, takes_stems=False, batch_size=len(files), tell=tell)
    (stores,) = audition.batches
    if not audition.seeks_voice:
        return stores
    for number, file in enumerate(files):
        if min(store.voice()[number] for store in stores) == 0:
            warn(f"no voice was found in {file}: heard as a whole")
    vocal = [store for store in stores if store.made_from["activity"] == "energy"]
    deaf = [store.member for store in vocal if store.voice().min() == 0]
    if not deaf or len(deaf) == len(stores):
        return stores
    warn(f"found no voice in the vocals and stay silent: {', '.join(deaf)}")
    return [store for store in stores if store.member not in deaf]
