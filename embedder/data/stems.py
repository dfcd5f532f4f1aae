"""A song's vocals and backing, where someone has separated them already.

Either a folder with `vocals/` and, if at hand, `backing/`, each laid out like the data folder; or
the output of demucs or spleeter, a folder for each track and a file for each stem, such as
`separated/htdemucs/<track>/vocals.wav`. A track's folder lies right below the given one, or under
the song's own folders (`<singer>/<album>/<track>`), or else either of them below one folder with
the model's name. What could belong to two songs is refused: titles recur from album to album.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.catalogue import AUDIO_SUFFIXES, visible_files
from embedder.config import SAMPLE_RATE
from embedder.errors import UserError
from embedder.text import composed

STEMS = ("vocals", "backing")
VOCALS = "vocals"
REST = ("no_vocals", "accompaniment")  # all but the vocals in one file: demucs's name, spleeter's
# All but the vocals in several files: the usual ones, and those that only some models divide off.
PARTS = ("bass", "drums", "other")
MORE_PARTS = ("guitar", "piano")
FURTHEST = SAMPLE_RATE // 4  # samples by which the two may lie apart, either way
COMPARED = 10 * SAMPLE_RATE  # samples around the middle by which the lag is found
EVEN = 0.01  # share of the median level under which a frequency is not brought up
Folder = tuple[str, ...]  # names of the folders below the given one, in NFC as song ids are
StemFiles = dict[str, tuple[Path, ...]]  # "vocals", "backing" → files whose sum the stem is


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


def lag_of(wave: NDArray[Any], reference: NDArray[Any]) -> int:
    """Samples by which `wave` lies behind `reference` (negative: before it), at most 0.25 s.

    The place of the highest correlation over ten seconds around the middle, with all frequencies
    brought towards one level: the phase transform of Knapp & Carter, IEEE Trans. ASSP 1976. Without
    it, a bass makes a peak so broad that neighbours of the lag win. 0 where either is silent there.
    """
    from scipy.fft import irfft, next_fast_len, rfft  # what predicts does without scipy

    first = max(0, (min(len(wave), len(reference)) - COMPARED) // 2)
    one, other = (part[first : first + COMPARED].astype(np.float64) for part in (wave, reference))
    size = next_fast_len(len(one) + len(other), real=True)
    cross = rfft(one, size) * rfft(other, size).conj()
    level = np.abs(cross)
    if not level.any():
        return 0
    found = irfft(cross / (level + EVEN * np.median(level[level > 0])), size)
    lags = np.arange(-FURTHEST, FURTHEST + 1)
    return int(lags[np.argmax(found[lags])])


def moved(samples: NDArray[np.int16], lag: int, length: int) -> NDArray[np.int16]:
    """`samples` later by `lag`, cut or filled with silence to `(length,)`."""
    result = np.zeros(length, dtype=np.int16)
    first, end = max(0, lag), min(length, len(samples) + lag)
    if end > first:
        result[first:end] = samples[first - lag : end - lag]
    return result
