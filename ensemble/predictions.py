"""From log-probabilities to the files a user reads: the course's csv and json, the full table.

Input: paths of the predicted files and log-probabilities (songs, singers). Output: IDs, each
song's best singers, `prediction.csv` or `.json`, and a `Table` of all probabilities as npz. The
same predictions give the same bytes, in whatever order they come.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import check_header, read_arrays, reading, replacing, write_json, write_text
from embedder.catalogue import is_audio, visible_files, without_audio_suffix
from embedder.errors import Command, UserError
from embedder.inference.store import Store
from embedder.metrics import ranking
from embedder.text import composed, counted, to_csv
from ensemble.fusion.experts import FUSED

TABLE, TABLE_FORMAT = "table of predictions", 1
AGAIN = Command("fuse", before="write it again with predict, or")
PLACES = 3  # singers named for each song, fewer where fewer are known

Choices = Sequence[Sequence[str]]  # for each song its singers, best first


@dataclass(frozen=True, eq=False)
class Table:
    """All probabilities of the songs of one split or one folder."""

    ids: tuple[str, ...]  # song ids of a split, or prediction IDs
    singers: tuple[str, ...]  # label order
    log_probabilities: NDArray[np.floating[Any]]  # (songs, singers), fused; float32 on disk
    truth: NDArray[np.int64]  # (songs,), index into singers, -1 where unknown
    albums: tuple[str, ...]  # "singer/album", "" where unknown
    experts: dict[str, NDArray[np.floating[Any]]] = field(default_factory=dict)  # as the fused
    voice: NDArray[np.floating[Any]] | None = None  # (songs,), share of voice, where it is known
    confidence: NDArray[np.floating[Any]] | None = None  # (songs,), 0 to 1; low: unknown singer

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.singers))
        for name, logs in {"fused": self.log_probabilities, **self.experts}.items():
            if logs.shape != shape:
                raise ValueError(f"log-probabilities of {name} are {logs.shape}, not {shape}")
        for key, values in (("voice", self.voice), ("confidence", self.confidence)):
            if values is not None and values.shape != shape[:1]:
                raise ValueError(f"{key} is {values.shape}, not {shape[:1]}")
        if self.truth.shape != shape[:1] or len(self.albums) != len(self.ids):
            raise ValueError(f"truth or albums are not of {len(self.ids)} songs")
        if len(self.truth) and not -1 <= self.truth.min() <= self.truth.max() < shape[1]:
            raise ValueError(f"truth must lie in -1..{shape[1] - 1}")


def normal_id(name: str) -> str:
    """A name in NFC; one of ASCII digits alone loses its leading zeros (`0001` → `1`)."""
    return name.lstrip("0") or "0" if re.fullmatch(r"[0-9]+", name) else composed(name)


def id_order(name: str) -> tuple[int, int, str]:
    """Sort key of IDs: numbers ascending, then names by code point."""
    ident = normal_id(name)
    return (0, int(ident), "") if re.fullmatch(r"[0-9]+", ident) else (1, 0, ident)


def list_files(folder: Path, option: str = "--test_dir") -> list[Path]:
    """All audio files below a folder, sorted; `UserError` if it is missing or has none."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}; {option} takes a folder of audio files")
    files = [folder / name for name in sorted(visible_files(folder))]
    audio = [file for file in files if is_audio(file)]
    if not audio:
        raise UserError(f"{folder} holds no audio file among {counted(len(files), 'file')}")
    return audio


def prediction_names(paths: Sequence[Path], root: Path) -> list[str]:
    """Each file's posix path below `root` without suffix, in the order given.

    Raises `UserError` if files would have one ID, naming all of them, or if a name is no valid
    text.
    """
    names = [without_audio_suffix(path.relative_to(root).as_posix()) for path in paths]
    sharing: dict[str, list[Path]] = defaultdict(list)
    for path, name in zip(paths, names, strict=True):
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(f"the name of {str(path)!a} is not valid text; rename the file")
        sharing[normal_id(name)].append(path)  # two forms of one name are one ID
    if equal := {name: files for name, files in sharing.items() if len(files) > 1}:
        each = "; ".join(_equal(name, files) for name, files in equal.items())
        raise UserError(f"{each}; rename all but one of each")
    return names


def _equal(name: str, files: Sequence[Path]) -> str:
    """A line on files that would have one ID, which tells them apart."""
    looks_alike = len({composed(str(path)) for path in files}) < len(files)
    said = " and ".join(f"{str(path)!a}" if looks_alike else str(path) for path in files)
    form = " (one name in two Unicode forms, NFC and NFD)" if looks_alike else ""
    return f"{said} would {'both' if len(files) == 2 else 'all'} have the ID {name}{form}"


def top_singers(
    log_probabilities: NDArray[np.floating[Any]], singers: Sequence[str], places: int = PLACES
) -> list[tuple[str, ...]]:
    """For each song its `places` best singers (fewer where fewer are known), best first.

    Equal probabilities keep the order of the labels.
    """
    best = ranking(log_probabilities)[:, :places]
    return [tuple(singers[label] for label in row) for row in best]


def csv_text(names: Sequence[str], choices: Choices) -> str:
    """Lines `ID,No.1,No.2,No.3` without a header, by ascending ID."""
    return to_csv([normal_id(name), *row] for name, row in _ordered(names, choices))


def write_csv(path: Path, names: Sequence[str], choices: Choices) -> None:
    """Write `csv_text`, atomically."""
    write_text(path, csv_text(names, choices))


def write_json_predictions(path: Path, names: Sequence[str], choices: Choices) -> None:
    """Write `{"0001": ["a", "b", "c"], …}`, keyed by the names as they are, by ascending ID."""
    write_json(path, {name: list(row) for name, row in _ordered(names, choices)})


def write_skipped(output: Path, skipped: Mapping[str, str]) -> Path | None:
    """Write `<output>.skipped.csv`: each file left out and why; take an old one away if none is."""
    path = output.with_name(f"{output.name}.skipped.csv")
    if not skipped:
        path.unlink(missing_ok=True)
        return None
    write_text(path, to_csv(sorted(skipped.items())))
    return path


FORMATS: dict[str, Callable[[Path, Sequence[str], Choices], None]] = {
    "csv": write_csv,
    "json": write_json_predictions,
}


def table_of(
    store: Store,
    scores: Mapping[str, NDArray[np.floating[Any]]],
    ids: Sequence[str] | None = None,
) -> Table:
    """The table of a store's songs, from log-probabilities of each expert and of "fused".

    `ids` are prediction IDs in the order of the store's songs; without them its song ids stand.
    """
    experts = {name: logs for name, logs in scores.items() if name != FUSED}
    names = store.song_ids if ids is None else tuple(ids)
    voice = store.voice() if store.made_from.get("activity", "none") != "none" else None
    return Table(names, store.singers, scores[FUSED], store.labels, store.albums, experts, voice)


def write_table(path: Path, table: Table) -> None:
    """Write an npz by ascending ID, atomically. It is read by numpy alone, without pickle.

    Keys: `format`, `ids`, `singers`, `log_probabilities` (songs, singers), `truth`, `albums`,
    `experts` (names) and `expert_log_probabilities` (experts, songs, singers); `voice` (songs,)
    where it is known, 0 for a song in which no voice was found; `confidence` (songs,) of files to
    predict. An expert's NaN: it had no part in that song; −inf: it cannot name that singer.
    """
    order = sorted(range(len(table.ids)), key=lambda song: id_order(table.ids[song]))
    shape = (len(order), len(table.singers))
    experts = [logs[order] for logs in table.experts.values()]
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array(TABLE_FORMAT),
        "ids": _texts([table.ids[song] for song in order]),
        "singers": _texts(table.singers),
        "log_probabilities": table.log_probabilities[order].astype(np.float32),
        "truth": table.truth[order].astype(np.int64),
        "albums": _texts([table.albums[song] for song in order]),
        "experts": _texts(tuple(table.experts)),
        "expert_log_probabilities": np.array(experts, np.float32).reshape(len(experts), *shape),
    }
    for key, values in (("voice", table.voice), ("confidence", table.confidence)):
        if values is not None:
            arrays[key] = values[order].astype(np.float32)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_table(path: Path) -> Table:
    """Read what `write_table` wrote; raise `UserError` naming the file if it cannot be used."""
    with reading(path, TABLE, AGAIN):
        arrays = read_arrays(path)
        version = int(arrays["format"])
    check_header({"format": version}, path, TABLE, TABLE_FORMAT, AGAIN)
    with reading(path, TABLE, AGAIN):
        names = [str(name) for name in arrays["experts"]]
        return Table(
            ids=tuple(str(song) for song in arrays["ids"]),
            singers=tuple(str(singer) for singer in arrays["singers"]),
            log_probabilities=arrays["log_probabilities"],
            truth=arrays["truth"],
            albums=tuple(str(album) for album in arrays["albums"]),
            experts=dict(zip(names, arrays["expert_log_probabilities"], strict=True)),
            voice=arrays.get("voice"),
            confidence=arrays.get("confidence"),
        )


def _ordered(names: Sequence[str], choices: Choices) -> list[tuple[str, Sequence[str]]]:
    pairs = zip(names, choices, strict=True)
    return sorted(pairs, key=lambda pair: id_order(pair[0]))


def _texts(values: Sequence[str]) -> NDArray[np.str_]:
    return np.array(values, dtype=np.str_) if values else np.zeros(0, dtype="<U1")


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
            said.append("no voice was found: the whole recording is used")
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
