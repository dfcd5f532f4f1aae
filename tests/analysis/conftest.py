"""A run folder as `fuse` leaves it, made of seeded clusters: no audio, no network, no model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.analyze import analyze
from embedder.aggregate import song_embedding
from embedder.artifacts import Run, create_run
from embedder.metrics import summarise
from embedder.store import Store, write_store
from ensemble.fusion import Fusion, ResultRow, write_fusion
from ensemble.knn import Votes
from ensemble.methods import Pooling
from ensemble.predictions import Table, write_table

SINGERS = ("Ada", "Ben & Co", "Cem", "Dörte")
DIM = 16
SEGMENTS = 6


def make_store(
    member: str, split: str, singers: Sequence[str], albums: Sequence[str], noise: float = 0.5
) -> Store:
    """Three songs for each singer and album, around one direction for each singer."""
    rng = np.random.default_rng([len(member), len(split)])
    centres = np.random.default_rng(len(member)).normal(size=(len(singers), DIM))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    places = [
        (label, singer, album, song)
        for label, singer in enumerate(singers)
        for album in albums
        for song in range(3)
    ]
    segments = [
        centres[label] + rng.normal(scale=noise / DIM**0.5, size=(SEGMENTS, DIM))
        for label, *_ in places
    ]
    units = [(s / np.linalg.norm(s, axis=1, keepdims=True)).astype(np.float32) for s in segments]
    return Store(
        member=member,
        split=split,
        singers=tuple(singers),
        song_ids=tuple(f"{singer}/{album}/{song} tune.mp3" for _, singer, album, song in places),
        albums=tuple(f"{singer}/{album}" for _, singer, album, _ in places),
        labels=np.array([label for label, *_ in places]),
        embeddings=np.stack([song_embedding(unit) for unit in units]),
        segment_song=np.repeat(np.arange(len(places)), SEGMENTS),
        segment_start_s=np.tile(np.arange(SEGMENTS, dtype=np.float32) * 2.5, len(places)),
        segment_embeddings=np.concatenate(units),
        segment_logits=None,
        segment_weight=np.ones(len(places) * SEGMENTS, np.float32),
        made_from={"checkpoint": f"hash of {member}"},
    )


def make_table(store: Store, mistakes: dict[int, int] | None = None) -> Table:
    """Each song's own singer gets 0.7, or the singer that `mistakes` names for its row."""
    songs, singers = len(store.song_ids), len(store.singers)
    named = store.labels.copy()
    for row, singer in (mistakes or {}).items():
        named[row] = singer
    probabilities = np.full((songs, singers), 0.3 / (singers - 1))
    probabilities[np.arange(songs), named] = 0.7
    return Table(
        store.song_ids, store.singers, np.log(probabilities), store.labels.copy(), store.albums
    )


def make_run(
    root: Path,
    singers: Sequence[str] = SINGERS,
    members: Sequence[str] = ("aam", "triplet"),
    splits: Sequence[str] = ("train", "validation"),
    train_albums: Sequence[str] = ("First", "Second"),
) -> Run:
    """A run folder with stores, validation predictions (three mistakes) and a fusion."""
    run = create_run(root)
    for member in members:
        for split in splits:
            albums = train_albums if split == "train" else (f"Last {split}",)
            write_store(run.store(member, split), make_store(member, split, singers, albums))
    for split in splits[1:]:
        store = make_store(members[0], split, singers, (f"Last {split}",))
        table = make_table(store, {0: 1, 1: 1, 3: 2} if split == "validation" else None)
        write_table(run.predictions / f"{split}.npz", table)
        if split == "validation":
            summary = summarise(table.truth, table.log_probabilities)
            experts = [f"{member}/knn_song" for member in members]
            fusion = Fusion(
                singers=tuple(singers),
                aggregate="mean",
                temperatures=dict.fromkeys(experts, 1.0),
                pooling=Pooling("log_linear", dict.fromkeys(experts, 0.625)),
                votes=dict.fromkeys(experts, Votes(5, 0.1)),
                made_from={member: f"hash of {member}" for member in members},
                probes={},
                results=tuple(
                    ResultRow(name, "validation", "song", True, summary)
                    for name in (*experts, "fused")
                ),
            )
            write_fusion(run.fusion, fusion)
    return run


@pytest.fixture
def build_run(tmp_path: Path) -> Callable[..., Run]:
    """`make_run` in a folder of this test."""
    return lambda **choices: make_run(tmp_path / "run", **choices)


@pytest.fixture
def build_store() -> Callable[..., Store]:
    return make_store


@pytest.fixture
def build_table() -> Callable[..., Table]:
    return make_table


@pytest.fixture(scope="session")
def page_data() -> Callable[[str], Any]:
    """The data that a page carries for its scripts."""

    def read(text: str) -> Any:
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
        assert found
        return json.loads(found[1])

    return read


@pytest.fixture(scope="session")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with train, validation and test songs and its pages; read it, do not change it."""
    run = make_run(
        tmp_path_factory.mktemp("analyzed") / "run", splits=("train", "validation", "test")
    )
    analyze(run)
    return run


# What a file or folder may be called on one system or another, each a defect if it is not shown
# as the text that it is.
HOSTILE = (
    "<script>window.broken=1</script>",
    "</script><img src=x onerror='window.broken=1'>",
    "<!-- & \" ' \u2028 <b>bold</b> %{x}",
    "<a href='https://example.org'>link</a>",
)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose singers, albums and members are named to break the pages."""
    run = make_run(
        tmp_path_factory.mktemp("hostile") / "run",
        # a singer is a folder's name, so it holds no "/"
        singers=[name.replace("/", "∕") for name in HOSTILE],
        members=("aam",),
        train_albums=HOSTILE[:2],
    )
    analyze(run)
    return run
