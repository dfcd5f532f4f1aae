"""How `analyze --place` hears files: as `predict` does, and their embeddings are kept for the maps.

Enters: a run and paths of files and folders. Leaves: `Placed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedder.catalogue import without_audio_suffix
from embedder.console import shown, warn
from embedder.errors import UserError
from embedder.run import Run
from ensemble.placed import Placed


def hear_placed(
    run: Run, members: Sequence[str] | None, paths: Sequence[Path], device: str = "auto"
) -> Placed:
    """The files, and those in the folders, as the members of the fusion hear and answer them.

    Raises:
        UserError: a path leads nowhere, a file cannot be used, or no member can hear.
    """
    from embedder.inference.embed_files import check_files
    from ensemble.answering import answer
    from ensemble.commands.hearing import hear, load_listeners
    from ensemble.fusion.experts import FUSED
    from ensemble.fusion.pipeline import open_fusion

    found = [pair for path in paths for pair in files_at(path)]
    files = [file for file, _ in found]
    fusion, indexes = open_fusion(run, members)
    listeners = load_listeners(run, fusion, list(indexes), device)
    bad, odd = check_files(files, shown)
    if bad:
        raise UserError("; ".join(f"{path}: {reason}" for path, reason in sorted(bad.items())))
    for path, notes in odd.items():
        warn(f"{path}: {'; '.join(notes)}")
    ids = [f"file {number}" for number in range(1, len(files) + 1)]  # one may be given twice
    heard = hear(listeners, files, ids, takes_stems=False, progress=shown)
    batches = tuple(map(tuple, heard.batches))
    answered = answer(fusion, indexes, batches)
    return Placed(
        paths=tuple(files),
        names=tuple(name for _, name in found),
        singers=answered.answers.singers,
        probabilities=np.exp(answered.answers.scores[FUSED]),
        batches=batches,
        silent=answered.silent,
    )


def files_at(path: Path) -> list[tuple[Path, str]]:
    """The file at a path, or all audio files in the folder there, each with what it is called."""
    from ensemble.answering import list_files

    if path.is_dir():
        files = list_files(path, "--place")
        return [(file, without_audio_suffix(file.relative_to(path).as_posix())) for file in files]
    if not path.is_file():
        raise UserError(f"--place {path} does not exist; give audio files, or folders of them")
    return [(path, without_audio_suffix(path.name))]
