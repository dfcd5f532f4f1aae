"""What the page and its API say of one recording, and what they may ask for: shapes, no work.

Names of singers are as the songs' folders spell them; times are in seconds from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ensemble.results import Choice, SegmentPrediction


@dataclass(frozen=True)
class Near:
    """A song of the index that is like the recording."""

    song_id: str  # as it stands in the index; what `Predictor.song_audio` takes
    title: str  # its file's name without folder and suffix
    singer: str
    album: str  # "" where unknown
    similarity: float  # mean over members of the cosine, -1 to 1
    playable: bool  # `Predictor.song_audio` has an excerpt of it


@dataclass(frozen=True)
class Place:
    """Where a recording lies on the map of songs, in the map's own unit."""

    x: float
    y: float


@dataclass(frozen=True)
class Recognised:
    """The answer to one recording."""

    seconds: float  # its length, above 0
    top: tuple[Choice, ...]  # the best three (all, if there are fewer), likeliest first
    unknown: bool  # it is taken to be of none of the singers
    confidence: float  # how sure the experts are together, 0 to 1; not a probability
    threshold: float  # confidence below which a trained singer's name is not believed, 0 to 1
    segments: tuple[SegmentPrediction, ...]  # in time order
    nearest: tuple[Near, ...]  # up to five, most alike first
    place: Place | None  # None where there is no map
    notes: tuple[str, ...]  # sentences about the recording, for instance that no voice was found


@dataclass(frozen=True)
class MapPoint:
    """A song of the finished map."""

    x: float
    y: float
    singer: str
    title: str
    album: str  # "" where unknown


@dataclass(frozen=True)
class Limits:
    """How large a recording may be."""

    max_mb: float = 50  # of the file as it was sent, in units of 1,000,000 bytes; above 0
    max_minutes: float = 15  # of sound, above 0


class Predictor(Protocol):
    """Answers recordings. All calls may come from several threads.

    `data` is a whole audio file (wav, mp3, flac, ogg, m4a, webm). `name` is only shown, never
    opened. Each method raises `UserError` with one sentence for what cannot be answered.
    """

    def singers(self) -> tuple[str, ...]:
        """All singers that can be named, the trained ones first, then the enrolled ones."""
        ...

    def map_points(self) -> tuple[MapPoint, ...]:
        """The songs of the map, none where there is no map."""
        ...

    def recognise(self, data: bytes, name: str = "") -> Recognised:
        """Who sings in this recording. Nothing of it is kept."""
        ...

    def enroll(self, singer: str, data: bytes, name: str = "") -> str:
        """Learn that this is `singer`, from now on and after a restart; a sentence about it."""
        ...

    def undo(self) -> str:
        """Take the last enrolment back; a sentence about it."""
        ...

    def song_audio(self, song_id: str) -> bytes | None:
        """A short excerpt (mp3) of a song of the index; None if there is none of it."""
        ...
