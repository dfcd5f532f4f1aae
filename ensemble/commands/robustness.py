"""The measure `robustness`: songs are degraded and heard as `predict` hears files.

Enters: a fused run whose decoded songs are at hand. Leaves: the two files of
`ensemble/robustness.py`. Every song's degraded forms are written as files into a temporary folder,
heard, and taken away again, so what is held does not grow with the number of songs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedder.artifact import file_fingerprint
from embedder.cli.options import catalogue_of
from embedder.console import Tick, meter, say
from embedder.errors import UserError
from embedder.measures.robustness import (
    DEGRADATIONS,
    EXCERPT,
    FULL,
    SECONDS,
    SONGS,
    severity_levels,
)
from embedder.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embedder.catalogue import Song
    from embedder.data.cache import AudioCache
    from embedder.inference.store import Store
    from ensemble.answering import Answered
    from ensemble.commands.hearing import Listeners
    from ensemble.fusion.fitted import Fusion
    from ensemble.index.members import MemberIndex
    from ensemble.robustness import Row

SEED = 0


@dataclass(frozen=True, eq=False)
class Answerer:
    """What answers files."""

    listeners: Listeners
    fusion: Fusion
    indexes: dict[str, MemberIndex]

    def __call__(self, files: Sequence[Path], tick: Tick, before: int, total: int) -> Answered:
        """Answers to files; `tick` is told of each batch, after `before` of `total` files."""
        from ensemble.answering import answer
        from ensemble.commands.hearing import hear

        def passing(batches: Iterable[list[Store]]) -> Iterator[list[Store]]:
            done = before
            for stores in batches:
                yield stores
                done += len(stores[0].song_ids)
                tick(done, total)

        names = [str(number) for number in range(len(files))]
        heard = hear(self.listeners, files, names, takes_stems=False, tell=lambda _: None)
        return answer(self.fusion, self.indexes, passing(heard.batches))


def measure_robustness(run: Run, device: str, songs: int = SONGS, seconds: float = SECONDS) -> Path:
    """Degrade `songs` songs of the run, the same number of each singer, and write what is answered.

    `seconds` of each are degraded, where someone sings; 0 takes all of it. What is measured already
    is not measured again.

    Raises:
        UserError: there is no fusion, a song is not in the cache, or `seconds` is none of the
            lengths that are measured.
    """
    from embedder.catalogue import stems_fingerprint
    from embedder.data.cache import AudioCache
    from ensemble.commands.hearing import load_listeners
    from ensemble.fusion.experts import FUSED
    from ensemble.fusion.pipeline import open_fusion
    from ensemble.robustness import (
        Conditions,
        Measured,
        begin,
        read_measured,
        sample,
        separator_fingerprint,
        split_of,
        write_rows,
    )

    check_seconds(seconds)
    catalogue = catalogue_of(run)
    fusion, indexes = open_fusion(run, None)
    split = split_of(catalogue)
    available = catalogue.of(split)
    conditions = Conditions(
        fusion=file_fingerprint(run.fusion),
        catalogue=catalogue.fingerprint(),
        separator=separator_fingerprint(run),
        split=split,
        seconds=seconds,
        singers=next(iter(indexes.values())).singers,
        sources=(FUSED, *fusion.experts),
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
    answerer = Answerer(load_listeners(run, fusion, list(indexes), device), fusion, indexes)
    cache = AudioCache(run.cache)
    tell_estimate(answerer, todo, len(chosen), seconds, cache)
    each = len(severity_levels())
    with meter("degraded songs") as tick:
        for number, song in enumerate(todo):
            with tempfile.TemporaryDirectory() as folder:
                files = write_degraded(Path(folder), song, cache, seconds)
                answered = answerer(files, tick, number * each, len(todo) * each)
            rows += rows_of(song, answered, conditions.sources)
            path = write_rows(run, conditions.sources, rows)
    return path


def check_seconds(seconds: float) -> None:
    """Raise `UserError` unless songs of this length are heard undegraded, too."""
    if seconds not in DEGRADATIONS[EXCERPT].levels:
        legal = ", ".join(f"{level:g}" for level in DEGRADATIONS[EXCERPT].levels if level != FULL)
        raise UserError(f"--seconds {seconds:g} is not legal; it must be one of {legal}, or 0: all")


def degraded(song: Song, cache: AudioCache, seconds: float) -> Iterator[NDArray[np.int16]]:
    """A song at every step, 16 kHz; amplitudes above 1 are clipped, as in a file."""
    import numpy as np

    from embedder.data.audio import FULL_SCALE, to_int16
    from embedder.data.excerpts import excerpt
    from embedder.measures.robustness import degrade
    from ensemble.robustness import generator

    whole = np.array(cache.samples(song.audio))

    def cut(length: float) -> NDArray[np.int16]:
        rng = generator(SEED, song.id, (EXCERPT, length))
        return excerpt(whole, song, cache, None if length == FULL else length, rng)

    clean = cut(seconds).astype(np.float32) / np.float32(FULL_SCALE)
    for name, level in severity_levels():
        if name == EXCERPT:
            yield cut(level)
        else:
            rng = generator(SEED, song.id, (name, level))
            yield to_int16(degrade(clean, name, level, rng))


def write_degraded(folder: Path, song: Song, cache: AudioCache, seconds: float) -> list[Path]:
    """A wav file for every step."""
    import soundfile

    from embedder.config import SAMPLE_RATE

    files = []
    for number, wave in enumerate(degraded(song, cache, seconds)):
        files.append(folder / f"{number:03d}.wav")
        try:
            soundfile.write(files[-1], wave, SAMPLE_RATE, subtype="PCM_16")
        except soundfile.LibsndfileError as error:  # of the system's reason it says nothing
            raise UserError(f"cannot write {files[-1]}, is the disk full? {error}") from None
    return files


def rows_of(song: Song, answered: Answered, sources: Sequence[str]) -> list[Row]:
    """The rows of one song, whose steps were answered in their order."""
    import numpy as np

    from embedder.metrics import ranking
    from ensemble.fusion.experts import FUSED
    from ensemble.robustness import Row

    answers = answered.answers
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


def tell_estimate(
    answerer: Answerer, todo: Sequence[Song], wanted: int, seconds: float, cache: AudioCache
) -> None:
    """Say how long it will take, from hearing one excerpt and degrading one song."""
    lengths = [length for name, length in severity_levels() if name == EXCERPT]
    others = len(severity_levels()) - len(lengths)

    def audio(song: Song) -> float:
        def heard(length: float) -> float:
            return song.seconds if length == FULL else min(length, song.seconds)

        return others * heard(seconds) + sum(map(heard, lengths))

    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        files = write_degraded(Path(folder), todo[0], cache, seconds)
        degrading = time.monotonic() - start
        place = severity_levels().index((EXCERPT, seconds))
        few = [files[place]] * 4
        answerer(few[:1], lambda *_: None, 0, 1)  # the first time, everything is slower
        start = time.monotonic()
        answerer(few, lambda *_: None, 0, 1)
        hearing = time.monotonic() - start
    length = todo[0].seconds if seconds == FULL else min(seconds, todo[0].seconds)
    total = len(todo) * degrading + sum(map(audio, todo)) * hearing / (len(few) * length)
    done = f", {wanted - len(todo)} of them measured already" if wanted > len(todo) else ""
    say(
        f"{wanted} songs at {len(severity_levels())} levels{done}: "
        f"{sum(map(audio, todo)) / 3600:.1f} hours of audio, "
        f"about {max(total / 60, 0.1):.1f} minutes on this machine"
    )
