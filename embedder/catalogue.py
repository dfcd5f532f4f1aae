"""The songs of a data folder, laid out as `<singer>/<album>/<song>.<ext>`, and `catalogue.csv`.

Nothing is decoded here; `embedder/data/prepare.py` brings songs, splits and audio together.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from embedder.artifact import fingerprint, write_text
from embedder.console import warn
from embedder.errors import UserError, one_line
from embedder.run import SPLITS, prepare_again
from embedder.text import composed, counted, name_problem, read_csv, to_csv

# Audio by its name: never passed over without a word, even if nothing can decode it. Where several
# files could be meant, an earlier one goes before a later one.
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".mp3", ".oga", ".opus", ".spx", ".wave", ".bwf", ".rf64", ".w64"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".m4a", ".m4b", ".m4p", ".mp4", ".aac"),
    *(".wma", ".webm", ".weba", ".mka", ".mp2", ".mpa", ".mpga", ".3gp", ".amr", ".ape", ".wv"),
    *(".tta", ".tak", ".mpc", ".ac3", ".dts", ".dsf", ".dff", ".ra", ".aax"),
)
# Audio by its first bytes, whatever its name. (where they stand, which they are, format)
SIGNATURES = (
    *((8, b"WAVE", "wav"), (0, b"fLaC", "flac"), (0, b"OggS", "ogg"), (0, b"ID3", "mp3")),
    *((8, b"AIFF", "aiff"), (8, b"AIFC", "aiff"), (0, b"caff", "caf"), (0, b".snd", "au")),
    *(
        (0, b"riff\x2e\x91\xcf\x11", "w64"),
        (4, b"ftyp", "mov"),
        (0, b"\x1a\x45\xdf\xa3", "matroska"),
    ),
    *((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"), (0, b"MAC ", "ape"), (0, b"wvpk", "wv")),
    *((0, b"TTA1", "tta"), (0, b"MPCK", "mpc"), (0, b"MP+", "mpc"), (0, b"#!AMR", "amr")),
)
PICTURES = (b"avi", b"hei", b"hev", b"mif", b"msf", b"crx")  # what else begins with "ftyp"
NO_FILES_OF_ANYBODY = ("thumbs.db", "desktop.ini", "__macosx")  # systems leave them everywhere
UNKNOWN = "unknown"  # what a prediction says first where the singer is none of those known
LAYOUT = "<singer>/<album>/<song>.<ext>"
MAX_SHOWN = 3  # how many examples an error message names


@dataclass(frozen=True)
class Song:
    """One recording. All texts but its path are in NFC; it has cache keys once it is decoded."""

    id: str  # posix path below the data folder, with suffix
    path: str  # absolute path of the source file, as on disk
    singer: str
    album: str
    title: str
    split: str = ""  # "train", "validation", "test", or "" where not yet split
    seconds: float = 0.0  # length of the decoded mixture
    audio: str = ""  # cache key of the decoded mixture
    vocals: str = ""  # cache key of the decoded vocal stem, "" if there is none
    backing: str = ""  # cache key of the decoded backing stem, "" if there is none

    @property
    def album_id(self) -> str:
        """`singer/album`: two singers may have albums of one name ("Greatest Hits")."""
        return f"{self.singer}/{self.album}"

    @property
    def file(self) -> str:
        """The id as it is spelled on disk, for other programs."""
        there = "/".join(Path(self.path).parts[-1 - self.id.count("/") :])
        return there if composed(there) == self.id else self.id


COLUMNS = tuple(field.name for field in fields(Song))


@dataclass(frozen=True)
class Catalogue:
    """All songs of a run, sorted by id, each in one split."""

    songs: tuple[Song, ...]

    @property
    def singers(self) -> tuple[str, ...]:
        """Singers in label order: sorted by code point."""
        return tuple(sorted({song.singer for song in self.songs}))

    @property
    def has_stems(self) -> bool:
        """Whether every song has a vocal stem."""
        return all(song.vocals for song in self.songs)

    def of(self, split: str) -> tuple[Song, ...]:
        """The songs of "train", "validation" or "test"; `ValueError` for another name."""
        if split not in SPLITS:
            raise ValueError(f"there is no split {split!r}; splits are {', '.join(SPLITS)}")
        return tuple(song for song in self.songs if song.split == split)

    def labels(self, songs: Iterable[Song]) -> list[int]:
        """The numbers of the songs' singers, in label order."""
        number = {singer: label for label, singer in enumerate(self.singers)}
        return [number[song.singer] for song in songs]

    def with_both_stems(self, split: str) -> tuple[Song, ...]:
        """The songs of a split that have vocals and backing."""
        return tuple(song for song in self.of(split) if song.vocals and song.backing)

    def fingerprint(self) -> str:
        """16 hexadecimal digits over each song's id, split and audio, its singer and its album.

        Stems are apart, in `stems_fingerprint`: not everything is made from them.
        """
        rows = sorted((_labelled(song), song.split, song.audio) for song in self.songs)
        return fingerprint(*self.singers, "", *(part for row in rows for part in row))


def stems_fingerprint(songs: Iterable[Song], *stems: str) -> str:
    """16 hexadecimal digits over the named stems, "vocals" and "backing", of songs.

    Empty where no song has any of them.
    """
    rows = sorted((song.id, *(getattr(song, stem) for stem in stems)) for song in songs)
    if not any(key for row in rows for key in row[1:]):
        return ""
    return fingerprint(*stems, *(part for row in rows for part in row))


def _labelled(song: Song) -> str:
    """The song's id, with singer and album where a list names others than its path does."""
    if song.id.startswith(f"{song.album_id}/"):
        return song.id
    return f"{song.id}\n{song.album_id}"


def scan(data_dir: Path) -> tuple[Song, ...]:
    """The songs below `data_dir`, sorted by id, without a split.

    Hidden files and files that are no audio are passed over, and so are, with a warning, those
    elsewhere in the folder that are audio by their content alone. Raises `UserError` if the folder
    is missing or holds no audio, if an audio file lies at any other depth than singer/album/song,
    or if the names of two differ in Unicode form only.
    """
    root = data_folder(data_dir)
    files = sorted(visible_files(root))
    audio = [rel for rel in files if is_audio(root / rel)]
    if not audio:
        raise UserError(
            f"no songs in {data_dir}: found {_what_is_there(files)}, looked for audio files as "
            f"{LAYOUT}"
        )
    stray = [rel for rel in audio if rel.count("/") != 2 and not is_audio_named(rel)]
    if stray and len(stray) < len(audio):  # a film beside the albums, say
        warn(
            f"{counted(len(stray), 'file')} that lie elsewhere than {LAYOUT} are passed over: "
            f"{stray[0]}"
        )
        audio = [rel for rel in audio if rel not in stray]
    _check_depth(data_dir, audio)
    songs: dict[str, Song] = {}
    for song in (song_at(root, root / rel) for rel in audio):
        if song.id in songs:
            both = f"{songs[song.id].path!a} and {song.path!a}"
            raise UserError(f"{both} differ in Unicode form only; rename or remove one of them")
        songs[song.id] = song
    return tuple(sorted(songs.values(), key=lambda song: song.id))


def is_audio(file: Path) -> bool:
    """Whether a file is audio by its name or, whatever its name, by its first bytes."""
    if is_audio_named(file.name):
        return True
    try:
        if not file.is_file():  # a pipe would wait
            return False
        with file.open("rb") as opened:
            return bool(audio_format(opened))
    except OSError:
        return False


def is_audio_named(name: str) -> bool:
    """Whether a file is audio by its name."""
    return name.lower().endswith(AUDIO_SUFFIXES)


def without_audio_suffix(name: str) -> str:
    """A posix path without the suffix of an audio file; all of it where it has none."""
    return str(PurePosixPath(name).with_suffix("")) if is_audio_named(name) else name


def audio_format(file: BinaryIO) -> str:
    """The format of audio that a file begins with, "" where that is none; nothing is decoded."""
    head = file.read(16)
    for place, letters, form in SIGNATURES:
        if head[place : place + len(letters)] == letters:
            return "" if form == "mov" and head[8:11] in PICTURES else form
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # MPEG's frames have no name
        version, layer, bits, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2
        if layer in (1, 2) and version != 1 and bits not in (0, 15) and rate & 3 != 3:
            return "mp3"
        if layer == 0 and version & 2 and head[2] >> 2 & 15 < 13:
            return "aac"
    return ""


def of_the_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that systems leave by themselves."""
    return name.startswith(".") or name.lower() in NO_FILES_OF_ANYBODY


def data_folder(folder: Path) -> Path:
    """The folder's absolute path; `UserError` if it is missing or a file."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}; give a folder laid out as {LAYOUT}")
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder.resolve())):
        raise UserError(f"the path {str(folder)!a} is not UTF-8; rename the folder")
    return folder.resolve()


def visible_files(
    root: Path, below: str = "", above: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Posix paths below `root` of all files but hidden ones, in no order worth relying on.

    Links are followed, but never in a circle. Raises `UserError` for a folder that may not be read.
    """
    real = os.path.realpath(root)
    if real in above:
        return
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise UserError(f"cannot look into {root}: {error.strerror}") from None
    for entry in entries:
        if of_the_system(entry.name):
            continue
        relative = f"{below}{entry.name}"
        if entry.is_dir():
            yield from visible_files(entry, f"{relative}/", above | {real})
        else:
            yield relative


def _check_depth(data_dir: Path, audio: list[str]) -> None:
    """Raise `UserError` unless every path has three parts; say which folder would fit instead."""
    wrong = [rel for rel in audio if rel.count("/") != 2]
    if not wrong:
        return
    depths = {rel.count("/") for rel in audio}
    advice = "move or rename what does not belong there"
    if len(depths) == 1 and min(depths) > 2:
        starts = sorted({rel.rsplit("/", 3)[0] for rel in audio})
        if len(starts) <= MAX_SHOWN:
            advice = f"did you mean {' or '.join(str(data_dir / start) for start in starts)}?"
        else:
            advice = f"the songs would fit below {len(starts)} sub-folders such as {starts[0]}"
    elif len(depths) == 1:
        fits = data_dir.resolve().parents[1 - min(depths)]
        advice = f"did you mean the folder above, {fits}?"
    first = wrong[0]
    levels = first.count("/")
    deep = "no folder" if levels == 0 else f"{levels} folder{'s'[: levels != 1]}"
    raise UserError(
        f"{data_dir} is not laid out as {LAYOUT}: {first} lies {deep} deep instead of 2 "
        f"({len(wrong)} of {len(audio)} songs are like that); {advice}"
    )


def _what_is_there(files: list[str]) -> str:
    kinds = Counter(Path(file).suffix.lower() or "without suffix" for file in files)
    if not kinds:
        return "no file"
    return ", ".join(
        f"{n} {'file' if n == 1 else 'files'} {kind}" for kind, n in sorted(kinds.items())
    )


def song_at(root: Path, file: Path, split: str = "", singer: str = "", title: str = "") -> Song:
    """A song from its place on disk; `singer` and `title`, if given, go before the path's names.

    Raises `UserError` for a name that no list could hold (line breaks, not UTF-8).
    """
    try:
        name = file.relative_to(root).as_posix()
    except ValueError:  # a list may name files outside the data folder
        name = "/".join(file.parts[-3:])
    if problem := next(filter(None, map(name_problem, name.split("/"))), ""):
        raise UserError(f"the file name {name!a} {problem}; rename it")
    if singer and (problem := name_problem(singer)):
        raise UserError(f"the singer's name {singer!a} of {name} {problem}; write another one")
    folder = file.parent
    singer, title = composed(singer or folder.parent.name), one_line(title or file.stem)
    return Song(composed(name), str(file), singer, composed(folder.name), composed(title), split)


def write_catalogue(path: Path, catalogue: Catalogue) -> None:
    """Write `catalogue.csv`: a header, then one line a song in the catalogue's order."""
    rows = ([getattr(song, column) for column in COLUMNS] for song in catalogue.songs)
    write_text(path, to_csv([COLUMNS, *rows]))


def read_catalogue(path: Path) -> Catalogue:
    """Read what `write_catalogue` wrote; raise `UserError` naming file and line otherwise."""
    again = prepare_again("run again")
    try:
        lines = read_csv(path)
    except UserError as error:
        raise UserError(f"{error}; {again}") from None
    if not lines or tuple(lines[0][1]) != COLUMNS:
        raise UserError(f"{path} is no catalogue (header must be {','.join(COLUMNS)}); {again}")
    songs: dict[str, Song] = {}
    for number, cells in lines[1:]:
        where = f"{path}, line {number}"
        if len(cells) != len(COLUMNS):
            raise UserError(
                f"{where}: {counted(len(cells), 'cell')} instead of {len(COLUMNS)}; {again}"
            )
        row = dict(zip(COLUMNS, cells, strict=True))
        try:
            seconds = float(row.pop("seconds"))
        except ValueError:
            raise UserError(f"{where}: seconds is no number; {again}") from None
        song = Song(**row, seconds=seconds)
        if song.split not in SPLITS:
            raise UserError(
                f"{where}: split '{song.split}' is none of {', '.join(SPLITS)}; {again}"
            )
        if song.id in songs:
            raise UserError(f"{where}: song {song.id} stands there twice; {again}")
        songs[song.id] = song
    return Catalogue(tuple(songs.values()))
