"""Made-up members: stores whose embeddings and logits know the singer as well as they are told."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from embedder.inference.aggregate import song_embedding
from embedder.inference.store import Store
from ensemble.fusion.fit import fit_fusion
from ensemble.fusion.fitted import Fusion
from ensemble.index.members import MemberIndex, index_of

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


@pytest.fixture(scope="session")
def make_store() -> Maker:
    return made_up_store


@dataclass(frozen=True, eq=False)
class World:
    """A fusion of two members, the second without a head, and songs of singers it never heard."""

    train: list[Store]  # of 6 singers, a store a member
    validation: list[Store]
    strangers: list[Store]  # of singers "singer 6" and "singer 7", 2 albums x 3 songs each
    indexes: dict[str, MemberIndex]
    fusion: Fusion


def known_part(store: Store, known: int) -> Store:
    """The songs of the first singers, as a member has them that was trained on no others."""
    return of_singers(store.take(np.flatnonzero(store.labels < known)), known)


def of_singers(store: Store, known: int) -> Store:
    logits = store.segment_logits
    return replace(
        store,
        singers=store.singers[:known],
        labels=np.where(store.labels < known, store.labels, -1),
        segment_logits=None if logits is None else np.ascontiguousarray(logits[:, :known]),
    )


@pytest.fixture(scope="session")
def world() -> World:
    known, members = 6, {"one": True, "two": False}
    size: dict[str, Any] = {"singers": 8, "albums": 2, "quality": 1.0}
    full = {
        split: [made_up_store(name, split, head=head, **size) for name, head in members.items()]
        for split in ("train", "validation")
    }
    train, validation = ([known_part(store, known) for store in full[split]] for split in full)
    strange = [store.take(np.flatnonzero(store.labels >= known)) for store in full["validation"]]
    indexes = {store.member: index_of(store) for store in train}
    fusion, _ = fit_fusion(indexes, validation, method="log_linear")
    return World(
        train,
        validation,
        [replace(of_singers(store, known), split="") for store in strange],
        indexes,
        fusion,
    )
