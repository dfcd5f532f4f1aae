"""The ensemble over a run folder: stores become a fusion, files to predict become answers.

Enters: members' stores on disk, and stores of new files a few at a time. Leaves: `fusion/`,
`predictions/`, a prediction file with its full table. Embedding itself is handed in: no torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts import SPLITS, Run, file_fingerprint, read_json
from embedder.catalogue import AUDIO_SUFFIXES, Catalogue, visible_files
from embedder.errors import UserError
from embedder.listening import Listening
from embedder.settings import config_from_dict
from embedder.store import Store, check_store, read_store
from ensemble.apply import Answers, predict_songs
from ensemble.carry import carry_over, enrolled_songs
from ensemble.experts import FUSED
from ensemble.fuse import AUTO, fit_fusion, result_rows
from ensemble.fusion import AS_TRAINED, Fusion, read_fusion, write_fusion
from ensemble.index.members import MemberIndex, index_of
from ensemble.index.table import read_indexes
from ensemble.index.table import write_table as write_index
from ensemble.index.vectors import KINDS
from ensemble.predictions import FORMATS, Table, table_of, top_singers, write_table
from ensemble.unknown import TARGET_FPR, UNKNOWN, is_unknown
from ensemble.verification import fit_verification, write_verification


def choose_members(run: Run, names: Sequence[str] | None) -> list[str]:
    """The named members, or all that are trained; `UserError` if there is no such one."""
    trained = run.member_names()
    if not trained:
        raise UserError(
            f"no member is trained in {run.members}; train one: python app.py train-embedder"
        )
    missing = [name for name in names or () if name not in trained]
    if missing:
        raise UserError(f"there is no member '{missing[0]}'; members are: {', '.join(trained)}")
    return list(dict.fromkeys(names or trained))


def stale_stores(
    run: Run, catalogue: Catalogue, members: Sequence[str], listening: Listening = AS_TRAINED
) -> list[tuple[str, str]]:
    """(member, split) of each store that is missing or no longer fits.

    It must be of the member's checkpoint and of the catalogue's songs, heard as `listening` says.
    """
    songs = catalogue.fingerprint()
    stale = []
    for member in members:
        checkpoint = file_fingerprint(run.weights(member))
        for split in SPLITS:
            if not catalogue.of(split):
                continue
            try:
                heard = _heard(run, member, listening)
                check_store(read_store(run.store(member, split)), checkpoint, songs, heard)
            except (UserError, KeyError, TypeError):  # what is broken is refused when it is loaded
                stale.append((member, split))
    return stale


@dataclass(frozen=True)
class Choices:
    """What `fuse` can be asked for."""

    aggregate: str = "probability"  # a key of `AGGREGATES`
    method: str = AUTO  # a key of `FUSIONS`, or "auto"
    score_norm: str = "none"  # a name in `SCORE_NORMS`
    target_fpr: float = TARGET_FPR  # share of strangers' songs that may get a name
    index: str = "flat"  # a key of `KINDS`, of the segments' index
    drop_enrolled: bool = False  # singers enrolled by other members may be lost
    seed: int = 0

    def check(self) -> None:
        """Raise `UserError` for an index or a share that is not legal."""
        if self.index not in KINDS:
            raise UserError(f"--index {self.index} is not legal; it must be {' | '.join(KINDS)}")
        if not 0 < self.target_fpr < 1:
            raise UserError(f"--target_fpr {self.target_fpr:g} must lie between 0 and 1")


def fuse_run(
    run: Run,
    catalogue: Catalogue,
    members: Sequence[str],
    choices: Choices = Choices(),
    listening: Listening = AS_TRAINED,
    say: Callable[[str], None] | None = None,
) -> Fusion:
    """Fit the fusion of the members' stores and write index, fusion, verification and predictions.

    Validation numbers are cross-fitted by album; where the catalogue has test songs, the fusion
    fitted on all validation songs answers them and has its own rows. Singers who were enrolled stay
    so, if the same members heard them in the same way. `say` is told what is worth a line.

    Raises:
        UserError: a store is missing, or does not fit its checkpoint, the catalogue or the others;
            a choice is not legal; or enrolled singers would be lost.
    """
    choices.check()
    stores = {split: read_stores(run, catalogue, members, split, listening) for split in SPLITS}
    tell = say or (lambda _: None)
    enrolled = enrolled_songs(run.index_table, run.fusion, stores["train"], listening)
    if enrolled.lost and not choices.drop_enrolled:
        raise UserError(
            f"{len(enrolled.lost)} enrolled singers ({', '.join(enrolled.lost)}) were heard by "
            "other members or in another way and would be lost; --drop_enrolled lets them go, to "
            "be enrolled again: python app.py enroll"
        )
    indexes = {store.member: _index(store, choices.index) for store in stores["train"]}
    fusion, scores = fit_fusion(
        indexes,
        stores["validation"],
        choices.aggregate,
        choices.seed,
        method=choices.method,
        score_norm=choices.score_norm,
        target_fpr=choices.target_fpr,
        listening=listening,
    )
    tables = {"validation": table_of(stores["validation"][0], scores)}
    if catalogue.of("test"):
        scores = predict_songs(fusion, stores["test"], indexes).scores
        rows = result_rows(stores["test"][0].labels, scores, "test", seed=choices.seed)
        fusion = replace(fusion, results=(*fusion.results, *rows))
        tables["test"] = table_of(stores["test"][0], scores)
    verification = fit_verification(stores["train"], stores["validation"], listening)
    for split in SPLITS:
        if split not in tables:
            (run.predictions / f"{split}.npz").unlink(missing_ok=True)
    write_index(run.index_table, stores["train"], choices.index)
    carry_over(run.index_table, enrolled)
    held = {store.member: store.embeddings for store in stores["validation"]}
    read_indexes(run.index_table, held=held, say=tell)
    write_fusion(run.fusion, fusion)
    write_verification(run.verification, verification)
    for split, table in tables.items():
        write_table(run.predictions / f"{split}.npz", table)
    return fusion


def _index(store: Store, kind: str) -> MemberIndex:
    try:
        return index_of(store, kind)
    except ValueError as error:
        raise UserError(f"--index {kind}, member {store.member}: {error}") from None


def _heard(run: Run, member: str, listening: Listening) -> dict[str, str]:
    """What a member's stores must say of how its songs were heard."""
    config = read_json(run.member(member) / "config.json")["config"]
    return listening.made_from(config_from_dict(config))


def read_stores(
    run: Run, catalogue: Catalogue, members: Sequence[str], split: str, listening: Listening
) -> list[Store]:
    """The members' stores of a split, none if it has no songs; `UserError` if one does not fit."""
    if not catalogue.of(split):
        return []
    found = []
    for member in members:
        store = read_store(run.store(member, split))
        checkpoint, heard = file_fingerprint(run.weights(member)), _heard(run, member, listening)
        check_store(store, checkpoint, catalogue.fingerprint(), heard)
        found.append(store)
    return found


def open_fusion(run: Run, names: Sequence[str] | None) -> tuple[Fusion, dict[str, MemberIndex]]:
    """The fusion and the indexes of its members, or of those of them that are named.

    Raises `UserError` if there is no fusion, or a named member is not part of it.
    """
    fusion = read_fusion(run.fusion)
    missing = [name for name in names or () if name not in fusion.members]
    if missing:
        raise UserError(
            f"member {missing[0]} is not in the fusion, which has {', '.join(fusion.members)}; "
            "run again: python app.py fuse"
        )
    return fusion, read_indexes(run.index_table, list(dict.fromkeys(names or fusion.members)))


def list_files(folder: Path, option: str = "--test_dir") -> list[Path]:
    """All audio files below a folder, sorted; `UserError` if it is missing or has none."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}; {option} takes a folder of audio files")
    files = [folder / name for name in sorted(visible_files(folder))]
    audio = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        raise UserError(
            f"{folder} holds no audio file ({' '.join(AUDIO_SUFFIXES)}) among {len(files)} files"
        )
    return audio


@dataclass(frozen=True, eq=False)
class Answered:
    """What is said of all files."""

    answers: Answers
    voice: NDArray[np.float64]  # (songs,), share of voice of the member that found least
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
        voice.append(heard.min(axis=0))
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


def strangers(fusion: Fusion, answers: Answers) -> NDArray[np.bool_]:
    """Which songs (songs,) are of none of the singers.

    Raises `UserError` if the fusion has no threshold, for it was fitted on too few singers.
    """
    if fusion.unknown is None:
        raise UserError(
            "--unknown needs a threshold, which is fitted by leaving singers out: three or more "
            "must have validation songs; run again: python app.py fuse"
        )
    first = answers.scores[FUSED].argmax(axis=1)
    enrolled = first >= len(fusion.singers)
    return is_unknown(fusion.unknown, answers.confidence, enrolled, answers.preference)


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
    FORMATS[form](output, names, choices)
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
    return table
