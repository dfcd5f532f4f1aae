"""One recording in several places: each copy is named, and none is where it does harm.

Enters: songs with their splits, and the cache. Leaves: the songs that stay, and a `Problem` for
each copy. In two splits a recording would be tested on what was trained on; under two singers its
labels contradict each other. A copy may be re-encoded, louder, cut or remastered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

from embedder.catalogue import Song
from embedder.data.cache import AudioCache
from embedder.data.decoding import Decoded, Progress, Source
from embedder.data.fingerprints import fingerprints, same_recordings
from embedder.data.report import Problem
from embedder.run import SPLITS


class Copy(NamedTuple):
    """Another song of the same recording, and how alike the two are."""

    id: str
    kind: str  # "duplicate", "decoded duplicate" or "same recording"
    how: str  # goes before the other song's name


def find_copies(
    songs: Sequence[Song],
    decoded: dict[Source, Decoded],
    cache: AudioCache,
    jobs: int | None,
    progress: Progress,
) -> dict[str, list[Copy]]:
    """song id → the other songs of the same recording."""
    sounds: dict[str, list[Song]] = defaultdict(list)
    for song in songs:
        if facts := decoded[Path(song.path)].facts:
            sounds[facts.sound].append(song)
    copies: dict[str, list[Copy]] = defaultdict(list)

    def note(one: Song, two: Song, kind: str, how: str) -> None:
        copies[one.id].append(Copy(two.id, kind, how))
        copies[two.id].append(Copy(one.id, kind, how))

    for group in sounds.values():
        for one, two in combinations(group, 2):
            if one.audio == two.audio:
                note(one, two, "duplicate", "byte for byte the same as")
            else:
                note(one, two, "decoded duplicate", "decodes to the same audio as")
    keys = {sound: group[0].audio for sound, group in sounds.items()}
    groups = list(sounds.values())
    for first, second, share in same_recordings(fingerprints(keys, cache, jobs, progress)):
        how = f"agrees to {share:.0%} with"
        for one, two in product(groups[first], groups[second]):
            note(one, two, "same recording", how)
    return copies


def without_copies(
    songs: Sequence[Song], copies: dict[str, list[Copy]], keep_duplicates: bool, keep_duets: bool
) -> tuple[list[Song], list[Problem]]:
    """Leave a recording in one split only, and out of training where singers claim it both.

    It stays in the split that needs it most: test, then validation, then train. `keep_duplicates`
    leaves it in all, `keep_duets` in training under every singer.
    """
    ranked = sorted(songs, key=lambda song: -SPLITS.index(song.split))
    rank = {song.id: place for place, song in enumerate(ranked)}
    by_id = {song.id: song for song in songs}
    dropped: set[str] = set()
    problems: list[Problem] = []
    for song in ranked:
        others = sorted(copies.get(song.id, ()), key=lambda copy: rank[copy.id])
        before = [copy for copy in others if rank[copy.id] < rank[song.id]]
        duet = any(by_id[copy.id].singer != song.singer for copy in others)
        if duet and song.split == "train" and not keep_duets:
            kind = "duet"
        elif not keep_duplicates and any(
            by_id[copy.id].split != song.split and copy.id not in dropped for copy in before
        ):
            kind = "in two splits"
        elif duet:
            kind = "duet in use"
        elif before:
            kind = before[0].kind
        else:
            continue
        if kind in ("duet", "in two splits"):
            dropped.add(song.id)
        named: dict[str, list[str]] = defaultdict(list)
        for copy in others if duet else before:
            named[copy.how].append(f"{copy.id} ({by_id[copy.id].split})")
        likeness = " and ".join(f"{how} {', '.join(names)}" for how, names in named.items())
        problems.append(Problem(song.id, kind, f"{song.split} song {likeness}"))
    problems.sort(key=lambda problem: problem.file)
    return [song for song in songs if song.id not in dropped], problems
