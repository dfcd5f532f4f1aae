"""Files that nobody prepared to embeddings and logits, a few at a time.

Enters: members, the files of a folder, and the files' vocal stems or what separates them. Leaves:
which files can be used, and their stores, batch after batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.data.audio import AudioError, decode, read_audio, unusable
from embedder.data.cache import Progress, available_cores, no_progress
from embedder.data.stems import find_stems
from embedder.errors import Command, UserError
from embedder.inference.checkpoint import Member
from embedder.inference.config import InferenceConfig
from embedder.inference.detector import Detector, heard_voice
from embedder.inference.embed import AS_TRAINED, check_listening, embed_wave, store_of
from embedder.inference.store import Store

Separate = Callable[[NDArray[np.int16]], NDArray[np.int16]]  # mixture → vocals, (samples,), 16 kHz


def check_files(
    files: Sequence[Path], progress: Progress = no_progress
) -> tuple[dict[Path, str], dict[Path, tuple[str, ...]]]:
    """Decode every file once: what is wrong with those that cannot be used, notes on the others."""

    def checked(path: Path) -> tuple[str, tuple[str, ...]]:
        try:
            audio = read_audio(path)
        except AudioError as error:
            return f"{error.kind}: {error.reason}", ()
        wrong = unusable(audio.seconds, audio.peak)
        return ": ".join(wrong).replace("short:", "too short:") if wrong else "", audio.notes

    with ThreadPoolExecutor(available_cores()) as pool:
        found = pool.map(checked, files)
        shown = list(progress(zip(files, found, strict=True), len(files), "checking files"))
    bad = {path: reason for path, (reason, _) in shown if reason}
    return bad, {path: notes for path, (reason, notes) in shown if notes and not reason}


def usable_files(
    files: Sequence[Path], skip_bad: bool, progress: Progress = no_progress
) -> tuple[list[Path], dict[Path, str], dict[Path, tuple[str, ...]]]:
    """The files that can be used, what is wrong with each of the others, and notes on some.

    Raises:
        UserError: naming all bad files, unless `skip_bad`; or if no file is left.
    """
    bad, notes = check_files(files, progress)
    if bad and (not skip_bad or len(bad) == len(files)):
        listed = "; ".join(f"{path}: {reason}" for path, reason in sorted(bad.items()))
        advice = "" if len(bad) == len(files) else "; --skip_bad leaves them out"
        raise UserError(f"{len(bad)} of {len(files)} files cannot be used: {listed}{advice}")
    return [path for path in files if path not in bad], bad, notes


def embed_files(
    members: Sequence[Member],
    files: Sequence[Path],
    names: Sequence[str],
    *,
    vocals: Sequence[Path] | None = None,
    separate: Separate | None = None,
    listening: InferenceConfig = AS_TRAINED,
    detector: Detector | None = None,
    batch_size: int = 8,
    progress: Progress = no_progress,
) -> Iterator[list[Store]]:
    """Stores of `batch_size` files after the other, one for each member, in the members' order.

    `vocals`: the files' vocal stems, for members that listen to them; where there are none,
    `separate` makes them of the files. `detector`: the one that `listening` names. What is held
    does not grow with the number of files, and no number depends on `batch_size`.

    Raises:
        AudioError: a file cannot be decoded.
        ValueError: a member listens to vocals and there are none.
    """
    check_listening(listening, detector)
    separated = separate if vocals is None else None
    stems = {"mix": files, "vocals": files if separated else vocals}
    wanted = sorted({member.config.train.recording for member in members})
    sources = {stem: paths for stem in wanted if (paths := stems[stem]) is not None}
    if len(sources) < len(wanted):
        raise ValueError("a member listens to vocals, and there are none")
    batches = [range(a, min(a + batch_size, len(files))) for a in range(0, len(files), batch_size)]
    with ThreadPoolExecutor(available_cores()) as pool:

        def begin(batch: range) -> dict[str, list[Future[NDArray[np.int16]]]]:
            return {
                s: [pool.submit(decode, paths[i]) for i in batch] for s, paths in sources.items()
            }

        ahead = begin(batches[0]) if batches else {}
        for number, batch in enumerate(progress(batches, len(batches), "embedding")):
            waves = {stem: [future.result() for future in ahead[stem]] for stem in sources}
            ahead = begin(batches[number + 1]) if number + 1 < len(batches) else {}
            if separated and "vocals" in waves:
                waves["vocals"] = [separated(wave) for wave in waves["vocals"]]
            yield embed_waves(members, waves, [names[i] for i in batch], listening, detector)


def embed_waves(
    members: Sequence[Member],
    waves: Mapping[str, Sequence[NDArray[np.int16]]],
    names: Sequence[str],
    listening: InferenceConfig = AS_TRAINED,
    detector: Detector | None = None,
) -> list[Store]:
    """Stores of decoded recordings, one for each member; `names` become their song ids.

    `waves`: "mix" and "vocals", each recording's samples (samples,) at 16 kHz, as far as members
    listen to them. `detector`: the one that `listening` names.
    """
    check_listening(listening, detector)
    voices = {s: [heard_voice(detector, wave, s) for wave in waves[s]] for s in waves}
    return [
        store_of(
            member,
            "",
            [
                embed_wave(member, wave, listening, active)
                for wave, active in zip(waves[stem], voices[stem], strict=True)
            ],
            song_ids=names,
            albums=[""] * len(names),
            labels=[-1] * len(names),
            made_from=listening.made_from(member.config),
        )
        for member in members
        for stem in [member.config.train.recording]
    ]


def vocal_stems(
    members: Sequence[Member],
    files: Sequence[Path],
    root: Path,
    stems_dir: Path | None,
    separated: bool = False,
) -> tuple[list[Member], list[Path] | None, list[str]]:
    """The members that can hear these files, the files' vocal stems, and the members that cannot.

    Stems lie in `stems_dir/vocals` under the files' own paths, with any audio suffix, or as demucs
    or spleeter writes them. Without `stems_dir` the members that listen to vocals are left out,
    unless the files will be `separated`.

    Raises:
        UserError: a file has no stem there, or no member is left.
    """
    deaf = [member.name for member in members if member.config.train.recording == "vocals"]
    if not deaf or (separated and stems_dir is None):
        return list(members), None, []
    if stems_dir is None:
        left = [member for member in members if member.name not in deaf]
        if not left:
            raise UserError(
                f"all members listen to vocals ({', '.join(deaf)}); give the stems of the files "
                "with --stems_dir S, in S/vocals, or train a separator: "
                f"{Command('train-separator')}"
            )
        return left, None, deaf
    names = [file.relative_to(root).as_posix() for file in files]
    found = find_stems(stems_dir, names)
    missing = [name for name in names if "vocals" not in found[name]]
    if missing:
        raise UserError(
            f"{len(missing)} files have no vocal stem in {stems_dir / 'vocals'}, {missing[0]} "
            "for one"
        )
    return list(members), [found[name]["vocals"][0] for name in names], []
