"""Songs to embeddings and logits, on a fixed grid of segments.

Enters: members, and the decoded songs of a split or the files of a folder. Leaves: a `Store` per
split on disk, or stores of a few files at a time.
The network always hears `CHUNK` segments of one song at once, the rest filled with silence: a
song's numbers depend neither on its neighbours nor on how many songs are handed over together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedder.aggregate import song_embedding
from embedder.artifacts import Run
from embedder.catalogue import Catalogue, Song
from embedder.checkpoint import Member, load_member
from embedder.config import SAMPLE_RATE
from embedder.data.activity import Active, voice_share
from embedder.data.audio import AudioError, decode
from embedder.data.cache import AudioCache
from embedder.data.decoding import Progress, available_cores, no_progress
from embedder.data.segments import cut
from embedder.data.stems import find_stems
from embedder.detector import Detector, Voices, heard_voice, load_detector
from embedder.errors import UserError
from embedder.listening import Listening
from embedder.model.network import default_device, margin_free_logits
from embedder.store import Store, write_store

CHUNK = 8  # segments
SHORTEST_S = 0.5  # a file to predict must have this much, s
AS_TRAINED = Listening()  # each member's own grid, all segments alike
Separate = Callable[[NDArray[np.int16]], NDArray[np.int16]]  # mixture → vocals, (samples,), 16 kHz


@dataclass(frozen=True, eq=False)
class SongVectors:
    """What one member says about one song."""

    start_s: NDArray[np.float32]  # (segments,)
    embeddings: NDArray[np.float32]  # (segments, dim), unit length
    logits: NDArray[np.float32] | None  # (segments, singers), None without a head
    weight: NDArray[np.float32]  # (segments,), share of voice, 0 to 1


def embed_wave(
    member: Member,
    wave: NDArray[np.int16],
    listening: Listening = AS_TRAINED,
    active: Active | None = None,
) -> SongVectors:
    """One song, `wave (samples,)` int16 at 16 kHz, at least one sample.

    `active (frames,)` says where someone sings; without it every segment weighs 1.
    """
    grid = listening.grid(member.config)
    starts, segments = cut(wave, grid.eval_segment_s, grid.eval_hop_s, listening.tta)
    weight = np.ones(len(starts), dtype=np.float32)
    if active is not None:
        weight = voice_share(active, starts, segments.shape[1])
    device = next(member.network.parameters()).device
    embeddings, logits = [], []
    with torch.inference_mode():
        for first in range(0, len(segments), CHUNK):
            part = segments[first : first + CHUNK]
            batch = torch.zeros(CHUNK, segments.shape[1])
            batch[: len(part)] = torch.from_numpy(part.astype(np.float32) / 32768)
            vectors = member.network(batch.to(device))[: len(part)]
            embeddings.append(vectors.cpu().numpy())
            if member.head is not None:
                loss = member.config.loss
                scores = margin_free_logits(vectors, member.head, loss.aam_scale, loss.centres)
                logits.append(scores.cpu().numpy())
    return SongVectors(
        start_s=(starts / SAMPLE_RATE).astype(np.float32),
        embeddings=np.concatenate(embeddings),
        logits=np.concatenate(logits) if logits else None,
        weight=weight,
    )


def stem_key(song: Song, stem: str) -> str:
    """The cache key of what a member with this `stem` hears; `UserError` where it is missing."""
    key = song.audio if stem == "mix" else song.vocals
    if not key:
        raise UserError(
            f"{song.id} has no {stem} stem; give the stems: python app.py prepare --stems_dir S"
        )
    return key


def embed_split(
    run: Run,
    catalogue: Catalogue,
    member: Member,
    split: str,
    progress: Progress = no_progress,
    *,
    listening: Listening = AS_TRAINED,
    voices: Voices | None = None,
) -> Store:
    """Embed a split's songs with a member, write the store and return it.

    `voices` says where someone sings; it must be of the detector that `listening` names.

    Raises:
        UserError: the member was trained on another catalogue, or a song lacks the member's stem.
    """
    fingerprint = catalogue.fingerprint()
    if member.catalogue != fingerprint or member.singers != catalogue.singers:
        raise UserError(
            f"member {member.name} was trained on another catalogue than {run.catalogue} (other "
            "singers, songs or splits); train it again: "
            f"python app.py train-embedder --name {member.name} --overwrite"
        )
    songs = catalogue.of(split)
    cache = AudioCache(run.cache)
    stem = member.config.train.recording
    voices = voices or Voices(None, cache)
    _check_detector(listening, voices.detector)
    vectors = []
    for song in progress(songs, len(songs), f"{member.name}: {split} songs"):
        key = stem_key(song, stem)
        vectors.append(embed_wave(member, cache.samples(key), listening, voices.of(key, stem)))
    number = {singer: label for label, singer in enumerate(catalogue.singers)}
    store = _store(
        member,
        split,
        vectors,
        song_ids=[song.id for song in songs],
        albums=[song.album_id for song in songs],
        labels=[number[song.singer] for song in songs],
        catalogue=fingerprint,
        listening=listening,
    )
    write_store(run.store(member.name, split), store)
    return store


def embed_stale(
    run: Run,
    catalogue: Catalogue,
    stale: Sequence[tuple[str, str]],
    listening: Listening,
    device: str = "auto",
    progress: Progress = no_progress,
) -> None:
    """Embed the splits of the members that are named, `(member, split)`, and write their stores."""
    where = default_device(device)
    voices = Voices(load_detector(run, where), AudioCache(run.cache))
    members = {name: load_member(run, name, where) for name, _ in stale}
    for name, split in stale:
        member = members[name]
        embed_split(run, catalogue, member, split, progress, listening=listening, voices=voices)


def _store(
    member: Member,
    split: str,
    vectors: Sequence[SongVectors],
    *,
    song_ids: Sequence[str],
    albums: Sequence[str],
    labels: Sequence[int],
    catalogue: str,
    listening: Listening,
) -> Store:
    dim, singers = member.config.model.embedding_dim, len(member.singers)
    counts = [len(v.start_s) for v in vectors]
    logits = [v.logits for v in vectors if v.logits is not None]
    return Store(
        member=member.name,
        split=split,
        singers=member.singers,
        song_ids=tuple(song_ids),
        albums=tuple(albums),
        labels=np.array(labels, dtype=np.int64),
        embeddings=_rows([song_embedding(v.embeddings, v.weight)[None] for v in vectors], dim),
        segment_song=np.repeat(np.arange(len(vectors), dtype=np.int64), counts),
        segment_start_s=_rows([v.start_s[:, None] for v in vectors], 1)[:, 0],
        segment_embeddings=_rows([v.embeddings for v in vectors], dim),
        segment_logits=None if member.head is None else _rows(logits, singers),
        segment_weight=_rows([v.weight[:, None] for v in vectors], 1)[:, 0],
        made_from={
            "checkpoint": member.checkpoint,
            "catalogue": catalogue,
            **listening.made_from(member.config),
        },
    )


def _check_detector(listening: Listening, detector: Detector | None) -> None:
    """Raise `ValueError` unless the detector is the one that the listening names."""
    found = detector.fingerprint if detector else ""
    if found != listening.detector:
        raise ValueError(f"detector {found or 'none'}, not {listening.detector or 'none'}")


def _rows(parts: list[NDArray[np.float32]], columns: int) -> NDArray[np.float32]:
    """Parts `(n, columns)` one below the other; none give `(0, columns)`."""
    return np.concatenate([np.zeros((0, columns), np.float32), *parts])


def check_files(files: Sequence[Path], progress: Progress = no_progress) -> dict[Path, str]:
    """Decode every file once and say what is wrong with those that cannot be used."""

    def problem(path: Path) -> str:
        try:
            seconds = len(decode(path)) / SAMPLE_RATE
        except AudioError as error:
            return f"{error.kind}: {error.reason}"
        if seconds < SHORTEST_S:
            return f"too short: {seconds:.2f} s, needed is {SHORTEST_S:g} s"
        return ""

    with ThreadPoolExecutor(available_cores()) as pool:
        found = pool.map(problem, files)
        shown = progress(zip(files, found, strict=True), len(files), "checking files")
        return {path: reason for path, reason in shown if reason}


def usable_files(
    files: Sequence[Path], skip_bad: bool, progress: Progress = no_progress
) -> tuple[list[Path], dict[Path, str]]:
    """The files that can be used, and what is wrong with each of the others.

    Raises:
        UserError: naming all bad files, unless `skip_bad`; or if no file is left.
    """
    bad = check_files(files, progress)
    if bad and (not skip_bad or len(bad) == len(files)):
        listed = "; ".join(f"{path}: {reason}" for path, reason in sorted(bad.items()))
        advice = "" if len(bad) == len(files) else "; --skip_bad leaves them out"
        raise UserError(f"{len(bad)} of {len(files)} files cannot be used: {listed}{advice}")
    return [path for path in files if path not in bad], bad


def embed_files(
    members: Sequence[Member],
    files: Sequence[Path],
    names: Sequence[str],
    *,
    vocals: Sequence[Path] | None = None,
    separate: Separate | None = None,
    listening: Listening = AS_TRAINED,
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
    _check_detector(listening, detector)
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
            voices = {s: [heard_voice(detector, wave, s) for wave in waves[s]] for s in sources}
            yield [
                _store(
                    member,
                    "",
                    [
                        embed_wave(member, wave, listening, active)
                        for wave, active in zip(waves[stem], voices[stem], strict=True)
                    ],
                    song_ids=[names[i] for i in batch],
                    albums=[""] * len(batch),
                    labels=[-1] * len(batch),
                    catalogue="",
                    listening=listening,
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
                "with --stems_dir S, in S/vocals, or train a separator: python app.py "
                "train-separator"
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
