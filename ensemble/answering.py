"""Files to predict become answers: batch after batch, then a prediction file with its full table.

Enters: a fusion and its indexes, and stores of new files a few at a time. Leaves: `Answered`, which
songs are of nobody, and the prediction on disk. Embedding itself is handed in: no torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.catalogue import is_audio, visible_files
from embedder.errors import Command, UserError
from embedder.inference.store import Store
from ensemble.apply import Answers, predict_songs
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fitted import Fusion
from ensemble.index.members import MemberIndex
from ensemble.open_set import UNKNOWN, OpenSetThreshold, is_unknown
from ensemble.predictions import FORMATS, Table, top_singers, write_table


def list_files(folder: Path, option: str = "--test_dir") -> list[Path]:
    """All audio files below a folder, sorted; `UserError` if it is missing or has none."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}; {option} takes a folder of audio files")
    files = [folder / name for name in sorted(visible_files(folder))]
    audio = [file for file in files if is_audio(file)]
    if not audio:
        raise UserError(f"{folder} holds no audio file among {len(files)} files")
    return audio


@dataclass(frozen=True, eq=False)
class Answered:
    """What is said of all files."""

    answers: Answers
    voice: NDArray[np.float64]  # (songs,), share of voice where a member with a part found least
    silent: tuple[tuple[str, ...], ...]  # per song: fused members without a part in the answer


def answer(
    fusion: Fusion, indexes: Mapping[str, MemberIndex], batches: Iterable[Sequence[Store]]
) -> Answered:
    """What every expert and "fused" say of all batches' songs, and how much voice they heard.

    A member that hears vocals, and finds none in a song, has no part in that song's answer, nor has
    one without a store in the song's batch; the others' weights grow. Voice is 0 where a member
    found none and heard all segments alike.
    """
    parts, voice, silent = [], [], []
    for stores in batches:
        heard = np.array([store.voice() for store in stores])
        vocal = np.array([store.made_from.get("activity") == "energy" for store in stores])
        deaf = [
            frozenset(store.member for store, none in zip(stores, row, strict=True) if none)
            for row in (vocal[:, None] & (heard == 0)).T
        ]
        found = predict_songs(fusion, stores, indexes, deaf)
        there = {store.member for store in stores}
        parts.append(found)
        silenced = [[store.member in gone for gone in found.deaf] for store in stores]
        voice.append(np.where(silenced, np.inf, heard).min(axis=0))
        silent += [
            tuple(name for name in indexes if name in gone or name not in there)
            for gone in found.deaf
        ]
    return Answered(joined(parts), np.concatenate(voice), tuple(silent))


def joined(parts: Sequence[Answers]) -> Answers:
    """Answers of several batches as one; an expert that one of them lacks has NaN there."""
    names = [n for n in dict.fromkeys(n for part in parts for n in part.scores) if n != FUSED]
    scores = {
        name: np.concatenate(
            [p.scores.get(name, np.full_like(p.scores[FUSED], np.nan)) for p in parts]
        )
        for name in (*names, FUSED)
    }
    return Answers(
        parts[0].singers,
        scores,
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.preference for part in parts]),
        tuple(gone for part in parts for gone in part.deaf),
    )


def threshold_of(fusion: Fusion, singers: Sequence[str]) -> OpenSetThreshold:
    """What says when a song is of none of the singers, trained and enrolled.

    Raises `UserError` if there is none, for the fusion was fitted on too few singers, or if a
    singer bears the name that stands for nobody.
    """
    if UNKNOWN in singers:
        raise UserError(
            f"a singer is named {UNKNOWN}: --unknown would say two things in one word; predict "
            "without it, or rename the singer's folder and prepare, train and fuse again (an "
            "enrolled one: unenroll, and enroll under another name)"
        )
    if fusion.unknown is None:
        raise UserError(
            "--unknown needs a threshold, which is fitted by leaving singers out: there must be "
            f"three or more, and two with validation songs; run again: {Command('fuse')}"
        )
    return fusion.unknown


def strangers(unknown: OpenSetThreshold, answers: Answers, trained: int) -> NDArray[np.bool_]:
    """Which songs (songs,) are of none of the singers, of whom the first `trained` were trained."""
    enrolled = answers.scores[FUSED].argmax(axis=1) >= trained
    return is_unknown(unknown, answers.confidence, enrolled, answers.preference)


def write_prediction(
    output: Path,
    form: str,
    names: Sequence[str],
    answered: Answered,
    voice: bool = False,
    strange: NDArray[np.bool_] | None = None,
) -> Path:
    """Write the prediction in the course's csv or json; return the full table's npz beside it.

    `voice`: it was listened for. `strange` (songs,): these are "unknown" first.
    """
    answers = answered.answers
    choices = top_singers(answers.scores[FUSED], answers.singers)
    if strange is not None:
        choices = [
            (UNKNOWN, *row)[: len(row)] if out else row
            for row, out in zip(choices, strange, strict=True)
        ]
    table = output.with_suffix(".npz")
    experts: dict[str, NDArray[np.floating]] = {
        name: logs for name, logs in answers.scores.items() if name != FUSED
    }
    write_table(
        table,
        Table(
            ids=tuple(names),
            singers=answers.singers,
            log_probabilities=answers.scores[FUSED],
            truth=np.full(len(names), -1, dtype=np.int64),
            albums=("",) * len(names),
            experts=experts,
            voice=answered.voice if voice else None,
            confidence=answers.confidence,
        ),
    )
    FORMATS[form](output, names, choices)  # last: the table is larger, and may not fit on the disk
    return table
