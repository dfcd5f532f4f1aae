"""What the page and its API ask: a `SingerIdentifier`, with the map and the songs of its run.

Errors are sentences for visitors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from analysis.web.schemas import Limits, MapPoint, Near, Place, Recognised
from embedder.config import SAMPLE_RATE
from embedder.data.audio import Audio, decode_recording
from embedder.errors import Command, UserError, program
from embedder.run import InUse
from ensemble.enrollment import AlreadyEnrolledError, singer_named
from ensemble.identifier import SingerIdentifier, no_message
from ensemble.index.table import OtherFusion
from ensemble.open_set import UNKNOWN
from ensemble.results import Prediction

LONGEST_NAME = 100  # characters of a singer's name
MEGABYTE = 1_000_000
DEFAULT = Limits()

Embeddings = Mapping[str, NDArray[np.float32]]  # member → unit embedding (dim,)


def _nowhere(embeddings: Embeddings) -> Place | None:
    del embeddings
    return None


def _nothing(song_id: str) -> bytes | None:
    del song_id
    return None


@dataclass(frozen=True)
class RunContext:
    """What is known of a run's songs beside the index; nothing, where there is only a bundle."""

    points: tuple[MapPoint, ...] = ()  # the map of songs
    place: Callable[[Embeddings], Place | None] = _nowhere  # where a recording lies on it
    playable: frozenset[str] = frozenset()  # ids of songs that `audio` has
    audio: Callable[[str], bytes | None] = _nothing  # an excerpt (mp3)


class Recogniser:
    """A `Predictor` over an identifier; one recording is placed on the map at a time."""

    def __init__(
        self,
        identifier: SingerIdentifier,
        context: RunContext = RunContext(),
        limits: Limits = DEFAULT,
    ) -> None:
        self._identifier, self._context, self._limits = identifier, context, limits
        self._placing = Lock()

    def singers(self) -> tuple[str, ...]:
        """All singers that can be named, the trained ones first, then the enrolled ones."""
        return self._identifier.singers

    def map_points(self) -> tuple[MapPoint, ...]:
        """The songs of the map."""
        return self._context.points

    def recognise(self, data: bytes, name: str = "") -> Recognised:
        """Who sings in this recording. Nothing of it is kept."""
        del name  # what it is called says nothing
        return self._answer(self._decoded(data))

    def warm_up(self) -> None:
        """Load on a second of noise whatever is loaded on first use."""
        wave = 3000 * np.random.default_rng(0).standard_normal(SAMPLE_RATE)
        self._answer(Audio(wave.astype(np.int16), 1.0))

    def enroll(self, singer: str, data: bytes, name: str = "") -> str:
        """Learn that this is `singer`; only the members' embeddings of it enter the index."""
        who = visitors_name(singer)
        audio = self._decoded(data)
        with self._in_visitors_words():
            found = self._identifier.enroll(who, audio, names=[name])
        copies = "".join(
            f" It is the same recording as {song} of {owner}, which stays in the index too."
            for song, owner in found.copies.values()
        )
        notes = "".join(f" {sentence(note)}" for each in found.notes.values() for note in each)
        end = "" if self._identifier.lasting else " until this program ends"
        return f"{found.change.singer} is enrolled with this recording{end}.{copies}{notes}"

    def undo(self) -> str:
        """Take back the last enrolment of this page that was not taken back yet."""
        with self._in_visitors_words():
            change = self._identifier.undo(own=True)
        return f"Taken back: {change.singer} is no longer enrolled with the last recording."

    def song_audio(self, song_id: str) -> bytes | None:
        """A short excerpt (mp3) of a song of the index; None if there is none of it."""
        return self._context.audio(song_id) if song_id in self._context.playable else None

    def _decoded(self, data: bytes) -> Audio:
        if len(data) > self._limits.max_mb * MEGABYTE:
            raise UserError(f"The file is larger than {self._limits.max_mb:g} MB.")
        return decode_recording(data, self._limits.max_minutes * 60)

    def _answer(self, audio: Audio) -> Recognised:
        found = self._identifier.predict(audio, details=True)
        one = found[0]
        with self._placing:
            place = self._context.place(one.embeddings)
        return Recognised(
            seconds=one.seconds,
            top=one.top,
            unknown=one.unknown,
            confidence=one.confidence,
            threshold=0.0 if found.threshold is None else found.threshold,
            segments=one.segments,
            nearest=self._nearest(one),
            place=place,
            notes=tuple(_notes(one)),
        )

    def _nearest(self, one: Prediction) -> tuple[Near, ...]:
        return tuple(
            Near(
                song_id=song.song_id,
                title=song.song,
                singer=song.singer,
                album=song.album,
                similarity=song.similarity,
                playable=song.song_id in self._context.playable,
            )
            for song in one.nearest
        )

    @contextmanager
    def _in_visitors_words(self) -> Iterator[None]:
        """Why the index cannot be changed, for who did not start the program."""
        try:
            yield
        except OtherFusion:
            raise UserError(
                "The run was fused again since this page was started; start it again to enrol."
            ) from None
        except InUse:
            raise UserError(
                "Another program is changing the index; try again when it has ended."
            ) from None
        except AlreadyEnrolledError:
            raise UserError("This recording is enrolled under this name already.") from None
        except UserError as error:
            raise UserError(sentence(str(error))) from None


def open_recogniser(
    identifier: SingerIdentifier,
    context: RunContext,
    limits: Limits,
    say: Callable[[str], None],
) -> Recogniser:
    """A recogniser that has loaded all it needs; `say` is given what separates vocals.

    Raises:
        UserError: No member can take recordings without vocals.
    """
    identifier.say = identifier.warn = no_message  # from now on visitors are told
    gone = identifier.unavailable
    if len(gone) == len(identifier.members):
        raise UserError(
            f"all members take vocals ({', '.join(gone)}); train a separator: "
            f"{Command('train-separator')}"
        )
    if gone:
        say(f"without a separator these are unavailable: {', '.join(gone)}")
    elif separation := identifier.separation:
        say(separation)
    made = Recogniser(identifier, context, limits)
    with suppress(UserError):
        made.warm_up()
    return made


def _notes(one: Prediction) -> Iterator[str]:
    yield from map(sentence, one.notes)
    if one.nearest and one.nearest[0].same_recording:
        first = one.nearest[0]
        yield f"The index holds this recording: {first.song} by {first.singer}."


def sentence(note: str) -> str:
    """A note with a capital letter and a full stop; a command at its end stands without one."""
    return f"{note[0].upper()}{note[1:]}" + ("" if " ".join(program()) in note else ".")


def visitors_name(singer: str) -> str:
    """A singer's name as the index takes it; `UserError` in a sentence for one that it does not."""
    try:
        name = singer_named(singer, ())
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
