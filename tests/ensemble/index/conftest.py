"""A song table of two members that differ in dimension, and songs to enroll."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedder.inference.store import Store
from ensemble.index.table import NewSong, songs_of, write_table

Maker = Callable[..., Store]


def narrower(store: Store) -> Store:
    """The store with half the dimensions, of unit length again."""

    def cut(rows: np.ndarray) -> np.ndarray:
        half = rows[:, : rows.shape[1] // 2]
        return half / np.linalg.norm(half, axis=1, keepdims=True)

    return replace(
        store,
        embeddings=cut(store.embeddings),
        segment_embeddings=cut(store.segment_embeddings),
    )


@pytest.fixture
def stores(make_store: Maker) -> Callable[[str], list[Store]]:
    """`stores("train")`: those of members "one" and "two", 5 singers x 2 albums x 2 songs."""

    def make(split: str, **changes: int) -> list[Store]:
        size = {"singers": 5, "albums": 2, "songs": 2, "segments": 20, **changes}
        return [make_store("one", split, **size), narrower(make_store("two", split, **size))]

    return make


@pytest.fixture
def table(stores: Callable[[str], list[Store]], tmp_path: Path) -> Path:
    path = tmp_path / "fusión" / "index.sqlite"
    write_table(path, stores("train"))
    return path


@pytest.fixture
def new_songs(stores: Callable[[str], list[Store]]) -> list[NewSong]:
    """20 songs, 4 of each singer in turn."""
    return songs_of(stores("validation"))
