"""Which song is for training, validation or test: by a rule, or by the course's lists.

A list is a `.txt` with lines `Audio_path,singer_name,song_title`, or a `.json` list of paths.
"""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from embedder.artifact import fingerprint, read_json, write_text
from embedder.catalogue import Song, data_folder, song_at
from embedder.errors import UserError, did_you_mean
from embedder.run import SPLITS
from embedder.text import counted, files_alike, plain, read_text, spelled_alike, to_csv

MAX_SHOWN = 3  # how many examples a message names
SONGS_NEEDED = 3  # of each singer by the rule "song"
LIST_NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
HEADER = ("audio_path", "path", "file", "filename")  # first word of a list's optional header line
Songs = tuple[Song, ...]


def split_songs(songs: Sequence[Song], rule: str, seed: int = 0) -> Songs:
    """Give each song its split by a rule of `SPLITTERS`, keeping the order of the songs.

    Raises `UserError` for an unknown rule, for fewer than two singers, for a singer with too few
    albums or songs for the rule, and where training or validation would be empty.
    """
    if rule not in SPLITTERS:
        raise UserError(
            f"--split {rule}{did_you_mean(rule, SPLITTERS)} is unknown; "
            f"choose from {', '.join(SPLITTERS)}"
        )
    singers = {song.singer for song in songs}
    if len(singers) < 2:
        found = f"only '{min(singers)}'" if singers else "none"
        raise UserError(
            f"at least two singers are needed to tell them apart; found {found}",
            "give each singer a folder of its own",
        )
    divided = SPLITTERS[rule](songs, seed)
    counts = {split: sum(song.split == split for song in divided) for split in SPLITS}
    for split in ("train", "validation"):
        if not counts[split]:
            raise UserError(f"--split {rule} leaves no song for {split}")
    return divided


def _course(songs: Sequence[Song], seed: int) -> Songs:
    """The course's rule: a singer's alphabetically last album validates, all others train.

    Upper and lower case count as the same letter. `seed` is not used: nothing is drawn.
    """
    del seed
    last: dict[str, str] = {}
    for singer, albums in _albums(songs).items():
        if len(albums) < 2:
            enough = sum(song.singer == singer for song in songs) >= SONGS_NEEDED
            raise UserError(
                f"--split course keeps each singer's last album for validation, but {singer} has "
                f"only '{albums[0]}'",
                "choose --split song, or add an album" if enough else "add an album",
            )
        last[singer] = max(albums, key=lambda album: (album.casefold(), album))
    return _with_splits(
        songs, ["validation" if s.album == last[s.singer] else "train" for s in songs]
    )


def _album(songs: Sequence[Song], seed: int) -> Songs:
    """One album of each singer tests, one validates, the rest trains (six albums: 4/1/1)."""
    chosen: dict[str, str] = {}
    for singer, albums in _albums(songs).items():
        if len(albums) < 3:
            raise UserError(
                f"--split album needs three albums of each singer, but {singer} has "
                f"{len(albums)}: {', '.join(albums)}",
                "choose --split course or --split song",
            )
        order = _generator(seed, "album", singer).permutation(len(albums))
        for place, album in enumerate(order):
            split = ("test", "validation")[place] if place < 2 else "train"
            chosen[f"{singer}/{albums[album]}"] = split
    return _with_splits(songs, [chosen[song.album_id] for song in songs])


def _song(songs: Sequence[Song], seed: int) -> Songs:
    """A tenth of each singer's songs tests, a tenth validates (at least one), the rest trains."""
    chosen: dict[str, str] = {}
    for singer, ids in _grouped(songs, lambda song: song.id).items():
        if len(ids) < SONGS_NEEDED:
            raise UserError(
                f"--split song needs three songs of each singer, but {singer} has {len(ids)}",
                "add songs, or leave the singer out",
            )
        tenth = max(1, round(len(ids) / 10))
        order = _generator(seed, "song", singer).permutation(len(ids))
        for place, index in enumerate(order):
            split = SPLITS[2 - min(place // tenth, 2)]  # test, validation, then train
            chosen[ids[index]] = split
    return _with_splits(songs, [chosen[song.id] for song in songs])


def _files(songs: Sequence[Song], seed: int) -> Songs:
    """The splits that the list files gave. `seed` is not used: nothing is drawn."""
    del seed
    for song in songs:
        if song.split not in SPLITS:
            raise UserError(f"--split files needs lists that name {song.id}; none does")
    return tuple(songs)


SPLITTERS: dict[str, Callable[[Sequence[Song], int], Songs]] = {
    "course": _course,
    "album": _album,
    "song": _song,
    "files": _files,
}


def _albums(songs: Sequence[Song]) -> dict[str, list[str]]:
    return _grouped(songs, lambda song: song.album)


def _grouped(songs: Sequence[Song], name: Callable[[Song], str]) -> dict[str, list[str]]:
    """singer → that singer's names, each once, sorted."""
    found: dict[str, set[str]] = defaultdict(set)
    for song in songs:
        found[song.singer].add(name(song))
    return {singer: sorted(names) for singer, names in sorted(found.items())}


def _generator(seed: int, rule: str, singer: str) -> np.random.Generator:
    """Drawn for each singer apart, so that one more singer leaves the others' splits alone."""
    return np.random.default_rng([seed, int(fingerprint(rule, singer), 16)])


def _with_splits(songs: Sequence[Song], splits: Sequence[str]) -> Songs:
    return tuple(replace(song, split=split) for song, split in zip(songs, splits, strict=True))


def check_leakage(
    songs: Sequence[Song], rule: str, *, allow_same_audio: bool = False
) -> tuple[str, ...]:
    """Refuse splits that share what they must not; return the ids of albums that cross splits.

    A song (same id, or same audio file unless `allow_same_audio`) may stand in one split only; so
    may an album, under the rules "course" and "album". Each singer of validation and test must be
    in train. Under "song" and "files" an album may cross splits: it is returned, for the report.
    Raises `UserError` that says what crosses, and between which splits.
    """
    if rule not in SPLITTERS:
        raise UserError(
            f"--split {rule}{did_you_mean(rule, SPLITTERS)} is unknown; "
            f"choose from {', '.join(SPLITTERS)}"
        )
    _refuse("song", _crossing(songs, lambda song: song.id))
    if not allow_same_audio:
        _refuse("recording", _crossing(songs, lambda song: song.audio))
    albums = _crossing(songs, lambda song: song.album_id)
    if rule in ("course", "album"):
        _refuse("album", albums)
    trained = {song.singer for song in songs if song.split == "train"}
    for song in songs:
        if song.singer not in trained:
            alike = [g for g in spelled_alike([song.singer, *trained]) if song.singer in g]
            raise UserError(
                f"singer '{song.singer}' is in {song.split} ({song.id}) but has no song in train",
                f"the same but for case, form or spaces: {', '.join(alike[0])}" if alike else "",
            )
    return tuple(sorted(albums))


def _crossing(songs: Sequence[Song], name: Callable[[Song], str]) -> dict[str, list[Song]]:
    """name → its songs, for the names found in more than one split. An empty name is none."""
    found: dict[str, list[Song]] = defaultdict(list)
    for song in songs:
        if name(song):
            found[name(song)].append(song)
    return {key: group for key, group in found.items() if len({song.split for song in group}) > 1}


def _refuse(what: str, crossing: dict[str, list[Song]]) -> None:
    if not crossing:
        return
    examples = []
    for key, group in sorted(crossing.items())[:MAX_SHOWN]:
        first = {song.split: song.id for song in reversed(group)}
        places = ", ".join(f"{split} ({first[split]})" for split in SPLITS if split in first)
        examples.append(places if what == "recording" else f"{key} is in {places}")
    raise UserError(
        f"leakage: {len(crossing)} {what}{'s'[: len(crossing) != 1]} in more than one split: "
        f"{'; '.join(examples)}"
    )


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
        examples = ", ".join(missing[:MAX_SHOWN])
        raise UserError(
            f"{file} lists {counted(len(missing), 'file')} that are not below {root}, such as: "
            f"{examples}"
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
