"""How commands hear files that nobody prepared: with the members of a fusion, as it heard its own.

Enters: a run and its fusion, then files that can be used. Leaves: `Listeners`, all that is loaded
to hear files, and `Audition`: which members take part, and their stores of the files, batch after
batch. Every command that takes files goes this way:

    listeners = load_listeners(run, fusion, list(indexes), device)
    files, bad, odd = usable_files(files, skip_bad, shown)
    heard = hear(listeners, files, names, root=folder, stems_dir=stems_dir, progress=shown)
    for stores in heard.batches: …
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embedder.cli.options import catalogue_of
from embedder.console import say, warn
from embedder.errors import Command, UserError
from embedder.run import Run

if TYPE_CHECKING:
    from embedder.data.cache import Progress
    from embedder.inference.checkpoint import Member
    from embedder.inference.config import InferenceConfig
    from embedder.inference.detector import Detector
    from embedder.inference.store import Store
    from embedder.models.separators.song_separator import SongSeparator
    from ensemble.fusion.fitted import Fusion


@dataclass(frozen=True, eq=False)
class Listeners:
    """What hears files: members on their device, and the voice detector of the fusion."""

    run: Run
    listening: InferenceConfig
    members: list[Member]
    detector: Detector | None
    device: str  # auto, or as torch names it


@dataclass(frozen=True, eq=False)
class Audition:
    """Files about to be heard. Nothing is embedded before `batches` is asked."""

    members: list[str]  # those that hear, in the order given
    dropped: list[str]  # those that would need vocals, which nobody gives them
    seeks_voice: bool  # whether a detector says how much of each file is sung
    batches: Iterator[list[Store]]  # a store a member, in the order of `members`


def load_listeners(
    run: Run, fusion: Fusion, members: Sequence[str], device: str = "auto"
) -> Listeners:
    """Load members of a fusion and its voice detector.

    Raises:
        UserError: the detector or a member is not the one that the fusion was fitted with, or
            cannot be read.
    """
    from embedder.inference.checkpoint import load_member
    from embedder.inference.config import detector_fingerprint
    from embedder.inference.detector import load_detector
    from embedder.models.network import default_device
    from ensemble.fusion.fitted import check_detector, check_fusion

    check_detector(fusion, detector_fingerprint(run))
    where = default_device(device)
    loaded = [load_member(run, name, where) for name in members]
    check_fusion(fusion, {member.name: member.checkpoint for member in loaded})
    return Listeners(run, fusion.listening, loaded, load_detector(run, where), device)


def hear(
    listeners: Listeners,
    files: Sequence[Path],
    names: Sequence[str],
    *,
    root: Path = Path(),
    stems_dir: Path | None = None,
    takes_stems: bool = True,
    batch_size: int = 8,
    progress: Progress | None = None,
    tell: Callable[[str], None] = say,
) -> Audition:
    """Get ready to hear files that can be used; `names` become the stores' song ids.

    `stems_dir`: vocal stems of the files, under their paths below `root`. Without it, members that
    listen to vocals hear what the run's separator makes of the files, or are dropped.
    `takes_stems`: the command has an option --stems_dir that can be recommended. `tell` is given
    what the user should know, `progress` shows how far it is (None: nothing is shown).

    Raises:
        UserError: a file has no vocal stem, or no member can hear.
    """
    from embedder.data.cache import no_progress
    from embedder.inference.embed_files import embed_files, vocal_stems

    separate = None
    deaf = [m.name for m in listeners.members if m.config.train.recording == "vocals"]
    if deaf and stems_dir is None and (separator := separator_for(listeners, tell)):
        from embedder.inference.separate import separated_vocals

        separate = partial(separated_vocals, separator)
    if not (takes_stems or separate) and len(deaf) == len(listeners.members):
        raise UserError(
            f"all members listen to vocals ({', '.join(deaf)}); train a separator: "
            f"{Command('train-separator')}"
        )
    hearing, vocals, dropped = vocal_stems(
        listeners.members, files, root, stems_dir, separate is not None
    )
    if dropped:
        option = " (--stems_dir)" if takes_stems else ""
        warn(f"without vocal stems{option} these stay silent: {', '.join(dropped)}")
    batches = embed_files(
        hearing,
        files,
        names,
        vocals=vocals,
        separate=separate,
        listening=listeners.listening,
        detector=listeners.detector,
        batch_size=batch_size,
        progress=progress or no_progress,
    )
    seeks_voice = listeners.detector is not None
    return Audition([m.name for m in hearing], dropped, seeks_voice, batches)


@dataclass(frozen=True, eq=False)
class Heard:
    """Files about to be heard, by all members or by those that can hear them."""

    names: list[str]  # of the files, in the order in which the batches come
    batches: Iterator[list[Store]]


def hear_all(
    listeners: Listeners,
    files: Sequence[Path],
    names: Sequence[str],
    *,
    root: Path,
    stems_dir: Path | None,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Heard:
    """As `hear`; files without a stem in `stems_dir` come last, heard as if it were not given.

    Raises `UserError` where these can be heard by no member.
    """
    from itertools import chain

    from embedder.data.stems import find_stems

    groups = [(list(range(len(files))), stems_dir)]
    if stems_dir is not None and any(
        member.config.train.recording == "vocals" for member in listeners.members
    ):
        paths = [file.relative_to(root).as_posix() for file in files]
        found = find_stems(stems_dir, paths)
        there = [number for number, path in enumerate(paths) if "vocals" in found[path]]
        rest = [number for number, path in enumerate(paths) if "vocals" not in found[path]]
        others = any(m.config.train.recording != "vocals" for m in listeners.members)
        # Where nobody could hear the rest, `hear` names what is missing.
        if rest and (others or separator_for(listeners, lambda _: None)):
            groups = [(part, stems) for part, stems in ((there, stems_dir), (rest, None)) if part]
    parts = [
        hear(
            listeners,
            [files[number] for number in part],
            [names[number] for number in part],
            root=root,
            stems_dir=stems,
            batch_size=batch_size,
            progress=progress,
        )
        for part, stems in groups
    ]
    order = [names[number] for part, _ in groups for number in part]
    return Heard(order, chain.from_iterable(part.batches for part in parts))


def separator_for(listeners: Listeners, tell: Callable[[str], None]) -> SongSeparator | None:
    """What makes vocals of files in this run, which `tell` is told; None if there is nothing."""
    from embedder.inference.separate import said_of, separator_of
    from embedder.models.network import default_device

    catalogue = catalogue_of(listeners.run)
    separator = separator_of(listeners.run, catalogue, default_device(listeners.device))
    if separator:
        tell(said_of(listeners.run, catalogue, separator))
    return separator
