"""Three seconds of a song of each singer as pictures: log-mel levels, eight bits each.

Enters: `Spectrograms`. Leaves: one small `.npz` without pickle, and back. Nothing here needs torch.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import replacing
from embedder.errors import Command, UserError
from embedder.run import Run

FILE = "spectrograms.npz"
FORMAT = 1
AGAIN = Command("measure", before="run again", what="spectrograms")
SECONDS = 3

Levels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Spectrograms:
    """What was drawn: one song of each singer, as listeners hear it and its vocal stem."""

    singers: tuple[str, ...]
    songs: tuple[str, ...]  # song id of each singer, in their order
    keys: tuple[tuple[str, str], ...]  # hashes of the mixture and of the vocal stem, "": none
    starts_s: tuple[int, ...]  # where the three seconds begin
    hertz: tuple[float, ...]  # centre frequency of each mel band
    hop_s: float  # from one frame to the next
    low_db: float  # level of 0
    step_db: float  # from one level to the next
    mixture: Levels  # (singers, mels, frames), lowest band first
    vocals: Levels  # likewise, 0 where there is no vocal stem
    made_from: str = ""  # fingerprint of the songs that were looked at, and of the voice detector


def write_spectrograms(run: Run, found: Spectrograms) -> None:
    """Write one `.npz`, atomically. The same pictures give the same bytes."""
    head = {
        "format": FORMAT,
        "singers": found.singers,
        "songs": found.songs,
        "keys": found.keys,
        "starts_s": found.starts_s,
        "hertz": found.hertz,
        "hop_s": found.hop_s,
        "low_db": found.low_db,
        "step_db": found.step_db,
        "made_from": found.made_from,
    }
    text = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    with replacing(run.measure(FILE)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, head=text, mixture=found.mixture, vocals=found.vocals)


def read_spectrograms(run: Run) -> Spectrograms | None:
    """What `write_spectrograms` wrote, None where nothing is.

    Raises `UserError` if the file is there, but is none of them.
    """
    path = run.measure(FILE)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            head = json.loads(file["head"].tobytes())
            if head.pop("format") != FORMAT:
                raise ValueError
            found = Spectrograms(
                tuple(head["singers"]),
                tuple(head["songs"]),
                tuple((mixture, vocals) for mixture, vocals in head["keys"]),
                tuple(head["starts_s"]),
                tuple(head["hertz"]),
                head["hop_s"],
                head["low_db"],
                head["step_db"],
                file["mixture"],
                file["vocals"],
                head.get("made_from", ""),
            )
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path} holds no spectrograms; {AGAIN}") from None
    shape = (len(found.singers), len(found.hertz))
    pictures = (found.mixture, found.vocals)
    if any(one.dtype != np.uint8 or one.shape[:2] != shape for one in pictures):
        raise UserError(f"{path} holds no spectrograms; {AGAIN}")
    return found
