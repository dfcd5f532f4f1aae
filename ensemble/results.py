"""What `SingerIdentifier` gives: plain values, each with `to_dict()`; tables without pandas.

Names of singers are as the songs' folders spell them; times are in seconds from the start of a
recording; probabilities lie between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store
from embedder.metrics import ranking
from ensemble.fusion.experts import FUSED
from ensemble.index.similarity import SimilarSong
from ensemble.index.table import Change
from ensemble.open_set import UNKNOWN
from ensemble.predictions import FORMATS, PLACES, Table, csv_text, top_singers, write_table
from ensemble.scoring import SongScores


@dataclass(frozen=True)
class Choice:
    """A singer, and how likely it is that singer."""

    singer: str
    probability: float  # calibrated, where the recording as a whole is meant


@dataclass(frozen=True)
class SegmentPrediction:
    """What one segment of a recording sounds like, by itself; segments may overlap."""

    start_s: float  # from 0
    end_s: float  # at most the recording's length
    voice: float  # share of the segment in which someone sings, 0 to 1; 1 without a detector
    top: tuple[Choice, ...]  # up to three, likeliest first


@dataclass(frozen=True)
class Prediction:
    """Who sings in one recording."""

    name: str
    top: tuple[Choice, ...]  # the best three (all, if there are fewer), likeliest first
    unknown: bool  # it is taken to be of none of the singers
    confidence: float  # how sure the experts are together, 0 to 1; not a probability
    seconds: float  # length
    notes: tuple[str, ...] = ()  # such as that no voice was found
    segments: tuple[SegmentPrediction, ...] = ()  # in time order; with `details` alone
    nearest: tuple[SimilarSong, ...] = ()  # songs of the index, most alike first; likewise
    embeddings: Mapping[str, NDArray[np.float32]] = field(  # member → (dim,); likewise
        default_factory=dict, repr=False, compare=False
    )

    @property
    def singer(self) -> str:
        """The likeliest singer."""
        return self.top[0].singer

    @property
    def probability(self) -> float:
        """How likely that singer is."""
        return self.top[0].probability

    def to_dict(self) -> dict[str, Any]:
        """All but the embeddings, for JSON."""
        found = asdict(self)
        del found["embeddings"]
        return found


@dataclass(frozen=True, eq=False)
class Predictions:
    """Who sings in each of some recordings: a sequence of `Prediction`, in the order given.

    `scores` holds the log-probabilities (songs, singers) of every expert and of all together.
    """

    songs: tuple[Prediction, ...]
    scores: SongScores
    threshold: float | None  # confidence below which a song is unknown; None: it cannot be said
    voiced: bool  # somebody looked for voice
    skipped: dict[str, str] = field(default_factory=dict)  # what could not be used, and why
    batches: tuple[tuple[Store, ...], ...] = ()  # stores, one a member, where they were asked for

    def __len__(self) -> int:
        return len(self.songs)

    def __getitem__(self, number: int) -> Prediction:
        return self.songs[number]

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.songs)

    @property
    def singers(self) -> tuple[str, ...]:
        """Who can be named, in the order of the columns of `probabilities`."""
        return self.scores.singers

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of all experts together: (songs, singers), each row sums to 1."""
        return np.asarray(np.exp(self.scores.scores[FUSED]))

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Which songs (songs,) are taken to be of none of the singers."""
        return np.array([song.unknown for song in self.songs])

    @property
    def notes(self) -> dict[str, tuple[str, ...]]:
        """What is to be known of single songs, by name; most have none."""
        return {song.name: song.notes for song in self.songs if song.notes}

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a song: name, up to three singers with probabilities, unknown, notes."""
        return [
            {"name": song.name}
            | {f"singer_{n}": one.singer for n, one in enumerate(song.top, 1)}
            | {f"probability_{n}": one.probability for n, one in enumerate(song.top, 1)}
            | {
                "unknown": song.unknown,
                "confidence": song.confidence,
                "notes": "; ".join(song.notes),
            }
            for song in self.songs
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the songs, who could be named, and what was left out."""
        return {
            "songs": [song.to_dict() for song in self.songs],
            "singers": list(self.singers),
            "skipped": self.skipped,
        }

    def choices(self, mark_unknown: bool = False) -> list[tuple[str, ...]]:
        """The best three singers of each song; with `mark_unknown`, "unknown" first where it is."""
        found = top_singers(self.scores.scores[FUSED], self.singers)
        if not mark_unknown:
            return found
        return [
            (UNKNOWN, *row)[: len(row)] if song.unknown else row
            for song, row in zip(self.songs, found, strict=True)
        ]

    def to_csv(self, mark_unknown: bool = False) -> str:
        """Lines `ID,No.1,No.2,No.3`, as the course wants them."""
        return csv_text([song.name for song in self.songs], self.choices(mark_unknown))

    def write(self, output: Path, form: str = "csv", mark_unknown: bool = False) -> Path:
        """Write the prediction, and beside it an npz of all probabilities, whose path is returned.

        Args:
            output: The file.
            form: A key of `FORMATS`.
            mark_unknown: "unknown" comes first where a song is of none of the singers.
        """
        names, scores = [song.name for song in self.songs], self.scores
        table = output.with_suffix(".npz")
        experts: dict[str, NDArray[np.floating]] = {
            name: logs for name, logs in scores.scores.items() if name != FUSED
        }
        write_table(
            table,
            Table(
                ids=tuple(names),
                singers=scores.singers,
                log_probabilities=scores.scores[FUSED],
                truth=np.full(len(names), -1, dtype=np.int64),
                albums=("",) * len(names),
                experts=experts,
                voice=scores.voice if self.voiced else None,
                confidence=scores.confidence,
            ),
        )
        # Last: the table is larger, and may not fit on the disk.
        FORMATS[form](output, names, self.choices(mark_unknown))
        return table


def best_choices(scores: SongScores, song: int) -> tuple[Choice, ...]:
    """The likeliest singers of a song, at most three."""
    logs = scores.scores[FUSED][song]
    return tuple(
        Choice(scores.singers[label], float(np.exp(logs[label])))
        for label in ranking(logs[None])[0, :PLACES].tolist()
    )


@dataclass(frozen=True)
class Comparison:
    """Whether two recordings are of one singer."""

    cosine: float  # mean over `members`, −1 to 1
    threshold: float  # of the cosine, where misses and false alarms were equally frequent
    probability: float  # of one singer, where it was 0.5 beforehand
    same_singer: bool
    same_recording: bool
    members: tuple[str, ...]
    pairs: int  # of songs on which threshold and probability were fitted

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "members": list(self.members),
            "cosine": self.cosine,
            "threshold": self.threshold,
            "probability": self.probability,
            "same_singer": self.same_singer,
            "same_recording": self.same_recording,
        }


@dataclass(frozen=True)
class SimilarSongs:
    """The songs of the index that are most like a recording."""

    nearest: tuple[SimilarSong, ...]  # most alike first
    members: tuple[str, ...]  # whose embeddings were compared
    songs: int  # of the index

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{"rank": rank, **asdict(song)} for rank, song in enumerate(self.nearest, 1)]
        return {"members": list(self.members), "songs": self.songs, "nearest": rows}


@dataclass(frozen=True)
class Enrollment:
    """Songs of a singer that entered the index."""

    change: Change
    song_ids: tuple[str, ...]
    copies: dict[str, tuple[str, str]]  # of them, which the index held already → song and singer
    notes: dict[str, tuple[str, ...]]  # of single recordings
    skipped: dict[str, str]  # what could not be used, and why
    spelled_alike: tuple[str, ...]  # other singers whose names differ in case, form or spaces only

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class PlacedFiles:
    """New files for the maps of a run, and what was predicted of each."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]  # what they are called on the page
    singers: tuple[str, ...]  # that can be named: the trained ones first, then enrolled ones
    probabilities: NDArray[np.float64]  # (files, singers), each row sums to 1
    batches: tuple[tuple[Store, ...], ...]  # stores of a few files after the other, one a member
    unavailable: tuple[tuple[str, ...], ...]  # per file: members without a part in it

    def stores(self, member: str) -> tuple[list[Store], NDArray[np.int64]]:
        """A member's stores, and the number of each file that is in them, in their order."""
        stores: list[Store] = []
        files: list[int] = []
        first = 0
        for batch in self.batches:
            for store in batch:
                if store.member == member:
                    taken = [
                        row
                        for row in range(len(store.song_ids))
                        if member not in self.unavailable[first + row]
                    ]
                    if taken:
                        stores.append(store.take(np.array(taken)))
                        files += [first + row for row in taken]
            first += len(batch[0].song_ids)
        return stores, np.array(files, dtype=np.int64)

    def taken_by(self, members: Sequence[str]) -> NDArray[np.int64]:
        """Numbers of the files that all of `members` embedded, ascending."""
        everyone = [set(self.stores(member)[1].tolist()) for member in members]
        return np.array(sorted(set.intersection(*everyone)) if everyone else [], dtype=np.int64)
