"""Which separator made a run's stems, so that new songs can be separated by the same one.

Input: a method, its weights, and the keys of each song's stems. Output: `stems.json` in the run
folder; and back again, as long as the catalogue still points to these stems.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedder.artifact import Artifact, file_fingerprint, fingerprint
from embedder.catalogue import Catalogue
from embedder.errors import Command, UserError
from embedder.run import Run

FOLDER = "folder"  # method of stems that somebody else made
VERSION = 2  # of separation: raised whenever the same weights would give other stems


@dataclass(frozen=True)
class StemRecord:
    """How the stems of a run's songs were made."""

    method: str  # key of `SEPARATORS`, or "folder"
    fingerprint: str  # of the separator with its weights, or of the folder's path
    weights: str  # --weights as an absolute path, "" for the method's own; or the folder
    songs: dict[str, list[str]]  # song id → keys of vocals and backing, "" where there is none


STEMS = Artifact(
    "record of how stems were made",
    1,
    StemRecord,
    Command("separate", before="run again", method="hdemucs", replace=True),
)


def write_record(run: Run, record: StemRecord) -> None:
    """Write `stems.json`; raise `UserError` if the disk does not take it."""
    try:
        STEMS.write(run.stems, record)
    except OSError as error:
        raise UserError(f"cannot write {run.stems}: {error.strerror or error}") from None


def read_record(run: Run, catalogue: Catalogue) -> StemRecord | None:
    """The record, or None if there is none or the catalogue's stems come from elsewhere since.

    Raises:
        UserError: the file is there, but is no such record.
    """
    if not run.stems.is_file():
        return None
    record = STEMS.read(run.stems)
    theirs = {song.id: [song.vocals, song.backing] for song in catalogue.songs}
    return record if record.songs == theirs else None


def separator_fingerprint(run: Run, catalogue: Catalogue) -> str:
    """Of what separates new songs: what separated the run's, else its own separator; "": nothing.

    Raises:
        UserError: `stems.json` cannot be read.
    """
    record = read_record(run, catalogue)
    if record is not None and record.method != FOLDER:
        return record.fingerprint
    if not run.separator_weights.is_file():
        return ""
    return fingerprint("own", str(VERSION), file_fingerprint(run.separator_weights))
