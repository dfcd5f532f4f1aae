"""Stems as demucs and spleeter write them: a folder for each track, a file for each stem.

Enters: a folder such as `separated/htdemucs/<track>/vocals.wav`, and the songs' paths. Leaves: the
files of each song's vocals and of its backing, which are to be summed where there are several.

A track's folder lies right below the given one, or under the song's own folders
(`<singer>/<album>/<track>`), or else either of them below one folder with the model's name. What
could belong to two songs is refused: titles recur from album to album.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from embedder.catalogue import AUDIO_SUFFIXES, visible_files
from embedder.errors import UserError
from embedder.text import composed

VOCALS = "vocals"
REST = ("no_vocals", "accompaniment")  # all but the vocals in one file: demucs's name, spleeter's
# All but the vocals in several files: the usual ones, and those that only some models divide off.
PARTS = ("bass", "drums", "other")
MORE_PARTS = ("guitar", "piano")

Folder = tuple[str, ...]  # names of the folders below the given one, in NFC as song ids are
StemFiles = dict[str, tuple[Path, ...]]  # "vocals", "backing" → files whose sum the stem is


def find_track_folders(stems_dir: Path, song_ids: Sequence[str]) -> dict[str, StemFiles]:
    """song id → stem name → files, for the songs that have a track's folder.

    Raises:
        UserError: a folder fits two songs, two folders fit one song, or several models' output
            lies there.
    """
    root = stems_dir.resolve()
    folders = _track_folders(root)
    by_end: dict[Folder, list[str]] = defaultdict(list)
    for song_id in song_ids:
        parts = (*PurePosixPath(song_id).parent.parts, _title(song_id))
        for first in range(len(parts)):
            by_end[parts[first:]].append(song_id)
    direct = {folder: songs for folder in folders if (songs := by_end.get(folder))}
    below = {folder: songs for folder in folders if (songs := by_end.get(folder[1:]))}
    models = sorted({folder[0] for folder in below})
    if not direct and len(models) > 1:
        raise UserError(
            f"{stems_dir} holds the output of several models or albums, {models[0]} and "
            f"{models[1]}; give one of them, such as --stems_dir {stems_dir / models[0]}"
        )
    found: dict[str, Folder] = {}
    for folder, songs in sorted((direct or below).items()):
        if len(songs) > 1:
            raise UserError(
                f"{_named(stems_dir, folder)} could hold the stems of {songs[0]} or of {songs[1]}; "
                "lay the stems' folders out as the songs: <singer>/<album>/<track>"
            )
        other = found.setdefault(songs[0], folder)
        if other is not folder:
            raise UserError(
                f"the stems of {songs[0]} lie in {_named(stems_dir, other)} and in "
                f"{_named(stems_dir, folder)}; keep one of them"
            )
    return {song_id: _stems(root, folders[folder]) for song_id, folder in found.items()}


def _track_folders(root: Path) -> dict[Folder, dict[str, str]]:
    """Folders that hold vocals → stem → its file; of several formats the first that is read."""
    files: dict[Folder, dict[str, str]] = defaultdict(dict)
    for file in visible_files(root):
        path = PurePosixPath(file)
        suffix = path.suffix.lower()
        stems = files[PurePosixPath(composed(file)).parent.parts]
        if suffix in AUDIO_SUFFIXES:
            held = stems.get(path.stem)
            order = AUDIO_SUFFIXES.index
            if held is None or order(suffix) < order(PurePosixPath(held).suffix.lower()):
                stems[path.stem] = file
    return {folder: stems for folder, stems in files.items() if folder and VOCALS in stems}


def _stems(root: Path, files: dict[str, str]) -> StemFiles:
    stems: StemFiles = {"vocals": (root / files[VOCALS],)}
    rest = [name for name in REST if name in files]
    if rest:
        stems["backing"] = (root / files[rest[0]],)
    elif all(part in files for part in PARTS):
        stems["backing"] = tuple(root / files[p] for p in (*PARTS, *MORE_PARTS) if p in files)
    return stems


def _title(song_id: str) -> str:
    return PurePosixPath(song_id).name.removesuffix(PurePosixPath(song_id).suffix)


def _named(stems_dir: Path, folder: Folder) -> Path:
    return stems_dir.joinpath(*folder)
