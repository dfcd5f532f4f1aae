"""Recordings on their way through the members: which members can take them, and their stores.

Each recording is decoded once. A member that takes vocals needs a recording's vocal stem, or a
separator that makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import embedder
from embedder.catalogue import without_audio_suffix
from embedder.data.audio import Audio, AudioError
from embedder.data.cache import Progress, available_cores, no_progress
from embedder.data.stems import find_stems
from embedder.errors import Command, UserError
from embedder.inference.store import Store
from embedder.text import counted
from ensemble.predictions import list_files, prediction_names

if TYPE_CHECKING:
    from embedder import Embedder, Recording
    from embedder.inference.embedder import AudioSource

    Recordings = AudioSource | Sequence[AudioSource]

T = TypeVar("T")


class UnusableAudioFilesError(UserError):
    """Recordings that cannot be used; `problems` says why, by label."""

    def __init__(self, problems: Mapping[str, str], total: int) -> None:
        super().__init__("; ".join(f"{name}: {why}" for name, why in sorted(problems.items())))
        self.problems, self.total = problems, total


@dataclass(frozen=True, eq=False)
class Sources:
    """Recordings, and what they are called."""

    audio: Sequence[AudioSource]
    names: Sequence[str]  # in predictions
    labels: Sequence[str]  # in messages: paths as they were given
    root: Path | None = None  # the folder that was given, if one was


def sources_of(
    audio: Recordings, names: Sequence[str] | None = None, option: str = "--test_dir"
) -> Sources:
    """Recordings of whatever was given: a folder, or one or several files, bytes and waves.

    Args:
        audio: What was given.
        names: What the recordings are called. Default: paths without suffix, or numbers.
        option: The command line's name for a folder, for its messages.

    Raises:
        UserError: A folder has no audio, or two files in it would have one name.
        ValueError: There is no recording, or another number of names.
    """
    if isinstance(audio, str | Path) and Path(audio).is_dir():
        root = Path(audio)
        files = list_files(root, option)
        names = names or prediction_names(files, root)
        return Sources(files, names, [str(file) for file in files], root)
    given: list[AudioSource] = (
        list(audio) if isinstance(audio, list | tuple) else [cast("AudioSource", audio)]
    )
    paths = [isinstance(one, str | Path) for one in given]
    if names is None:
        plain = [
            without_audio_suffix(Path(str(one)).name) if is_path else f"recording {number}"
            for number, (one, is_path) in enumerate(zip(given, paths, strict=True), 1)
        ]
        names = [
            str(one) if is_path and plain.count(name) > 1 else name
            for one, is_path, name in zip(given, paths, plain, strict=True)
        ]
    if not given or len(names) != len(given):
        raise ValueError(f"{len(given)} recordings with {len(names)} names")
    labels = [
        str(one) if is_path else name
        for one, is_path, name in zip(given, paths, names, strict=True)
    ]
    return Sources(given, names, labels)


def vocal_stems(
    embedders: Sequence[Embedder],
    given: Sources,
    stems_dir: Path | None,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> list[Path | None]:
    """The vocal stem of each recording, where a member takes it and there is one.

    Args:
        embedders: The members.
        given: The recordings; stems belong to those that come from a folder.
        stems_dir: Holds `vocals/`, with paths as in that folder.
        say: Is given what separates the vocals of recordings without a stem.
        warn: Is given the members that are unavailable for these, as nothing separates.

    Raises:
        UserError: No member can take one of the recordings.
    """
    vocals: list[Path | None] = [None] * len(given.audio)
    takers = [one.name for one in embedders if one.stem == "vocals"]
    if not takers:
        return vocals
    if stems_dir is not None and given.root is not None:
        paths = [Path(str(file)).relative_to(given.root).as_posix() for file in given.audio]
        stems = find_stems(stems_dir, paths)
        vocals = [next(iter(stems[path].get("vocals", ())), None) for path in paths]
    bare = [name for name, stem in zip(given.labels, vocals, strict=True) if stem is None]
    if not bare:
        return vocals
    if separation := embedders[0].reader.separation:
        say(separation)
    elif len(takers) < len(embedders):
        how = "" if given.root is None else " (--stems_dir)"
        warn(f"without vocal stems{how} these are unavailable: {', '.join(takers)}")
    elif stems_dir is not None:
        raise UserError(
            f"{counted(len(bare), 'file', ('has', 'have'))} no vocal stem in "
            f"{stems_dir / 'vocals'}, {bare[0]} for one"
        )
    else:
        how = "give the stems of the files with --stems_dir S, in S/vocals, or "
        raise UserError(
            f"all members take vocals ({', '.join(takers)}); {how if given.root else ''}train a "
            f"separator: {Command('train-separator')}"
        )
    return vocals


@dataclass
class EmbeddingJob:
    """Some recordings, embedded batch after batch, and what became of each, by its number."""

    given: Sources
    vocals: Sequence[Path | None]
    skip_bad: bool = False  # those that cannot be used are left out
    batch_size: int = 8  # recordings decoded at a time; twice as many are held
    progress: Progress = no_progress
    problems: dict[int, str] = field(default_factory=dict)  # why it cannot be used
    notes: dict[int, tuple[str, ...]] = field(default_factory=dict)  # what was not decoded
    seconds: dict[int, float] = field(default_factory=dict)
    fingerprints: dict[int, str] = field(default_factory=dict)  # of its samples

    def by_label(self, found: Mapping[int, T]) -> dict[str, T]:
        """What became of recordings, by what they are called in messages."""
        return {self.given.labels[number]: value for number, value in found.items()}

    def run(self, embedders: Sequence[Embedder]) -> Iterator[tuple[list[int], list[Store]]]:
        """Numbers of recordings, and their stores of all members that can take them.

        One batch is decoded, in threads, while the one before it is embedded. As soon as one
        recording cannot be used, and is not to be left out, the others are only decoded, to name
        all that are bad. No number depends on the batches.

        Raises:
            UnusableAudioFilesError: Recordings cannot be used; with `skip_bad`, none can.
            UserError: A vocal stem cannot be decoded.
        """
        reader, total = embedders[0].reader, len(self.given.audio)
        size = self.batch_size
        batches = [range(a, min(a + size, total)) for a in range(0, total, size)]
        with ThreadPoolExecutor(available_cores()) as pool:

            def start(batch: range) -> list[tuple[Future[Audio], Future[Audio] | None]]:
                return [
                    (
                        pool.submit(embedder.decode, self.given.audio[i]),
                        pool.submit(embedder.decode, stem, check=False) if stem else None,
                    )
                    for i in batch
                    for stem in [self.vocals[i]]
                ]

            coming = start(batches[0])
            for number, batch in enumerate(self.progress(batches, len(batches), "embedding")):
                here = coming
                coming = start(batches[number + 1]) if number + 1 < len(batches) else []
                groups: dict[bool, dict[int, Recording]] = {}
                for row, (mix, stem) in zip(batch, here, strict=True):
                    try:
                        audio = mix.result()
                    except AudioError as error:
                        self.problems[row] = f"{error.kind}: {error.reason}"
                        continue
                    if self._still_embeds():
                        one = reader.prepare(audio, stem.result() if stem else None)
                        self.seconds[row], self.fingerprints[row] = one.seconds, one.fingerprint
                        if one.notes:
                            self.notes[row] = one.notes
                        groups.setdefault("vocals" in one.stems, {})[row] = one
                del here
                for group in groups.values() if self._still_embeds() else ():
                    recordings = list(group.values())
                    yield (
                        list(group),
                        [
                            one.embed(recordings, [str(row) for row in group])
                            for one in embedders
                            if one.stem in recordings[0].stems
                        ],
                    )
        if not self._still_embeds() or len(self.problems) == total:
            raise UnusableAudioFilesError(self.by_label(self.problems), total)

    def _still_embeds(self) -> bool:
        return self.skip_bad or not self.problems
