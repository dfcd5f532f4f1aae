"""The songs of a prepared run get their vocals and backing, each song once.

The stems, separated or read from a folder, come into the run's cache; the catalogue points to them,
and `stems.json` says what made them. Killed at any moment and started again, it resumes with the
first song that is not separated yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from embedder.artifact import fingerprint
from embedder.catalogue import Catalogue, Song, write_catalogue
from embedder.data.audio import FULL_SCALE, Samples, to_int16
from embedder.data.cache import AudioCache, Decoded, Progress, decode_files, no_progress
from embedder.data.prepare import Problem, stem_problem, with_stems
from embedder.data.stems import STEMS, find_stems
from embedder.errors import Command, UserError
from embedder.models.separators import SEPARATORS, open_separator
from embedder.models.separators.song_separator import SongSeparator, separate
from embedder.models.separators.stem_record import FOLDER, StemRecord, read_record, write_record
from embedder.run import Run


def separate_songs(
    run: Run,
    catalogue: Catalogue,
    separator: SongSeparator,
    weights: Path | None = None,
    *,
    replacing: bool = False,
    progress: Progress = no_progress,
) -> tuple[Catalogue, list[Problem]]:
    """Separate the songs of all splits; the catalogue with their stems, and stems of no use.

    `weights`: what the user named, to be found again. `replacing` takes the place of other stems.

    Raises:
        UserError: the songs have other stems, a song is not in the cache, or the disk is full.
    """
    made_by = separator.fingerprint()
    _check_stems(run, catalogue, made_by, replacing)
    cache = AudioCache(run.cache)
    cache.sweep()
    todo = {song.audio: song for song in catalogue.songs if not _separated(cache, song, made_by)}
    for audio, song in progress(todo.items(), len(todo), "separating"):
        mixture = cache.samples(audio)
        try:
            stems = split_samples(separator, mixture)
        except UserError as error:
            raise UserError(f"{song.id}: {error}") from None
        for key, samples in zip(stem_keys(audio, made_by), stems, strict=True):
            cache.write(key, samples)
    songs, problems = _with_separated(catalogue.songs, cache, made_by)
    place = "" if weights is None else str(weights.resolve())
    return _point_to_stems(run, catalogue, songs, separator.method, made_by, place), problems


def take_stems(
    run: Run,
    catalogue: Catalogue,
    folder: Path,
    *,
    replacing: bool = False,
    progress: Progress = no_progress,
) -> tuple[Catalogue, list[Problem]]:
    """Use the stems that lie in `folder`, as `prepare --stems_dir` would have.

    Raises:
        UserError: the songs have other stems, or no stems of theirs are there.
    """
    place = str(folder.resolve())
    made_by = fingerprint(FOLDER, place)
    _check_stems(run, catalogue, made_by, replacing)
    stems = find_stems(folder, (song.id for song in catalogue.songs))
    files = [stem for found in stems.values() for stem in found.values()]
    decoded = decode_files(files, AudioCache(run.cache), progress=progress)
    songs, problems = with_stems(catalogue.songs, stems, decoded)
    return _point_to_stems(run, catalogue, songs, FOLDER, made_by, place), problems


def separator_of(run: Run, catalogue: Catalogue, device: torch.device) -> SongSeparator | None:
    """What separates new songs: what separated the run's, else the run's own separator, or None.

    Raises:
        UserError: its weights are gone, or are others since.
    """
    record = read_record(run, catalogue)
    if record is None or record.method not in SEPARATORS:
        trained = run.separator_weights.is_file()
        return open_separator("own", run, None, device) if trained else None
    weights = Path(record.weights) if record.weights else None
    separator = open_separator(record.method, run, weights, device)
    if separator.fingerprint() != record.fingerprint:
        raise UserError(
            f"the run's stems were made with other weights than {separator.weights[0]} holds now; "
            f"run again: {Command('separate', method=record.method, replace=True)}"
        )
    return separator


def split_samples(separator: SongSeparator, mixture: Samples) -> tuple[Samples, Samples]:
    """`mixture (samples,)`, int16, 16 kHz → vocals and backing, likewise.

    A backing that is the rest adds up with the vocals to the mixture, sample by sample.

    Raises:
        UserError: the separator gives samples that are not finite numbers.
    """
    vocals, backing = separate(separator, mixture.astype(np.float32) / np.float32(FULL_SCALE))
    for stem in (vocals, backing):
        if stem is not None and not np.isfinite(stem).all():
            raise UserError(f"{separator.method} gave samples that are not finite numbers")
    sung = to_int16(vocals)
    if backing is not None:
        return sung, to_int16(backing)
    rest = mixture.astype(np.int32) - sung
    return sung, np.clip(rest, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def separated_vocals(separator: SongSeparator, mixture: Samples) -> Samples:
    """The vocals alone of `split_samples`."""
    return split_samples(separator, mixture)[0]


def separation_note(run: Run, catalogue: Catalogue, separator: SongSeparator) -> str:
    """What a user should know when new songs are separated with what `separator_of` gave."""
    line = f"vocals are separated from the files with {separator.method}"
    record = read_record(run, catalogue)
    if record is None or record.method != separator.method:
        line += "; the run's own songs had stems from elsewhere, on which fuse measured"
    return line


def stem_keys(audio: str, made_by: str) -> tuple[str, str]:
    """Cache keys of vocals and backing: of the mixture's key and the separator's fingerprint."""
    vocals, backing = (fingerprint(stem, audio, made_by) for stem in STEMS)
    return vocals, backing


def _separated(cache: AudioCache, song: Song, made_by: str) -> bool:
    return all(cache.facts(key) is not None for key in stem_keys(song.audio, made_by))


def _with_separated(
    songs: Sequence[Song], cache: AudioCache, made_by: str
) -> tuple[list[Song], list[Problem]]:
    """Each song with the keys of its stems that are not silent, and the problems."""
    complete, problems = [], []
    for song in songs:
        keys = dict.fromkeys(STEMS, "")
        for stem, key in zip(STEMS, stem_keys(song.audio, made_by), strict=True):
            reason = stem_problem(song, Decoded(key, cache.facts(key)))
            if not reason and stem == "backing" and not keys["vocals"]:
                reason = "the song has no vocals to go with it"
            if reason:
                problems.append(Problem(f"{stem}/{song.id}", "stem", reason))
            else:
                keys[stem] = key
        complete.append(replace(song, vocals=keys["vocals"], backing=keys["backing"]))
    return complete, problems


def _check_stems(run: Run, catalogue: Catalogue, made_by: str, replacing: bool) -> None:
    have = [song for song in catalogue.songs if song.vocals or song.backing]
    record = read_record(run, catalogue)
    if not have or replacing or (record and record.fingerprint == made_by):
        return
    origin = f"separate --method {record.method}" if record else "prepare --stems_dir"
    raise UserError(
        f"{len(have)} of {len(catalogue.songs)} songs have stems already, from {origin}; "
        "--replace takes the new ones instead"
    )


def _point_to_stems(
    run: Run, catalogue: Catalogue, songs: Sequence[Song], method: str, made_by: str, place: str
) -> Catalogue:
    """Write record and catalogue; `fuse` knows the stores that were made from other stems.

    The record comes first: if this is cut off in between, it does not fit and counts for nothing.
    """
    changed = Catalogue(tuple(songs))
    keys = {song.id: [song.vocals, song.backing] for song in songs}
    write_record(run, StemRecord(method, made_by, place, keys))
    if changed != catalogue:
        try:
            write_catalogue(run.catalogue, changed)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"cannot write {run.catalogue}: {reason}") from None
    return changed
