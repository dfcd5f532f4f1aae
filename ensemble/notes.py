"""What is to be known of single answers, in a file beside the prediction.

Enters: which members had a part in each answer, where no voice was found, and which files could
only be decoded in part. Leaves: `<output>.notes.csv`, which is not there where nothing is to be
known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import write_text
from embedder.text import to_csv
from ensemble.predictions import id_order, normal_id


def notes_on(
    names: Sequence[str],
    silent: Sequence[Sequence[str]],
    unsung: NDArray[np.bool_],
    members: int,
    decoded: Mapping[str, Sequence[str]] = {},
) -> dict[str, list[str]]:
    """What is to be known of each answer, by name of its file; nothing of most.

    `silent`: for each song the members, of as many as `members`, that had no part in its answer;
    `unsung` (songs,): no voice was found in it; `decoded`: what is odd about its file, by name.
    """
    notes: dict[str, list[str]] = {}
    for name, gone, without in zip(names, silent, unsung, strict=True):
        said = list(decoded.get(name, ()))
        if gone:
            said.append(
                f"answered by {members - len(gone)} of {members} members: no vocals for "
                f"{' and '.join(gone)}"
            )
        if without:
            said.append("no voice was found: heard as a whole")
        if said:
            notes[name] = said
    return notes


def write_notes(output: Path, notes: Mapping[str, Sequence[str]]) -> Path | None:
    """Write `<output>.notes.csv`, lines `ID,note` by ascending ID, atomically.

    Where there is no note, an old file is taken away.
    """
    path = output.with_name(f"{output.name}.notes.csv")
    ordered = sorted(notes, key=id_order)
    rows = [(normal_id(name), note) for name in ordered for note in notes[name]]
    if not rows:
        path.unlink(missing_ok=True)
        return None
    write_text(path, to_csv([("ID", "note"), *rows]))
    return path
