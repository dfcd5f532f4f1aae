"""A song's vocals and backing, where someone has separated them already.

Enters: a folder with `vocals/` and, if at hand, `backing/`, each laid out like the data folder.
Leaves: the stem files of each song.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from embedder.catalogue import AUDIO_SUFFIXES, visible_files
from embedder.errors import UserError

STEMS = ("vocals", "backing")


def find_stems(stems_dir: Path, song_ids: Iterable[str]) -> dict[str, dict[str, Path]]:
    """song id → stem name → file, for the stems that are there.

    A stem lies at `<stems_dir>/<stem>/<path of the song below the data folder>`; its suffix may be
    another than the song's. Raises `UserError` if there is no `vocals` folder, or if it fits no
    song at all.
    """
    if not (stems_dir / "vocals").is_dir():
        raise UserError(
            f"{stems_dir} has no folder vocals; --stems_dir takes a folder that holds vocals/ and "
            "backing/, each laid out like the data folder"
        )
    ids = list(song_ids)
    found: dict[str, dict[str, Path]] = {song_id: {} for song_id in ids}
    for stem in STEMS:
        folder = stems_dir.resolve() / stem
        files = _by_title(folder) if folder.is_dir() else {}
        for song_id in ids:
            suffix = PurePosixPath(song_id).suffix
            same = files.get(_without_suffix(song_id), {})
            for kind in (suffix, *AUDIO_SUFFIXES):
                if kind.lower() in same:
                    found[song_id][stem] = folder / same[kind.lower()]
                    break
    if ids and not any("vocals" in stems for stems in found.values()):
        raise UserError(
            f"{stems_dir / 'vocals'} holds no stem of any song; expected files such as "
            f"{stems_dir / 'vocals' / ids[0]}"
        )
    return found


def _by_title(folder: Path) -> dict[str, dict[str, str]]:
    """Path without suffix → suffix in lower case → path."""
    files: dict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted(visible_files(folder)):
        suffix = PurePosixPath(file).suffix.lower()
        if suffix in AUDIO_SUFFIXES:
            files[_without_suffix(file)][suffix] = file
    return files


def _without_suffix(path: str) -> str:
    return path.removesuffix(PurePosixPath(path).suffix)
