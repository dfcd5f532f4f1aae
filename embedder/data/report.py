"""What `prepare` found: numbers for each split, and every file that something is wrong with.

Enters: the songs of a catalogue and the problems met on the way. Leaves: `Report`, as text lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedder.catalogue import Song
from embedder.run import SPLITS

# kind of problem → what is done about it
KINDS = {
    "unreadable": "left out",
    "empty": "left out",
    "short": "left out",
    "silent": "left out",
    "odd": "kept",
    "duplicate": "kept",
    "decoded duplicate": "kept",
    "same recording": "kept",
    "in two splits": "left out",
    "duet": "left out",  # one recording under two singers
    "duet in use": "kept",
    "stem": "not used",
}


@dataclass(frozen=True)
class Problem:
    """One file and what is wrong with it."""

    file: str  # the song's id; for a stem: "vocals/<id>" or "backing/<id>"
    kind: str  # a key of KINDS
    reason: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")


@dataclass(frozen=True)
class Report:
    """The outcome of one preparation."""

    songs: dict[str, int]  # split → number of songs
    minutes: dict[str, float]  # split → minutes of mixtures
    singers: int
    vocals: int  # songs whose vocal stem is used
    backing: int  # songs whose backing stem is used
    stems_wanted: bool  # whether a stems folder was given
    problems: tuple[Problem, ...]
    albums_crossing: tuple[str, ...]  # albums with songs in more than one split, where allowed

    def of(self, kind: str) -> tuple[Problem, ...]:
        """The problems of one kind."""
        return tuple(problem for problem in self.problems if problem.kind == kind)

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The songs that did not come into the catalogue."""
        return tuple(problem for problem in self.problems if KINDS[problem.kind] == "left out")

    def lines(self) -> list[str]:
        """The report for a terminal: numbers, then each problem with its file and reason."""
        text = [
            f"{split:<10}  {self.songs[split]:>5} songs  {self.minutes[split]:>8.1f} minutes"
            for split in SPLITS
            if self.songs[split]
        ]
        total = sum(self.songs.values())
        text.append(
            f"{'all':<10}  {total:>5} songs  {sum(self.minutes.values()):>8.1f} minutes  "
            f"{self.singers} singers"
        )
        if self.stems_wanted:
            text.append(f"stems: vocals of {self.vocals}, backing of {self.backing} songs")
        if self.albums_crossing:
            text.append(
                f"{len(self.albums_crossing)} albums have songs in more than one split, so the "
                f"album's sound helps to name the singer: {', '.join(self.albums_crossing)}"
            )
        return text + problem_lines(self.problems)


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Each problem with its file and reason, by kind."""
    text: list[str] = []
    for kind, fate in KINDS.items():
        found = [problem for problem in problems if problem.kind == kind]
        if found:
            text.append(f"{kind} ({len(found)}, {fate}):")
            text += [f"  {problem.file}: {problem.reason}" for problem in found]
    return text


def summarise(
    songs: Sequence[Song],
    problems: Sequence[Problem],
    albums_crossing: tuple[str, ...],
    stems_wanted: bool,
) -> Report:
    """The report on the songs of a catalogue."""
    seconds = {split: [song.seconds for song in songs if song.split == split] for split in SPLITS}
    return Report(
        songs={split: len(lengths) for split, lengths in seconds.items()},
        minutes={split: sum(lengths) / 60 for split, lengths in seconds.items()},
        singers=len({song.singer for song in songs}),
        vocals=sum(bool(song.vocals) for song in songs),
        backing=sum(bool(song.backing) for song in songs),
        stems_wanted=stems_wanted,
        problems=tuple(problems),
        albums_crossing=albums_crossing,
    )
