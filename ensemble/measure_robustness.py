"""The measure `robustness`: songs are degraded and answered as `predict` answers files.

One song's degraded forms are held at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedder.artifact import file_fingerprint
from embedder.catalogue import Song, read_catalogue, stems_fingerprint
from embedder.config import SAMPLE_RATE
from embedder.console import meter, say
from embedder.data.audio import FULL_SCALE, Audio, Samples, to_int16
from embedder.data.cache import AudioCache, Progress, no_progress
from embedder.data.excerpts import excerpt
from embedder.errors import UserError
from embedder.measures.robustness import (
    DEGRADATIONS,
    EXCERPT,
    FULL,
    SECONDS,
    SONGS,
    degrade,
    severity_levels,
)
from embedder.metrics import ranking
from embedder.run import Run
from embedder.text import counted
from ensemble.fusion.experts import FUSED
from ensemble.identifier import SingerIdentifier
from ensemble.robustness import (
    Conditions,
    Measured,
    Row,
    begin,
    generator,
    read_measured,
    sample,
    separator_fingerprint,
    split_of,
    write_rows,
)
from ensemble.scoring import SongScores

SEED = 0


def measure_robustness(run: Run, device: str, songs: int = SONGS, seconds: float = SECONDS) -> Path:
    """Degrade `songs` songs of the run, the same number of each singer, and write what is answered.

    `seconds` of each are degraded, where someone sings; 0 takes all of it. What is measured already
    is not measured again.

    Raises:
        UserError: there is no fusion, a song is not in the cache, or `seconds` is none of the
            lengths that are measured.
    """
    check_seconds(seconds)
    catalogue = read_catalogue(run.catalogue)
    identifier = SingerIdentifier.load(run.root, device=device, packed=False)
    split = split_of(catalogue)
    available = catalogue.of(split)
    conditions = Conditions(
        fusion=file_fingerprint(run.fusion),
        catalogue=catalogue.fingerprint(),
        separator=separator_fingerprint(run),
        split=split,
        seconds=seconds,
        singers=identifier.singers,
        sources=(FUSED, *identifier.fusion.experts),
        stems=stems_fingerprint(available, "vocals"),
    )
    chosen = sample(available, songs, SEED)
    there = read_measured(run)
    if isinstance(there, Measured) and there.conditions != conditions:
        say("what was measured under other conditions is replaced")
    rows = begin(run, conditions, len(chosen), len(available))
    measured = {row.song for row in rows}
    todo = [song for song in chosen if song.id not in measured]
    if not todo:
        return write_rows(run, conditions.sources, rows)
    cache = AudioCache(run.cache)
    say(estimate(identifier, todo, len(chosen), seconds, cache))
    each = len(severity_levels())
    with meter("degraded songs") as tick:
        for number, song in enumerate(todo):
            done = number * each

            def passing(batches: Iterable[Any], total: int, _: str, done: int = done) -> Any:
                for place, batch in enumerate(batches):
                    yield batch
                    tick(done + min(each, each * (place + 1) // total), len(todo) * each)

            waves = list(degraded(song, cache, seconds))
            rows += rows_of(song, predicted(identifier, waves, passing), conditions.sources)
            path = write_rows(run, conditions.sources, rows)
    return path


def predicted(
    identifier: SingerIdentifier, waves: Sequence[Samples], progress: Progress = no_progress
) -> SongScores:
    """The scores of waves (samples,), which may be as short or quiet as they like."""
    given = [Audio(wave, len(wave) / SAMPLE_RATE) for wave in waves]
    return identifier.predict(given, progress=progress).scores


def check_seconds(seconds: float) -> None:
    """Raise `UserError` unless songs of this length are embedded undegraded, too."""
    if seconds not in DEGRADATIONS[EXCERPT].levels:
        legal = ", ".join(f"{level:g}" for level in DEGRADATIONS[EXCERPT].levels if level != FULL)
        raise UserError(f"--seconds {seconds:g} is not legal; it must be one of {legal}, or 0: all")


def degraded(song: Song, cache: AudioCache, seconds: float) -> Iterator[Samples]:
    """A song at every step, 16 kHz; amplitudes above 1 are clipped, as in a file."""
    whole = np.array(cache.samples(song.audio))

    def cut(length: float) -> Samples:
        rng = generator(SEED, song.id, (EXCERPT, length))
        return excerpt(whole, song, cache, None if length == FULL else length, rng)

    clean = cut(seconds).astype(np.float32) / np.float32(FULL_SCALE)
    for name, level in severity_levels():
        if name == EXCERPT:
            yield cut(level)
        else:
            rng = generator(SEED, song.id, (name, level))
            yield to_int16(degrade(clean, name, level, rng))


def rows_of(song: Song, answers: SongScores, sources: Sequence[str]) -> list[Row]:
    """The rows of one song, whose severity_levels were answered in their order."""
    truth = answers.singers.index(song.singer)
    ranks = np.zeros((len(sources), len(severity_levels())), dtype=int)
    for row, source in enumerate(sources):
        if source in answers.scores:
            scores = answers.scores[source]
            places = (ranking(scores) == truth).argmax(axis=1) + 1
            ranks[row] = np.where(np.isnan(scores).any(axis=1), 0, places)
    first = ranking(answers.scores[FUSED])[:, 0]
    return [
        Row(song.id, song.singer, step, answers.singers[first[i]], tuple(ranks[:, i].tolist()))
        for i, step in enumerate(severity_levels())
    ]


def estimate(
    identifier: SingerIdentifier,
    todo: Sequence[Song],
    wanted: int,
    seconds: float,
    cache: AudioCache,
) -> str:
    """In a line, how long it will take, from degrading one song and predicting one excerpt."""
    lengths = [length for name, length in severity_levels() if name == EXCERPT]
    others = len(severity_levels()) - len(lengths)

    def audio_s(song: Song) -> float:
        def taken(length: float) -> float:
            return song.seconds if length == FULL else min(length, song.seconds)

        return others * taken(seconds) + sum(map(taken, lengths))

    start = time.monotonic()
    waves = list(degraded(todo[0], cache, seconds))
    degrading = time.monotonic() - start
    few = [waves[severity_levels().index((EXCERPT, seconds))]] * 4
    predicted(identifier, few[:1])  # the first time, everything is slower
    start = time.monotonic()
    predicted(identifier, few)
    predicting = time.monotonic() - start
    length = todo[0].seconds if seconds == FULL else min(seconds, todo[0].seconds)
    audio = sum(map(audio_s, todo))
    total = len(todo) * degrading + audio * predicting / (len(few) * length)
    done = f", {wanted - len(todo)} of them measured already" if wanted > len(todo) else ""
    return (
        f"{counted(wanted, 'song')} at {len(severity_levels())} levels{done}: {audio / 3600:.1f} "
        "hours of "
        f"audio, about {max(total / 60, 0.1):.1f} minutes on this machine"
    )
