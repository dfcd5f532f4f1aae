"""Who sings? `SingerIdentifier`: the one way in which recordings are answered.

The command line, the page, its API and Python all go through it. It holds a fusion, the members'
indexes of known singers' songs, and the members' `Embedder`s, which are loaded when a recording is
first embedded. torch stays behind those: here are only arrays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np

import embedder
from embedder.data.cache import Progress, no_progress
from embedder.errors import Command, UserError
from embedder.inference.config import detector_fingerprint
from embedder.inference.store import Store
from embedder.run import Run, locked
from ensemble.bundle import bundle_or_run, is_bundle
from ensemble.embedding import EmbeddingJob, sources_of, vocal_stems
from ensemble.enrollment import (
    album_of,
    check_new,
    copies_of,
    enrolled_ids,
    singer_named,
    spelled_like,
    title_of,
)
from ensemble.fusion.fitted import Fusion, check_detector, check_fusion
from ensemble.fusion.pipeline import open_fusion
from ensemble.index.database import LOCK_S
from ensemble.index.members import MemberIndex, NewSong, check_index, songs_of
from ensemble.index.similarity import SAME_RECORDING, cosine, embeddings_of, similar_songs
from ensemble.index.table import Change, copy_table, history, read_indexes
from ensemble.index.table import enroll as add_songs
from ensemble.index.table import undo as take_back
from ensemble.index.table import unenroll as take_out
from ensemble.predictions import notes_on
from ensemble.results import (
    Comparison,
    Enrollment,
    Prediction,
    Predictions,
    SegmentPrediction,
    SimilarSongs,
    best_choices,
)
from ensemble.scoring import (
    SongScores,
    join_scores,
    score_songs,
    segment_ends,
    segments_as_songs,
    unknown_songs,
    without_vocals,
)
from ensemble.verification.verification import VERIFICATION, check_verification

if TYPE_CHECKING:
    from embedder import Embedder
    from embedder.inference.embedder import AudioSource
    from ensemble.embedding import Recordings

NEAREST = 5  # songs that a detailed prediction names
SENT = "recordings"  # album of recordings that come from no folder
Message = Callable[[str], None]


def no_message(text: str) -> None:
    """Say nothing."""


class SingerIdentifier:
    """A fused run, or a bundle, that names singers.

    Threads may share it: the networks are used by one at a time, and changes of the index wait for
    each other; decoding and scoring do not.

    Example:
        >>> identifier = SingerIdentifier.load("runs")
        >>> identifier.predict("song.mp3")[0].singer
        'Aimee Mann'
    """

    def __init__(
        self,
        fusion: Fusion,
        table: Path,
        embedders: Callable[[], Sequence[Embedder]],
        *,
        members: Sequence[str] | None = None,
        verification: Path | None = None,
        packed: bool = False,
        writing: Callable[[], AbstractContextManager[None]] = nullcontext,
        say: Message = no_message,
        warn: Message = no_message,
    ) -> None:
        """Usually `load` is what you want.

        Args:
            fusion: What was fitted on validation songs.
            table: The index's song table.
            embedders: Loads the members that answer, when first asked.
            members: Their names. Default: all of the fusion.
            verification: The file of thresholds for `verify`.
            packed: The table is part of a bundle: a change is made in a copy, and ends with this.
            writing: Keeps other processes from replacing the table while it is written.
            say: Is given what is worth a line while it works; `warn`: what is worth a warning.
        """
        self.fusion, self.members = fusion, tuple(members or fusion.members)
        self.say, self.warn, self.lasting = say, warn, not packed
        self._table, self._writing, self._verification = table, writing, verification
        self._load, self._embedders = embedders, None
        self._loading, self._change = Lock(), Lock()
        self._changes: list[Change] = []  # this object's own enrolments
        self._closing = ExitStack()
        self.indexes = self._read_indexes()

    _embedders: Sequence[Embedder] | None

    @classmethod
    def load(
        cls,
        folder: str | Path = "runs",
        *,
        device: str = "auto",
        members: Sequence[str] | None = None,
        say: Message = no_message,
        warn: Message = no_message,
        packed: bool | None = None,
    ) -> Self:
        """Open a fused run folder, or a bundle.

        Args:
            folder: The run folder, or a bundle: its folder or zip.
            device: auto | cpu | cuda | mps, of the members.
            members: Those that answer, by name. Default: all that were fused, or packed.
            say: Is given what is worth a line while it works; `warn`: what is worth a warning.
            packed: It is a bundle. Default: what it looks like.

        Raises:
            UserError: It is neither, or cannot be used; the message names the command that mends.
        """
        place = Path(folder)
        packed = is_bundle(place) if packed is None else packed
        with ExitStack() as stack:
            run, chosen = stack.enter_context(
                bundle_or_run(None if packed else place, place if packed else None, members)
            )
            fusion, indexes = open_fusion(run, chosen)
            names = list(indexes)
            made = cls(
                fusion,
                run.index_table,
                partial(_embedders_of, run, fusion, names, device),
                members=names,
                verification=run.verification,
                packed=packed,
                writing=nullcontext if packed else partial(locked, run, "fusion", LOCK_S),
                say=say,
                warn=warn,
            )
            made._closing = stack.pop_all()
        return made

    def close(self) -> None:
        """Remove what a bundle was unpacked into. Nothing can be asked afterwards."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def singers(self) -> tuple[str, ...]:
        """All singers that can be named: the trained ones first, then the enrolled ones."""
        return self.first_index.singers

    @property
    def first_index(self) -> MemberIndex:
        """The first member's index; singers and songs are the same in all."""
        return next(iter(self.indexes.values()))

    @property
    def embedders(self) -> Sequence[Embedder]:
        """The members that answer, loaded when first asked for."""
        with self._loading:
            if self._embedders is None:
                self._embedders = self._load()
            return self._embedders

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Members that take vocals, where nothing separates these from recordings."""
        if self.separation:
            return ()
        return tuple(one.name for one in self.embedders if one.stem == "vocals")

    @property
    def separation(self) -> str:
        """In a sentence, what separates the vocals of recordings; "" where nothing does."""
        return self.embedders[0].reader.separation

    def predict(
        self,
        audio: Recordings,
        *,
        names: Sequence[str] | None = None,
        stems_dir: Path | None = None,
        skip_bad: bool = False,
        details: bool = False,
        keep_stores: bool = False,
        batch_size: int = 8,
        progress: Progress = no_progress,
    ) -> Predictions:
        """Who sings in recordings. Nothing of them is kept.

        Args:
            audio: A folder, a file, bytes of a file, a wave (samples,) at 16 kHz, or several.
            names: What the recordings are called. Default: paths without suffix, or numbers.
            stems_dir: With a folder: its vocal stems, in `vocals/` under the same paths. Files
                without a stem are answered without it.
            skip_bad: Recordings that cannot be used are left out, and named in `skipped`.
            details: Each prediction comes with its segments, the nearest songs and embeddings.
            keep_stores: The members' stores are kept in `batches`.
            batch_size: Recordings held at a time; it changes no number.
            progress: Shows how far it is.

        Raises:
            UnusableAudioFilesError: A recording cannot be used, and is not to be left out.
            UserError: No member can take one.
        """
        given = sources_of(audio, names)
        vocals = vocal_stems(self.embedders, given, stems_dir, self.say, self.warn)
        work = EmbeddingJob(given, vocals, skip_bad, batch_size, progress)
        indexes = self.indexes  # as they are now: others may enroll meanwhile
        rows: list[int] = []
        parts: list[SongScores] = []
        batches: list[tuple[Store, ...]] = []
        detailed: dict[int, Callable[[Prediction], Prediction]] = {}
        for numbers, stores in work.run(self.embedders):
            found = score_songs(self.fusion, stores, indexes, without_vocals(stores))
            for row, number in enumerate(numbers) if details else ():
                seconds = work.seconds[number]
                detailed[number] = self._detailed(found, stores, row, seconds, indexes)
            rows += numbers
            parts.append(found)
            if keep_stores:
                batches.append(tuple(stores))
        self._warn_of_notes(work)
        order = np.argsort(rows)
        scores, numbers = join_scores(parts).take(order), [rows[place] for place in order]
        names = [given.names[number] for number in numbers]
        notes = notes_on(
            names, scores.unavailable, (scores.voice == 0) & self.voiced, len(indexes),
            {given.names[number]: found for number, found in work.notes.items()},
        )  # fmt: skip
        unknown = self.fusion.unknown
        strange = (
            np.zeros(len(rows), dtype=np.bool_)
            if unknown is None
            else unknown_songs(unknown, scores, len(self.fusion.singers))
        )
        songs = [
            Prediction(
                name=name,
                top=best_choices(scores, row),
                unknown=bool(strange[row]),
                confidence=float(scores.confidence[row]),
                seconds=work.seconds[number],
                notes=tuple(notes.get(name, ())),
            )
            for row, (name, number) in enumerate(zip(names, numbers, strict=True))
        ]
        if details:
            songs = [detailed[number](song) for number, song in zip(numbers, songs, strict=True)]
        threshold = None if unknown is None else unknown.threshold
        skipped = work.by_label(work.problems)
        return Predictions(tuple(songs), scores, threshold, self.voiced, skipped, tuple(batches))

    def verify(self, first: AudioSource, second: AudioSource) -> Comparison:
        """Whether two recordings are of one singer.

        Raises:
            UserError: The run has no thresholds for it, or a recording cannot be used.
        """
        assert self._verification is not None
        verification = VERIFICATION.read(self._verification)
        check_verification(verification, self.fusion.id)
        stores = self._embed_few([first, second])
        members = [store.member for store in stores]
        calibration = verification.of(members)
        found = cosine(embeddings_of(stores, 0), embeddings_of(stores, 1))
        copy = found > SAME_RECORDING
        if calibration.slope == 0 and not copy:
            self.warn(
                "of this run's validation songs, those of one singer are no more alike than "
                "others: neither the probability nor the threshold says anything"
            )
        return Comparison(
            cosine=found,
            threshold=calibration.threshold,
            probability=1.0 if copy else calibration.probability(found),
            same_singer=copy or found >= calibration.threshold,
            same_recording=copy,
            members=calibration.members,
            pairs=verification.targets + verification.non_targets,
        )

    def similar(self, audio: AudioSource, top: int = 10) -> SimilarSongs:
        """The `top` songs of the index that are most like a recording.

        Raises:
            UserError: The recording cannot be used.
        """
        stores, indexes = self._embed_few([audio]), self.indexes
        for store in stores:
            check_index(indexes[store.member], store.made_from["checkpoint"], store.singers)
        path = Path(audio).resolve().as_posix() if isinstance(audio, str | Path) else ""
        found = similar_songs(embeddings_of(stores, 0), indexes, top, path)
        names = tuple(store.member for store in stores)
        return SimilarSongs(tuple(found), names, len(indexes[names[0]].song_ids))

    def enroll(
        self,
        singer: str,
        audio: Recordings,
        *,
        names: Sequence[str] | None = None,
        skip_bad: bool = False,
        progress: Progress = no_progress,
    ) -> Enrollment:
        """Add recordings of a singer, known or new, to the index, without training.

        Args:
            singer: The name.
            audio: As in `predict`. Of a folder, the folders in it are albums.
            names: Titles of recordings that come from no folder.
            skip_bad: Recordings that cannot be used are left out.
            progress: Shows how far it is.

        Raises:
            UserError: The name is not legal, a recording is in the index already or cannot be used,
                a member cannot take it, or another process is changing the index.
        """
        singer_named(singer, ())  # before anything is read
        first = self.first_index
        who = singer_named(singer, first.singers)
        if self.fusion.gate is None and who not in first.singers[: first.known]:
            raise UserError("this run knows too few singers for others to be enrolled")
        given = sources_of(audio, names, "--audio_dir")
        ids = given.root and enrolled_ids(who, given.names, given.root)
        check_new(ids or (), first)
        there = {one.name for one in self.embedders} - {*self.unavailable}
        if missing := [name for name in self.fusion.members if name not in there]:
            raise UserError(
                f"nobody can be enrolled: {' and '.join(missing)} cannot take recordings without "
                "vocals, and the index needs every member; train a separator: "
                f"{Command('train-separator')}"
            )
        vocals = vocal_stems(self.embedders, given, None, self.say, self.warn)
        work = EmbeddingJob(given, vocals, skip_bad, progress=progress)
        songs: list[NewSong] = []
        for numbers, stores in work.run(self.embedders):
            mine = tuple(
                ids[number]
                if ids
                else f"{who}/{SENT}/{title_of(given.names[number])} {work.fingerprints[number][:6]}"
                for number in numbers
            )
            check_new(mine, first)
            albums = tuple(map(album_of, mine))
            songs += songs_of([replace(store, song_ids=mine, albums=albums) for store in stores])
        self._warn_of_notes(work)
        copies = self._copies(songs)
        with self._change, self._writing():
            change = add_songs(self._editable(), who, songs, self.fusion.id)
            self._changes.append(change)
            self.indexes = self._read_indexes()
        return Enrollment(
            change=change,
            song_ids=tuple(song.song_id for song in songs),
            copies=copies,
            notes=work.by_label(work.notes),
            skipped=work.by_label(work.problems),
            spelled_alike=tuple(spelled_like(who, first.singers)),
        )

    def unenroll(self, singer: str) -> Change:
        """Take the enrolled songs of a singer out of the index.

        Raises:
            UserError: There is no such singer, or another process is changing the index.
        """
        with self._change, self._writing():
            change = take_out(self._editable(), singer)
            self.indexes = self._read_indexes()
        return change

    def undo(self, own: bool = False) -> Change:
        """Take the last change of the index back.

        Args:
            own: Only if this object made it.

        Raises:
            UserError: There is none, or another process is changing the index.
        """
        with self._change:
            if own and not self._changes:
                raise UserError("there is nothing to undo: nobody was enrolled here")
            with self._writing():
                self._read_indexes()  # an index of another fusion is refused
                last = history(self._table)[-1:]
                if own and last != self._changes[-1:]:
                    self._changes.clear()
                    raise UserError(
                        "there is nothing to undo: the index was changed elsewhere since then"
                    )
                change = take_back(self._editable())
                self._changes = [one for one in self._changes if one != change]
                self.indexes = self._read_indexes()
        return change

    @property
    def voiced(self) -> bool:
        """Whether somebody looks for voice in recordings."""
        return bool(self.fusion.listening.detector)

    def _read_indexes(self) -> dict[str, MemberIndex]:
        return read_indexes(self._table, self.members, fusion=self.fusion.id)

    def _editable(self) -> Path:
        """The table that may be changed: of a bundle a copy, which goes when this is closed."""
        if self.lasting or self._table.parent.name.startswith("edited-"):
            return self._table
        scratch = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="edited-"))
        copy = Path(scratch, self._table.name)
        copy_table(self._table, copy, list(self.members))
        self._table = copy
        return copy

    def _embed_few(self, sources: Sequence[AudioSource]) -> list[Store]:
        """The stores of a few recordings, of the members that can take all of them.

        A member that takes vocals, and finds none in one of them, is left out.
        """
        given = sources_of(list(sources))
        vocals = vocal_stems(self.embedders, given, None, self.say, self.warn)
        work = EmbeddingJob(given, vocals, batch_size=len(sources))
        ((_, stores),) = work.run(self.embedders)
        self._warn_of_notes(work)
        for number, label in enumerate(given.labels):
            if self.voiced and min(store.voice()[number] for store in stores) == 0:
                self.warn(f"no voice was found in {label}: the whole recording is used")
        absent = set().union(*without_vocals(stores))
        if not absent or len(absent) == len(stores):
            return stores
        gone = [store.member for store in stores if store.member in absent]
        self.warn(f"found no voice in the vocals and are unavailable: {', '.join(gone)}")
        return [store for store in stores if store.member not in absent]

    def _warn_of_notes(self, work: EmbeddingJob) -> None:
        """What could not be decoded of the recordings of a job."""
        for label, notes in work.by_label(work.notes).items():
            self.warn(f"{label}: {'; '.join(notes)}")

    def _detailed(
        self,
        scores: SongScores,
        stores: Sequence[Store],
        row: int,
        seconds: float,
        indexes: Mapping[str, MemberIndex],
    ) -> Callable[[Prediction], Prediction]:
        """What adds segments, nearest songs and embeddings of a song of the stores."""
        mine = [
            store.take(np.array([row]))
            for store in stores
            if store.member not in scores.unavailable[row]
        ]
        embeddings = embeddings_of(mine, 0)
        parts = segments_as_songs(mine)
        found = score_songs(self.fusion, parts, indexes, without_vocals(parts))
        ends = segment_ends(parts[0], seconds)
        segments = tuple(
            SegmentPrediction(
                float(start), end, float(np.clip(found.voice[n], 0, 1)), best_choices(found, n)
            )
            for n, (start, end) in enumerate(zip(parts[0].segment_start_s, ends, strict=True))
        )
        nearest = tuple(similar_songs(embeddings, indexes, NEAREST))
        return partial(replace, segments=segments, nearest=nearest, embeddings=embeddings)

    def _copies(self, songs: Sequence[NewSong]) -> dict[str, tuple[str, str]]:
        """Of new songs those that the index holds under another name → that song, its singer."""
        first = self.first_index
        new = {
            name: np.stack([song.by_member[name].embedding for song in songs])
            for name in self.indexes
        }
        rows = copies_of(new, {name: index.embeddings for name, index in self.indexes.items()})
        return {
            song.song_id: (first.song_ids[row], first.singers[first.labels[row]])
            for song, row in zip(songs, rows.tolist(), strict=True)
            if row >= 0
        }


def _embedders_of(run: Run, fusion: Fusion, names: Sequence[str], device: str) -> list[Embedder]:
    """Members of a fusion, and its voice detector; `UserError` if others were fused."""
    check_detector(fusion, detector_fingerprint(run))
    loaded = embedder.load_embedders(run, names, fusion.listening, device)
    check_fusion(fusion, {one.name: one.checkpoint for one in loaded})
    return loaded
