"""The ensemble over a run folder: stores become a fusion, files to predict become answers.

Enters: members' stores on disk, and stores of new files a few at a time. Leaves: `fusion/`,
`predictions/`, a prediction file with its full table. Embedding itself is handed in: no torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts import SPLITS, Run, file_fingerprint, read_json
from embedder.catalogue import AUDIO_SUFFIXES, Catalogue, visible_files
from embedder.errors import UserError
from embedder.listening import Listening
from embedder.settings import config_from_dict
from embedder.store import Store, check_store, read_store
from ensemble.fuse import FUSED, Scores, fit_fusion, predict_songs, result_rows
from ensemble.fusion import AS_TRAINED, Fusion, read_fusion, write_fusion
from ensemble.knn import NeighbourIndex, read_index, write_index
from ensemble.predictions import FORMATS, Table, table_of, top_singers, write_table


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


def fuse_run(
    run: Run,
    catalogue: Catalogue,
    members: Sequence[str],
    aggregate: str,
    seed: int,
    listening: Listening = AS_TRAINED,
) -> Fusion:
    """Fit the fusion of the members' stores and write index, fusion and predictions.

    Validation numbers are cross-fitted by album; where the catalogue has test songs, the fusion
    fitted on all validation songs answers them and has its own rows.

    Raises:
        UserError: a store is missing, or does not fit its checkpoint, the catalogue or the others.
    """
    stores = {split: _stores(run, catalogue, members, split, listening) for split in SPLITS}
    fusion, indexes, scores = fit_fusion(
        stores["train"], stores["validation"], aggregate, seed, listening=listening
    )
    tables = {"validation": table_of(stores["validation"][0], scores)}
    if catalogue.of("test"):
        scores = predict_songs(fusion, stores["test"], indexes)
        rows = result_rows(stores["test"][0].labels, scores, "test", seed=seed)
        fusion = replace(fusion, results=(*fusion.results, *rows))
        tables["test"] = table_of(stores["test"][0], scores)
    for split in SPLITS:
        if split not in tables:
            (run.predictions / f"{split}.npz").unlink(missing_ok=True)
    for member, index in indexes.items():
        write_index(run.index(member), index)
    write_fusion(run.fusion, fusion)
    for split, table in tables.items():
        write_table(run.predictions / f"{split}.npz", table)
    return fusion


def _heard(run: Run, member: str, listening: Listening) -> dict[str, str]:
    """What a member's stores must say of how its songs were heard."""
    config = read_json(run.member(member) / "config.json")["config"]
    return listening.made_from(config_from_dict(config))


def _stores(
    run: Run, catalogue: Catalogue, members: Sequence[str], split: str, listening: Listening
) -> list[Store]:
    if not catalogue.of(split):
        return []
    found = []
    for member in members:
        store = read_store(run.store(member, split))
        checkpoint, heard = file_fingerprint(run.weights(member)), _heard(run, member, listening)
        check_store(store, checkpoint, catalogue.fingerprint(), heard)
        found.append(store)
    return found


def open_fusion(run: Run, names: Sequence[str] | None) -> tuple[Fusion, dict[str, NeighbourIndex]]:
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
    chosen = list(dict.fromkeys(names or fusion.members))
    return fusion, {name: read_index(run.index(name)) for name in chosen}


def list_files(folder: Path) -> list[Path]:
    """All audio files below a folder, sorted; `UserError` if it is missing or has none."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}; --test_dir takes a folder of audio files")
    files = [folder / name for name in sorted(visible_files(folder))]
    audio = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        raise UserError(
            f"{folder} holds no audio file ({' '.join(AUDIO_SUFFIXES)}) among {len(files)} files"
        )
    return audio


def answer(
    fusion: Fusion, indexes: Mapping[str, NeighbourIndex], batches: Iterable[Sequence[Store]]
) -> tuple[Scores, NDArray[np.float64]]:
    """What every expert and "fused" say of all batches' songs, and how much voice they heard.

    Log-probabilities (songs, singers), and the share of voice (songs,) of the member that found
    least: 0 where a member found none and heard all segments alike.
    """
    parts, voice = [], []
    for stores in batches:
        parts.append(predict_songs(fusion, stores, indexes))
        voice.append(np.min([store.voice() for store in stores], axis=0))
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return scores, np.concatenate(voice)


def write_prediction(
    output: Path,
    form: str,
    names: Sequence[str],
    singers: Sequence[str],
    scores: Scores,
    voice: NDArray[np.float64] | None = None,
) -> Path:
    """Write the prediction in the course's csv or json; return the full table's npz beside it."""
    FORMATS[form](output, names, top_singers(scores[FUSED], singers))
    table = output.with_suffix(".npz")
    unknown = np.full(len(names), -1, dtype=np.int64)
    experts: dict[str, NDArray[np.floating]] = {n: s for n, s in scores.items() if n != FUSED}
    blank = ("",) * len(names)
    write_table(
        table,
        Table(tuple(names), tuple(singers), scores[FUSED], unknown, blank, experts, voice),
    )
    return table
