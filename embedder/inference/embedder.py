"""Audio in, embeddings and logits out: `Embedder`, one trained member.

The members of one run share a `RecordingReader`: each recording is decoded once, its vocals are
separated once, and where someone sings in it is looked for once, however many members embed it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import fingerprint
from embedder.catalogue import Catalogue, read_catalogue
from embedder.config import SAMPLE_RATE
from embedder.data.audio import Audio, AudioError, Samples, read_audio, to_int16, unusable
from embedder.data.voice_activity import Active
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member
from embedder.inference.config import InferenceConfig, detector_fingerprint
from embedder.inference.detector import Detector, active_frames, load_detector
from embedder.inference.embed import AS_TRAINED, check_listening, embed_wave, store_of
from embedder.inference.store import Store
from embedder.models.network import default_device
from embedder.run import Run

if TYPE_CHECKING:
    import torch

    from embedder.models.separators.song_separator import SongSeparator

T = TypeVar("T")
# A file, its bytes, or a mono wave (samples,) at 16 kHz: int16, or floats from −1 to 1.
AudioSource = Path | str | bytes | NDArray[np.int16] | NDArray[np.floating] | Audio


@dataclass(frozen=True, eq=False)
class Recording:
    """A decoded recording, as members take it."""

    stems: Mapping[str, Samples]  # "mix", and "vocals" where there are some: (samples,) at 16 kHz
    activity: Mapping[str, Active | None]  # by stem: (frames,), 20 a second; None: not looked for
    notes: tuple[str, ...] = ()  # what could not be decoded

    @property
    def seconds(self) -> float:
        """Its length, s."""
        return len(self.stems["mix"]) / SAMPLE_RATE

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of its samples."""
        return fingerprint(self.stems["mix"].tobytes())


def decode(source: AudioSource, check: bool = True) -> Audio:
    """Mono samples at 16 kHz of whatever a recording is given as.

    Args:
        source: See `AudioSource`; what is decoded already passes through.
        check: What is too short or silent is refused.

    Raises:
        AudioError: It cannot be read, or is too short or silent.
        ValueError: An array is not mono.
    """
    if isinstance(source, Audio):
        return source
    if isinstance(source, np.ndarray):
        if source.ndim != 1:
            raise ValueError(f"need mono samples (samples,), not {source.shape}")
        wave = to_int16(source.astype(np.float32)) if source.dtype.kind == "f" else source
        audio = Audio(wave.astype(np.int16, copy=False), len(wave) / SAMPLE_RATE)
    else:
        audio = read_audio(Path(source) if isinstance(source, str) else source)
    wrong = unusable(audio.seconds, audio.peak) if check else None
    if wrong:
        name = source if isinstance(source, str | Path) else "the recording"
        raise AudioError(name, {"short": "too short"}.get(wrong[0], wrong[0]), wrong[1])
    return audio


@dataclass(eq=False)
class RecordingReader:
    """What all members of a run need of a recording, made once.

    Threads may share a reader: `lock` keeps two of them from using the networks at once.
    """

    stems: Collection[str]  # those that members take: "mix", "vocals"
    detector: Detector | None = None
    run: Run | None = None  # whose separator makes vocals of recordings; None: nothing does
    device: str = "cpu"
    lock: RLock = field(default_factory=RLock)

    @cached_property
    def separator(self) -> SongSeparator | None:
        """What separates vocals in this run, loaded when it is first needed; None: nothing."""
        if self.run is None or "vocals" not in self.stems:
            return None
        from embedder.inference.separate import separator_of

        return separator_of(self.run, self._catalogue, default_device(self.device))

    @property
    def separation(self) -> str:
        """In a sentence, what separates the vocals of recordings; "" where nothing does."""
        if self.run is None or self.separator is None:
            return ""
        from embedder.inference.separate import separation_note

        return separation_note(self.run, self._catalogue, self.separator)

    @property
    def _catalogue(self) -> Catalogue:
        assert self.run is not None
        return read_catalogue(self.run.catalogue)

    def prepare(self, mix: Audio, vocals: Audio | None = None) -> Recording:
        """A decoded recording with its vocals, given or separated, and where someone sings.

        Where members take vocals and there are none, and nothing separates them, the recording has
        none either.
        """
        with self.lock:
            stems = {"mix": mix.samples}
            if vocals is not None and "vocals" in self.stems:
                stems["vocals"] = vocals.samples
            elif self.separator is not None:
                from embedder.inference.separate import separated_vocals

                stems["vocals"] = separated_vocals(self.separator, mix.samples)
            active = {
                stem: active_frames(self.detector, wave, stem)
                for stem, wave in stems.items()
                if stem in self.stems
            }
        return Recording(stems, active, mix.notes)


@dataclass(frozen=True, eq=False)
class Embedder:
    """A trained member.

    Example:
        >>> embedder = Embedder.load("runs", "ecapa-aam")
        >>> store = embedder.inference.embed(["one.mp3", "two.wav"])
        >>> store.embeddings.shape  # (songs, dim), of unit length
        (2, 192)
    """

    member: Member
    reader: RecordingReader
    config: InferenceConfig = AS_TRAINED

    def __post_init__(self) -> None:
        check_listening(self.config, self.reader.detector)

    @classmethod
    def load(cls, folder: str | Path, name: str | None = None, device: str = "auto") -> Embedder:
        """Load a member from its own folder, or from a run folder.

        Args:
            folder: `runs/members/<name>`, or `runs` with the member's name.
            name: May be left out where the run has one member only.
            device: auto | cpu | cuda | mps.

        Raises:
            UserError: There is no such member, or its files cannot be used.
        """
        place = Path(folder)
        if name is None and (place / "model.safetensors").is_file():
            place = place.resolve()
            run, name = Run(place.parent.parent, networks=place.parent.name), place.name
        else:
            run = Run(place)
            names = run.member_names()
            if name is None and len(names) != 1:
                raise UserError(f"{place} has {len(names)} members; name one: {', '.join(names)}")
            name = name or names[0]
        config = InferenceConfig(detector=detector_fingerprint(run))
        return load_embedders(run, [name], config, device)[0]

    @property
    def name(self) -> str:
        """The member's name."""
        return self.member.name

    @property
    def stem(self) -> str:
        """What it takes of a recording: "mix" or "vocals"."""
        return self.member.config.train.recording

    @property
    def checkpoint(self) -> str:
        """Fingerprint of its weights."""
        return self.member.checkpoint

    @property
    def singers(self) -> tuple[str, ...]:
        """Whom it was trained on, in the order of its logits."""
        return self.member.singers

    def embed(
        self,
        audio: AudioSource | Recording | Sequence[AudioSource | Recording],
        names: Sequence[str] | None = None,
    ) -> Store:
        """Embeddings and logits of recordings, each cut into overlapping segments.

        Args:
            audio: Paths, bytes of audio files, waves (samples,) at 16 kHz, or what the reader
                prepared already; one or several.
            names: What the recordings are called. Default: their paths, or numbers.

        Returns:
            A `Store`: `embeddings (songs, dim)` and `segment_embeddings (segments, dim)` of unit
            length, `segment_logits (segments, singers)` (None without a classification head),
            `segment_start_s (segments,)` in seconds, `segment_song (segments,)`, and
            `segment_weight (segments,)`, the share of voice, 0 to 1.

        Raises:
            UserError: A recording cannot be used, or has no vocals and the member takes those.
        """
        given: list[AudioSource | Recording] = as_list(audio)
        recordings = [
            one if isinstance(one, Recording) else self.reader.prepare(decode(one)) for one in given
        ]
        if any(self.stem not in recording.stems for recording in recordings):
            raise UserError(f"member {self.name} takes vocals, and nothing separates them here")
        with self.reader.lock:
            vectors = [
                embed_wave(
                    self.member, one.stems[self.stem], self.config, one.activity.get(self.stem)
                )
                for one in recordings
            ]
        return store_of(
            self.member, "", vectors, song_ids=names or _names(given),
            albums=[""] * len(given), labels=[-1] * len(given),
            made_from=self.config.made_from(self.member.config),
        )  # fmt: skip


def as_list(audio: T | Sequence[T]) -> list[T]:
    """One recording, or several, as a list; bytes and arrays are one."""
    if isinstance(audio, list | tuple):
        return list(audio)
    return [cast("T", audio)]


def _names(given: Iterable[object]) -> list[str]:
    """Paths as they are, each once; numbers for the rest."""
    names: dict[str, None] = {}
    for number, one in enumerate(given, 1):
        name = str(one) if isinstance(one, str | Path) else f"recording {number}"
        names[name if name not in names else f"{name} ({number})"] = None
    return list(names)


def load_embedders(
    run: Run, names: Sequence[str], config: InferenceConfig, device: str = "auto"
) -> list[Embedder]:
    """Members of a run that embed recordings alike; what they have in common is loaded once.

    Raises:
        UserError: A member, or the voice detector, cannot be read.
    """
    where: torch.device = default_device(device)
    members = [load_member(run, name, where) for name in names]
    stems = {member.config.train.recording for member in members}
    detector = load_detector(run, where) if config.detector else None
    reader = RecordingReader(stems, detector, run, device)
    return [Embedder(member, reader, config) for member in members]
