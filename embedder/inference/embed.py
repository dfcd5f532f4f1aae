"""Songs to embeddings and logits, on a fixed grid of segments.

Input: members, and the decoded songs of a split. Output: a `Store` per split on disk. What
`embed_files.py` does with the files of a folder is made of the same parts.
The network always takes `CHUNK` segments of one song at once, the rest filled with silence: a
song's numbers depend neither on its neighbours nor on how many songs are handed over together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from embedder.catalogue import Catalogue, Song
from embedder.config import SAMPLE_RATE
from embedder.data.cache import AudioCache, Progress, no_progress
from embedder.data.excerpts import attenuated_mix
from embedder.data.voice_activity import Active, voice_share
from embedder.errors import UserError
from embedder.inference.aggregate import song_embedding
from embedder.inference.checkpoint import Member, load_member
from embedder.inference.config import InferenceConfig
from embedder.inference.detector import Detector, Voices, active_frames, load_detector
from embedder.inference.segments import cut
from embedder.inference.separate import separated_vocals, separator_of
from embedder.inference.store import ATTENUATED, ATTENUATED_DB, Store, origin, write_store
from embedder.models.network import default_device, margin_free_logits, reuse_freed_memory
from embedder.run import Run, prepare_again
from embedder.settings import train_command

CHUNK = 8  # segments
AS_TRAINED = InferenceConfig()  # each member's own grid, all segments alike


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
    listening: InferenceConfig = AS_TRAINED,
    active: Active | None = None,
) -> SongVectors:
    """One song, `wave (samples,)` int16 at 16 kHz, at least one sample.

    `active (frames,)` says where someone sings; without it every segment weighs 1.
    """
    grid = listening.grid(member.config)
    starts, segments = cut(wave, grid.eval_segment_s, grid.eval_hop_s, listening.tta)
    weight = segment_weights(active, starts, segments.shape[1])
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


def segment_weights(
    active: Active | None, starts: NDArray[np.int64], samples: int
) -> NDArray[np.float32]:
    """Share of voice (segments,) of the `samples` from each of `starts`; 1 where nothing says."""
    if active is None:
        return np.ones(len(starts), dtype=np.float32)
    return voice_share(active, starts, samples)


def stem_key(song: Song, stem: str) -> str:
    """The cache key of what a member with this `stem` takes; `UserError` where it is missing."""
    key = song.audio if stem == "mix" else song.vocals
    if not key:
        raise UserError(
            f"{song.id} has no {stem} stem; give the stems: {prepare_again(stems_dir='STEMS')}"
        )
    return key


def embed_split(
    run: Run,
    catalogue: Catalogue,
    member: Member,
    split: str,
    progress: Progress = no_progress,
    *,
    listening: InferenceConfig = AS_TRAINED,
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
            "singers, songs or splits); "
            f"{train_command(member.name, member.config, before='train it again', overwrite=True)}"
        )
    songs = catalogue.of(split)
    cache = AudioCache(run.cache)
    stem = member.config.train.recording
    voices = voices or Voices(None, cache)
    check_listening(listening, voices.detector)
    vectors = []
    for song in progress(songs, len(songs), f"{member.name}: {split} songs"):
        key = stem_key(song, stem)
        vectors.append(embed_wave(member, cache.samples(key), listening, voices.of(key, stem)))
    made_from = origin(catalogue, split, member.config, listening)
    store = store_of_songs(member, split, vectors, songs, catalogue, made_from)
    write_store(run.store(member.name, split), store)
    return store


def embed_songs(
    run: Run,
    catalogue: Catalogue,
    stale: Sequence[tuple[str, str]],
    listening: InferenceConfig,
    device: str = "auto",
    progress: Progress = no_progress,
) -> None:
    """Embed the splits of the members that are named, `(member, split)`, and write their stores."""
    reuse_freed_memory()
    where = default_device(device)
    voices = Voices(load_detector(run, where), AudioCache(run.cache))
    members = {name: load_member(run, name, where) for name, _ in stale}
    for name, split in stale:
        member = members[name]
        embed_split(run, catalogue, member, split, progress, listening=listening, voices=voices)


def store_of_songs(
    member: Member,
    split: str,
    vectors: Sequence[SongVectors],
    songs: Sequence[Song],
    catalogue: Catalogue,
    made_from: Mapping[str, str],
) -> Store:
    """The store of a catalogue's songs from what a member says of each; see `store.origin`."""
    number = {singer: label for label, singer in enumerate(catalogue.singers)}
    return store_of(
        member,
        split,
        vectors,
        song_ids=[song.id for song in songs],
        albums=[song.album_id for song in songs],
        labels=[number[song.singer] for song in songs],
        made_from=made_from,
    )


def store_of(
    member: Member,
    split: str,
    vectors: Sequence[SongVectors],
    *,
    song_ids: Sequence[str],
    albums: Sequence[str],
    labels: Sequence[int],
    made_from: Mapping[str, str],
) -> Store:
    """The store of songs from what a member says of each; `labels` are -1 where unknown.

    `made_from`: all but the checkpoint.
    """
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
        made_from={"checkpoint": member.checkpoint, **made_from},
    )


def check_listening(listening: InferenceConfig, detector: Detector | None) -> None:
    """Raise `ValueError` unless the detector is the one that the listening names."""
    found = detector.fingerprint if detector else ""
    if found != listening.detector:
        raise ValueError(f"detector {found or 'none'}, not {listening.detector or 'none'}")


def _rows(parts: list[NDArray[np.float32]], columns: int) -> NDArray[np.float32]:
    """Parts `(n, columns)` one below the other; none give `(0, columns)`."""
    return np.concatenate([np.zeros((0, columns), np.float32), *parts])


def embed_attenuated(
    run: Run,
    catalogue: Catalogue,
    names: Sequence[str],
    listening: InferenceConfig,
    device: str = "auto",
    progress: Progress = no_progress,
) -> None:
    """Embed the validation songs with their vocals turned down, and write the members' stores.

    The experts make on them the mistakes that fusion learns weights from; what they are worth is
    measured on the songs as they are. Vocals are turned down by up to `ATTENUATED_DB`, as much as a
    generator seeded by the song's place says. Members that take vocals embed what the run's
    separator makes of the new mixture; without a separator their stem is as it was.

    Raises:
        UserError: a member or the separator cannot be read, or a song has no stems.
    """
    reuse_freed_memory()
    where = default_device(device)
    cache, detector = AudioCache(run.cache), load_detector(run, where)
    members = [load_member(run, name, where) for name in names]
    listens = {member.config.train.recording for member in members}
    separator = separator_of(run, catalogue, where) if "vocals" in listens else None
    songs = catalogue.of("validation")
    found: list[list[SongVectors]] = [[] for _ in members]
    for number, song in enumerate(progress(songs, len(songs), "validation songs, vocals lower")):
        louder_db = -np.random.default_rng(number).uniform(0, ATTENUATED_DB)
        waves = {"mix": attenuated_mix(song, cache, louder_db)}
        if "vocals" in listens:
            stem = cache.samples(stem_key(song, "vocals"))
            waves["vocals"] = separated_vocals(separator, waves["mix"]) if separator else stem
        voices = {stem: active_frames(detector, waves[stem], stem) for stem in listens}
        for vectors, member in zip(found, members, strict=True):
            stem_name = member.config.train.recording
            vectors.append(embed_wave(member, waves[stem_name], listening, voices[stem_name]))
    for vectors, member in zip(found, members, strict=True):
        separates = separator.fingerprint() if separator else ""
        made_from = origin(catalogue, ATTENUATED, member.config, listening, separates)
        store = store_of_songs(member, ATTENUATED, vectors, songs, catalogue, made_from)
        write_store(run.store(member.name, ATTENUATED), store)
