"""A song's vocals and backing, where someone has separated them already.

Enters: a folder with `vocals/` and, if at hand, `backing/`, each laid out like the data folder; or
the output of demucs or spleeter (`stem_folders`). Leaves: the stem files of each song.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from embedder.catalogue import AUDIO_SUFFIXES, visible_files
from embedder.data.stem_folders import StemFiles, find_track_folders
from embedder.errors import UserError
from embedder.text import composed

STEMS = ("vocals", "backing")


def find_stems(stems_dir: Path, song_ids: Iterable[str]) -> dict[str, StemFiles]:
    """song id → stem name → files whose sum the stem is, for the stems that are there.

    A stem lies at `<stems_dir>/<stem>/<path of the song below the data folder>`; its suffix may be
    another than the song's. Without a folder `vocals` the layouts of demucs and spleeter are looked
    for. Raises `UserError` if there are no stems, none of any song, or stems that could belong to
    two songs.
    """
    ids = list(song_ids)
    if not (stems_dir / "vocals").is_dir():
        tracks = find_track_folders(stems_dir, ids) if stems_dir.is_dir() else {}
        if not tracks:
            raise UserError(
                f"{stems_dir} has no folder vocals; --stems_dir takes a folder that holds vocals/ "
                "and backing/, each laid out like the data folder, or the output of demucs or "
                "spleeter (<track>/vocals.wav) for these songs"
            )
        return {song_id: tracks.get(song_id, {}) for song_id in ids}
    found: dict[str, StemFiles] = {song_id: {} for song_id in ids}
    for stem in STEMS:
        folder = stems_dir.resolve() / stem
        files = _by_title(folder) if folder.is_dir() else {}
        for song_id in ids:
            suffix = PurePosixPath(song_id).suffix
            same = files.get(_without_suffix(song_id), {})
            for kind in (suffix, *AUDIO_SUFFIXES):
                if kind.lower() in same:
                    found[song_id][stem] = (folder / same[kind.lower()],)
                    break
    if ids and not any("vocals" in stems for stems in found.values()):
        raise UserError(
            f"{stems_dir / 'vocals'} holds no stem of any song; expected files such as "
            f"{stems_dir / 'vocals' / ids[0]}"
        )
    return found


def _by_title(folder: Path) -> dict[str, dict[str, str]]:
    """Path without suffix, in NFC as song ids are → suffix in lower case → path."""
    files: dict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted(visible_files(folder)):
        suffix = PurePosixPath(file).suffix.lower()
        if suffix in AUDIO_SUFFIXES:
            files[_without_suffix(composed(file))][suffix] = file
    return files


def _without_suffix(path: str) -> str:
    return path.removesuffix(PurePosixPath(path).suffix)
