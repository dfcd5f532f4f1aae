"""Made-up members: stores whose embeddings and logits know the singer as well as they are told."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embedder.aggregate import song_embedding
from embedder.store import Store

Maker = Callable[..., Store]


def made_up_store(
    member: str,
    split: str,
    *,
    quality: float = 1.0,
    head: bool = True,
    singers: int = 8,
    albums: int = 4,
    songs: int = 3,
    segments: int = 3,
    **changes: Any,
) -> Store:
    """A store of singers x albums x songs; `quality` 0 is pure noise, 1 mostly right.

    Singers have the same centres in every split; noise differs by member and split, and half of it
    is shared by the songs of an album.
    """
    seed = zlib.crc32(f"{member} {split}".encode())
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(zlib.crc32(member.encode())).normal(size=(singers, 16))
    names = tuple(f"singer {number}" for number in range(singers))
    ids, album_ids, labels = [], [], []
    rows, logits = [], []
    for singer in range(singers):
        for album in range(albums):
            colour, lean = rng.normal(size=16), rng.normal(size=singers)
            for song in range(songs):
                ids.append(f"{names[singer]}/{split}{album}/{song}.wav")
                album_ids.append(f"{names[singer]}/{split}{album}")
                labels.append(singer)
                own, bias = rng.normal(size=16), rng.normal(size=singers)
                for _ in range(segments):
                    row = quality * centres[singer] + 0.7 * (colour + own)
                    rows.append(row + 0.3 * rng.normal(size=16))
                    logit = 3 * (lean + bias) + rng.normal(size=singers)
                    logit[singer] += 9 * quality
                    logits.append(logit)
    unit = np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    owner = np.repeat(np.arange(len(ids), dtype=np.int64), segments)
    values: dict[str, Any] = {
        "member": member,
        "split": split,
        "singers": names,
        "song_ids": tuple(ids),
        "albums": tuple(album_ids),
        "labels": np.array(labels, np.int64),
        "embeddings": np.stack([song_embedding(unit[owner == song]) for song in range(len(ids))]),
        "segment_song": owner,
        "segment_start_s": np.tile(np.arange(segments, dtype=np.float32), len(ids)),
        "segment_embeddings": unit.astype(np.float32),
        "segment_logits": np.array(logits, np.float32) if head else None,
        "segment_weight": np.ones(len(owner), np.float32),
        "made_from": {"checkpoint": f"{member}-1", "catalogue": "c", "grid": "3 s"},
    }
    return Store(**(values | changes))


@pytest.fixture
def make_store() -> Maker:
    return made_up_store
