"""Songs to embeddings and logits, on a fixed grid of segments.

Enters: a member and decoded songs. Leaves: a `Store` per split, or one song's vectors at a time.
The network always hears `CHUNK` segments of one song at once, the rest filled with silence: a
song's numbers depend neither on its neighbours nor on how many songs are handed over together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedder.artifacts import Run
from embedder.catalogue import Catalogue, Song
from embedder.checkpoint import Member
from embedder.config import SAMPLE_RATE
from embedder.data.cache import AudioCache
from embedder.data.segments import cut
from embedder.errors import UserError
from embedder.model.network import margin_free_logits
from embedder.store import Store, song_embedding, write_store

CHUNK = 16

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


def silent_progress(items: Iterable[Any], total: int, title: str) -> Iterable[Any]:  # noqa: ARG001
    """Shows nothing."""
    return items


@dataclass(frozen=True, eq=False)
class SongVectors:
    """What one member says about one song."""

    start_s: NDArray[np.float32]  # (segments,)
    embeddings: NDArray[np.float32]  # (segments, dim), unit length
    logits: NDArray[np.float32] | None  # (segments, singers), None without a head


def embed_wave(member: Member, wave: NDArray[np.int16]) -> SongVectors:
    """One song, `wave (samples,)` int16 at 16 kHz, at least one sample."""
    starts, segments = cut(wave, member.config.embed)
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
                scores = margin_free_logits(vectors, member.head, member.config.loss.aam_scale)
                logits.append(scores.cpu().numpy())
    return SongVectors(
        start_s=(starts / SAMPLE_RATE).astype(np.float32),
        embeddings=np.concatenate(embeddings),
        logits=np.concatenate(logits) if logits else None,
    )


def stem_key(song: Song, stem: str) -> str:
    """The cache key of what a member with this `stem` listens to; `UserError` where it is missing."""
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
    progress: Progress = silent_progress,
) -> Store:
    """Embed a split's songs with a member, write the store and return it.

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
    stem = member.config.train.stem
    vectors = [
        embed_wave(member, cache.samples(stem_key(song, stem)))
        for song in progress(songs, len(songs), f"{member.name}: {split} songs")
    ]
    counts = [len(v.start_s) for v in vectors]
    dim = member.config.model.embedding_dim
    number = {singer: label for label, singer in enumerate(catalogue.singers)}
    store = Store(
        member=member.name,
        split=split,
        singers=catalogue.singers,
        song_ids=tuple(song.id for song in songs),
        albums=tuple(song.album_id for song in songs),
        labels=np.array([number[song.singer] for song in songs], dtype=np.int64),
        embeddings=np.stack([song_embedding(v.embeddings) for v in vectors])
        if vectors
        else np.zeros((0, dim), np.float32),
        segment_song=np.repeat(np.arange(len(songs), dtype=np.int64), counts),
        segment_start_s=np.concatenate([v.start_s for v in vectors] or [np.zeros(0, np.float32)]),
        segment_embeddings=np.concatenate(
            [v.embeddings for v in vectors] or [np.zeros((0, dim), np.float32)]
        ),
        segment_logits=None
        if member.head is None
        else np.concatenate(
            [v.logits for v in vectors if v.logits is not None]
            or [np.zeros((0, len(catalogue.singers)), np.float32)]
        ),
        made_from={"checkpoint": member.checkpoint, "catalogue": fingerprint},
    )
    write_store(run.store(member.name, split), store)
    return store
