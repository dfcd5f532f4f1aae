"""The course's lists of songs: which file belongs to which split.

Enters: `train`, `validation` (or `val`) and `test` lists, as `.txt` with lines
`Audio_path,singer_name,song_title`, or as `.json` with a list of paths. Leaves: songs with splits.
The same `.txt` format is written.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from embedder.artifact import read_json, write_text
from embedder.catalogue import Song, data_folder, song_at
from embedder.errors import UserError
from embedder.run import SPLITS
from embedder.text import files_alike, plain, read_text, to_csv

LIST_NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
HEADER = ("audio_path", "path", "file", "filename")  # first word of a list's optional header line
SHOWN = 3  # how many examples an error message names


def read_lists(data_dir: Path, lists_dir: Path | None = None) -> tuple[Song, ...]:
    """Songs with their splits from the course's lists, sorted by id.

    Read are `train`, `validation` (or `val`) and, where there is one, `test`: either `.txt` with
    lines `Audio_path,singer_name,song_title` (header optional), or `.json` with a list of paths.
    The lists are looked for in `lists_dir`, else in the data folder, else in the folder above it.
    A path counts from the data folder or the list's folder; leading folders that are not there are
    dropped. Album and, where no line names it, singer are the last two folders of the path.
    Raises `UserError` for missing lists, lines that cannot be read, and files that are not there.
    """
    root = data_folder(data_dir)
    folders = [data_folder(lists_dir)] if lists_dir else [root, root.parent]
    folder = next((f for f in folders if _list_file(f, "train")), folders[0])
    songs: list[Song] = []
    for split in SPLITS:
        file = _list_file(folder, split)
        if file is None and split != "test":
            names = " or ".join(f"{n}.txt, {n}.json" for n in LIST_NAMES[split])
            raise UserError(f"no list of {split} songs in {folder}: there must be {names}")
        if file is not None:
            songs += _read_list(root, file, split)
    return tuple(sorted(songs, key=lambda song: (song.id, SPLITS.index(song.split))))


def _list_file(folder: Path, split: str) -> Path | None:
    files = [folder / f"{name}{end}" for name in LIST_NAMES[split] for end in (".txt", ".json")]
    found = [file for file in files if file.is_file()]
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1].name} are both there; keep one {split} list")
    return found[0] if found else None


def _read_list(root: Path, file: Path, split: str) -> list[Song]:
    rows = _json_rows(file) if file.suffix == ".json" else _text_rows(file)
    songs: dict[str, Song] = {}
    missing: list[str] = []
    for line, (name, singer, title) in rows:
        found = _find(root, file.parent, name)
        if found is None:
            missing.append(name)
            continue
        try:
            song = song_at(root, found, split, singer, title)
        except UserError as error:
            raise UserError(f"{file}, entry {line}: {error}") from None
        if song.id in songs:
            raise UserError(f"{file}, entry {line}: {song.id} stands there a second time")
        songs[song.id] = song
    if missing:
        examples = ", ".join(missing[:SHOWN])
        raise UserError(
            f"{file} lists {len(missing)} files that are not below {root}, such as: {examples}"
        )
    if not songs:
        raise UserError(f"{file} lists no song")
    return list(songs.values())


def _text_rows(file: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """(line number, (path, singer, title)) for each line that is neither empty nor a header."""
    # Not str.splitlines: a title may hold what Unicode calls a line separator.
    for number, text in enumerate(io.StringIO(read_text(file), newline=None), 1):
        line = text.removesuffix("\n")
        cells = next(csv.reader([line], skipinitialspace=True), [])
        if len(cells) > 3:  # a comma in the title, not quoted
            cells[2:] = [",".join(next(csv.reader([line]))[2:])]
        cells = [plain(cell.strip()) for cell in cells]
        if not any(cells) or (number == 1 and cells[0].lower().replace(" ", "_") in HEADER):
            continue
        if len(cells) < 3 or not cells[0]:
            raise UserError(
                f"{file}, line {number}: expected Audio_path,singer_name,song_title, found '{line}'"
            )
        yield number, (cells[0], cells[1], cells[2])


def _json_rows(file: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    entries = read_json(file)
    if not isinstance(entries, list) or not all(isinstance(e, str) and e for e in entries):
        raise UserError(f"{file} must hold a JSON list of paths")
    for number, entry in enumerate(entries, 1):
        yield number, (entry, "", "")


def _find(root: Path, beside: Path, name: str) -> Path | None:
    """The file a list means: from either folder, dropping leading folders until one is there.

    Singer, album and song are never dropped: a file of the same name elsewhere is another song.
    """
    for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
        path = Path(spelled)
        if path.is_absolute() and path.is_file():
            return Path(os.path.normpath(path))
        parts = [part for part in path.parts if part != path.anchor]
        for first in range(max(1, len(parts) - 2)):
            for folder in (root, beside):
                for found in files_alike(folder, "/".join(parts[first:])):
                    return Path(os.path.normpath(found))
    return None


def write_list(path: Path, songs: Iterable[Song]) -> None:
    """Write a list in the course's format: `Audio_path,singer_name,song_title`, no header.

    Paths count from the data folder, as they are on disk; a cell that holds a comma is quoted.
    """
    write_text(path, to_csv([song.file, song.singer, song.title] for song in songs))
