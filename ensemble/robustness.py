"""What a fused run answers of degraded songs, on disk: written as it is measured, read by the page.

Input: a run, and rows of answers. Output: `measures/robustness.csv`, a row for each song,
degradation and level, and beside it `robustness.json`, which says what they were made with. The
csv is replaced as a whole after each song, so a measurement that was stopped goes on with the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from embedder.artifact import Artifact, file_fingerprint, fingerprint, write_text
from embedder.catalogue import Catalogue, Song, read_catalogue
from embedder.errors import Command, UserError
from embedder.measures.robustness import DEGRADATIONS, severity_levels
from embedder.models.separators import stem_record
from embedder.run import Run
from embedder.text import read_csv, to_csv

COLUMNS = ("song", "singer", "degradation", "level", "named")  # then a source's rank each
AGAIN = Command("measure", before="run", what="robustness")

Step = tuple[str, float]


@dataclass(frozen=True)
class Conditions:
    """What answers were made with; those of other conditions do not belong together."""

    fusion: str  # fingerprint of the run's fusion
    catalogue: str  # fingerprint of the run's songs
    separator: str  # of what makes vocals of files, "" where there is none
    split: str  # whose songs were degraded: "validation" or "test"
    seconds: float  # used of each song that is degraded; 0 for all of it
    singers: tuple[str, ...]  # who could be named: trained ones, then enrolled ones
    sources: tuple[str, ...]  # whose answers: "fused" first, then the experts
    stems: str = ""  # fingerprint of the vocal stems, which say where songs are sung
    ladders: dict[str, list[float]] = field(default_factory=lambda: current_ladders())
    wanted: int = field(default=0, compare=False)  # songs that were asked for
    available: int = field(default=0, compare=False)  # songs of the split


MEASURE = Artifact("measure of robustness", 1, Conditions, AGAIN)


@dataclass(frozen=True)
class Row:
    """The answers to one song at one level."""

    song: str
    singer: str  # who sings
    step: Step
    named: str  # the fused answer's first choice
    ranks: tuple[int, ...]  # per source: place of the true singer, from 1; 0: it did not answer


@dataclass(frozen=True)
class Measured:
    """All that was measured so far."""

    conditions: Conditions
    wanted: int  # songs that were asked for
    available: int  # songs of the split
    rows: tuple[Row, ...]  # of whole songs: each has every step


def current_ladders() -> dict[str, list[float]]:
    """The levels that this program measures."""
    return {name: list(ladder.levels) for name, ladder in DEGRADATIONS.items()}


def sample(songs: Sequence[Song], count: int, seed: int = 0) -> list[Song]:
    """`count` songs, drawn so that all singers have the same number, give or take one.

    The first ones of a larger sample are the smaller sample of the same seed.
    """
    keyed: dict[str, list[tuple[str, Song]]] = {}
    for song in songs:
        keyed.setdefault(song.singer, []).append((fingerprint(str(seed), song.id), song))
    rounds: list[tuple[int, str, Song]] = []
    for drawn in keyed.values():
        for number, (key, song) in enumerate(sorted(drawn, key=lambda pair: pair[0])):
            rounds.append((number, key, song))
    return [song for _, _, song in sorted(rounds, key=lambda one: one[:2])][:count]


def generator(seed: int, song: str, step: Step) -> np.random.Generator:
    """What a song's degradation draws from: the same for the same song and level."""
    name, level = step
    return np.random.default_rng([seed, int(fingerprint(song, name, repr(level)), 16)])


def separator_fingerprint(run: Run) -> str:
    """Of what makes vocals of files in this run, "" where there is nothing."""
    there = run.catalogue.is_file()
    catalogue = read_catalogue(run.catalogue) if there else Catalogue(())
    return stem_record.separator_fingerprint(run, catalogue)


def begin(run: Run, conditions: Conditions, wanted: int, available: int) -> list[Row]:
    """Get ready to measure; the rows of songs that were measured under the same conditions.

    What was measured under others is taken away.
    """
    there = read_measured(run)
    rows: list[Row] = []
    if isinstance(there, Measured) and there.conditions == conditions:
        rows = list(there.rows)
    else:
        _table(run).unlink(missing_ok=True)  # first: the rows must never stand under another head
    MEASURE.write(_head(run), replace(conditions, wanted=wanted, available=available))
    return rows


def write_rows(run: Run, sources: Sequence[str], rows: Iterable[Row]) -> Path:
    """Write all rows, atomically."""
    lines = [
        (row.song, row.singer, row.step[0], f"{row.step[1]:g}", row.named, *row.ranks)
        for row in rows
    ]
    write_text(_table(run), to_csv([(*COLUMNS, *sources), *lines]))
    return _table(run)


def read_measured(run: Run) -> Measured | str:
    """What was measured, or in a sentence why there is nothing to show."""
    if not _head(run).is_file() or not _table(run).is_file():
        return f"Robustness was not measured; {AGAIN}"
    try:
        conditions = MEASURE.read(_head(run))
        rows = _rows(read_csv(_table(run)), conditions.sources)
    except (UserError, ValueError):
        return f"The measure of robustness cannot be read; {AGAIN}"
    if conditions.ladders != current_ladders():
        return f"Robustness was measured by another version of this program; {AGAIN}"
    return Measured(conditions, conditions.wanted, conditions.available, rows)


def fitting(run: Run) -> Measured | str:
    """As `read_measured`; what another fusion or separator answered is refused in a sentence."""
    found = read_measured(run)
    if isinstance(found, str):
        return found
    fusion = file_fingerprint(run.fusion) if run.fusion.is_file() else ""
    for what, then, now in (
        ("fusion", found.conditions.fusion, fusion),
        ("separator", found.conditions.separator, separator_fingerprint(run)),
    ):
        if then != now:
            return f"Robustness was measured with another {what} than the run has now; {AGAIN}"
    if not found.rows:
        return f"No song's robustness is measured yet; {AGAIN}"
    return found


def split_of(catalogue: Catalogue) -> str:
    """The split whose songs are degraded: test where there is one, else validation."""
    return "test" if catalogue.of("test") else "validation"


def _rows(lines: Sequence[tuple[int, list[str]]], sources: Sequence[str]) -> tuple[Row, ...]:
    """Rows of songs that have every step, in the order of the file."""
    if not lines or lines[0][1] != [*COLUMNS, *sources]:
        raise ValueError("other columns")
    found: dict[str, list[Row]] = {}
    for _, (song, singer, name, level, named, *ranks) in lines[1:]:
        if len(ranks) != len(sources):
            raise ValueError("other columns")
        row = Row(song, singer, (name, float(level)), named, tuple(map(int, ranks)))
        found.setdefault(song, []).append(row)
    whole = severity_levels()
    return tuple(
        row for rows in found.values() if [one.step for one in rows] == whole for row in rows
    )


def _table(run: Run) -> Path:
    return run.measure("robustness.csv")


def _head(run: Run) -> Path:
    return run.measure("robustness.json")
