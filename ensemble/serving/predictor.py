"""A fusion that was loaded once and answers one recording after the other.

Enters: a fusion, its index on disk, what hears recordings, and what is known of the run's songs
beside the index. Leaves: `FusionPredictor`, a `Predictor`. Hearing is handed in: no torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.errors import Command, UserError
from embedder.inference.store import Store
from embedder.metrics import ranking
from embedder.run import InUse
from ensemble.answering import Answered, answer, strangers
from ensemble.enrolled.enrolling import album_of, check_new, copies_of, singer_named
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fitted import Fusion
from ensemble.index.members import MemberIndex, songs_of
from ensemble.index.table import Change, OtherFusion, history, read_indexes
from ensemble.index.table import enroll as add
from ensemble.index.table import undo as take_back
from ensemble.notes import notes_on
from ensemble.open_set import UNKNOWN
from ensemble.serving.answers import Choice, Limits, MapPoint, Moment, Near, Place, Recognised
from ensemble.serving.hearing import Hear, Recording, by_segment, ends_of
from ensemble.similarity import SAME_RECORDING, embeddings_of, similar_songs

BEST = 3  # singers named
NEAREST = 5  # songs named
LONGEST_NAME = 100  # characters of a singer's name
MEGABYTE = 1_000_000
DEFAULT = Limits()
SENT = "recordings"  # album of what visitors enrol

Embeddings = Mapping[str, NDArray[np.float32]]  # member → unit embedding (dim,)


def _nowhere(embeddings: Embeddings) -> Place | None:
    del embeddings
    return None


def _nothing(song_id: str) -> bytes | None:
    del song_id
    return None


@dataclass(frozen=True)
class Beside:
    """What is known of a run's songs beside the index; nothing, where there is only a bundle."""

    points: tuple[MapPoint, ...] = ()  # the map of songs
    place: Callable[[Embeddings], Place | None] = _nowhere  # where a recording lies on it
    playable: frozenset[str] = frozenset()  # ids of songs that `audio` has
    audio: Callable[[str], bytes | None] = _nothing  # an excerpt (mp3)


class FusionPredictor:
    """`Predictor` of a fusion. One lock: recordings are heard one at a time, in turn."""

    def __init__(
        self,
        fusion: Fusion,
        table: Path,
        hear: Hear,
        *,
        members: Sequence[str] | None = None,
        beside: Beside = Beside(),
        limits: Limits = DEFAULT,
        lasting: bool = True,
        writing: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`table` is the index that is read, and written by `enroll`; `members` of it answer.

        `lasting`: what is enrolled is still there when the program has ended. `writing` gives what
        keeps other processes from replacing the index while it is written.
        """
        self._fusion, self._table, self._hear = fusion, table, hear
        self._members = list(members or fusion.members)
        self._beside, self._limits, self._lasting = beside, limits, lasting
        self._writing = writing
        self._indexes = self._read()
        self._changes: list[Change] = []  # this predictor's own enrolments
        self._lock = Lock()

    def singers(self) -> tuple[str, ...]:
        """All singers that can be named, the trained ones first, then the enrolled ones."""
        return self._first.singers

    def map_points(self) -> tuple[MapPoint, ...]:
        """The songs of the map."""
        return self._beside.points

    def recognise(self, data: bytes, name: str = "") -> Recognised:
        """Who sings in this recording. Nothing of it is kept."""
        del name  # what it is called says nothing
        self._check_size(data)
        with self._lock:
            heard = self._hear(data)
            answered = answer(self._fusion, self._indexes, [heard.stores])
            taking_part = [s for s in heard.stores if s.member not in answered.silent[0]]
            embeddings = embeddings_of(taking_part, 0)
            nearest = self._nearest(embeddings)
            threshold = self._fusion.unknown
            trained = len(self._fusion.singers)
            return Recognised(
                seconds=heard.seconds,
                top=best(answered, 0),
                unknown=bool(
                    threshold is not None and strangers(threshold, answered.answers, trained)[0]
                ),
                confidence=float(answered.answers.confidence[0]),
                threshold=0.0 if threshold is None else threshold.threshold,
                moments=self._moments(taking_part, heard.seconds),
                nearest=nearest,
                place=self._beside.place(embeddings),
                notes=tuple(self._notes(answered, heard, nearest)),
            )

    def enroll(self, singer: str, data: bytes, name: str = "") -> str:
        """Learn that this is `singer`; only what the members made of it enters the index."""
        named(singer)
        self._check_size(data)
        with self._lock:
            first = self._first
            who = named(singer, first.singers)
            if self._fusion.gate is None and who not in first.singers[: first.known]:
                raise UserError("This run knows too few singers for others to be enrolled.")
            heard = self._hear(data)
            missing = [m for m in self._fusion.members if m not in {s.member for s in heard.stores}]
            if missing:
                raise UserError(
                    f"Nobody can be enrolled: {' and '.join(missing)} cannot hear a recording "
                    f"without vocals; train a separator: {Command('train-separator')}"
                )
            song_id = f"{who}/{SENT}/{shown(name)} {heard.sound[:6]}"
            check_new_recording(song_id, first)
            stores = [
                replace(store, song_ids=(song_id,), albums=(album_of(song_id),))
                for store in heard.stores
            ]
            copy = self._copy(stores)
            with self._changing():
                self._changes.append(add(self._table, who, songs_of(stores), self._fusion.id))
                self._indexes = self._read()
        end = "" if self._lasting else " until this program ends"
        notes = "".join(f" {sentence(note)}" for note in heard.notes)
        return f"{who} is enrolled with this recording{end}.{copy}{notes}"

    def undo(self) -> str:
        """Take back the last enrolment of this predictor that was not taken back yet."""
        with self._lock:
            if not self._changes:
                raise UserError("There is nothing to undo: nobody was enrolled here.")
            with self._changing():
                self._read()  # an index of another fusion is refused
                last = history(self._table)
                if not last or last[-1] != self._changes[-1]:
                    self._changes.clear()
                    raise UserError(
                        "There is nothing to undo: the index was changed elsewhere since then."
                    )
                change = take_back(self._table)
                self._changes.pop()
                self._indexes = self._read()
        return f"Taken back: {change.singer} is no longer enrolled with the last recording."

    def song_audio(self, song_id: str) -> bytes | None:
        """A short excerpt (mp3) of a song of the index; None if there is none of it."""
        return self._beside.audio(song_id) if song_id in self._beside.playable else None

    def _read(self) -> dict[str, MemberIndex]:
        return read_indexes(self._table, self._members, fusion=self._fusion.id)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The index may be changed inside; in a visitor's words why not, where it may not."""
        try:
            with self._writing():
                yield
        except OtherFusion:
            raise UserError(
                "The run was fused again since this page was started; start it again to enrol."
            ) from None
        except InUse:
            raise UserError(
                "Another program is changing the index; try again when it has ended."
            ) from None

    @property
    def _first(self) -> MemberIndex:
        return next(iter(self._indexes.values()))

    def _check_size(self, data: bytes) -> None:
        if len(data) > self._limits.max_mb * MEGABYTE:
            raise UserError(f"The file is larger than {self._limits.max_mb:g} MB.")

    def _nearest(self, embeddings: Embeddings) -> tuple[Near, ...]:
        return tuple(
            Near(
                song_id=song.song_id,
                title=song.song,
                singer=song.singer,
                album=song.album,
                similarity=song.similarity,
                playable=song.song_id in self._beside.playable,
            )
            for song in similar_songs(embeddings, self._indexes, NEAREST)
        )

    def _moments(self, stores: Sequence[Store], seconds: float) -> tuple[Moment, ...]:
        """What the fusion says of every segment, as if it were a recording."""
        segments = by_segment(stores)
        answered = answer(self._fusion, self._indexes, [segments])
        ends = ends_of(segments[0], seconds)
        found = []
        for row, (start, end) in enumerate(zip(segments[0].segment_start_s, ends, strict=True)):
            voice = float(np.clip(answered.voice[row], 0, 1))
            found.append(Moment(float(start), end, voice, best(answered, row)))
        return tuple(found)

    def _notes(self, answered: Answered, heard: Recording, nearest: Sequence[Near]) -> list[str]:
        voiced = heard.stores[0].made_from.get("activity", "none") != "none"
        unsung = (answered.voice == 0) & voiced
        known = {SENT: heard.notes}
        said = notes_on([SENT], answered.silent, unsung, len(self._indexes), known).get(SENT, [])
        notes = [sentence(note) for note in said]
        if nearest and nearest[0].similarity > SAME_RECORDING:
            first = nearest[0]
            notes.append(f"The index holds this recording: {first.title} by {first.singer}.")
        return notes

    def _copy(self, stores: Sequence[Store]) -> str:
        """A sentence, after a space, if the index holds the recording under another name."""
        new = {store.member: store.embeddings for store in stores}
        (row,) = copies_of(new, {n: i.embeddings for n, i in self._indexes.items()}).tolist()
        if row < 0:
            return ""
        first = self._first
        return (
            f" It is the same recording as {first.song_ids[row]} of "
            f"{first.singers[first.labels[row]]}, which stays in the index too."
        )


def sentence(note: str) -> str:
    """A note with a capital letter and a full stop."""
    return f"{note[0].upper()}{note[1:]}."


def best(answered: Answered, song: int) -> tuple[Choice, ...]:
    """The likeliest singers of a song of the answer."""
    logs: NDArray[Any] = answered.answers.scores[FUSED][song]
    return tuple(
        Choice(answered.answers.singers[label], float(np.exp(logs[label])))
        for label in ranking(logs[None])[0, :BEST].tolist()
    )


def named(singer: str, singers: Sequence[str] = ()) -> str:
    """A singer's name as the index takes it; `UserError` in a sentence for one that it does not."""
    try:
        name = singer_named(singer, singers)
    except UserError:
        name = singer.strip()
        if name == UNKNOWN:
            reason = f"“{name}” is what answers call nobody; choose another name."
        elif "/" in name:
            reason = "A singer's name cannot hold “/”; write another sign, as in “AC-DC”."
        else:
            reason = "Give the singer's name, in one line."
        raise UserError(reason) from None
    if len(name) > LONGEST_NAME:
        raise UserError(f"A singer's name has {LONGEST_NAME} characters at most.")
    return name


def shown(name: str) -> str:
    """A recording's name from outside as a title: no folders, no suffix, one short line."""
    title = PurePosixPath(name.replace("\\", "/")).stem
    kept = "".join(letter for letter in title if letter.isprintable()).strip()[:60].strip()
    return kept or "recording"


def check_new_recording(song_id: str, index: MemberIndex) -> None:
    """Raise `UserError` in a sentence if the recording was enrolled under this name before."""
    try:
        check_new([song_id], index)
    except UserError:
        raise UserError("This recording is enrolled under this name already.") from None
