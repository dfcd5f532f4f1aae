"""Runs for the pages: an odd order of singers, a map with all that it can show, spectrograms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile

from analysis.analyze import analyze
from embedder.catalogue import Catalogue, Song, write_catalogue
from embedder.inference.store import read_store, write_store
from embedder.measures.records import Spectrograms
from embedder.run import Run
from ensemble.predictions import read_table, write_table
from ensemble.results import PlacedFiles


@pytest.fixture(scope="session")
def shuffled(run_at: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = run_at(tmp_path_factory.mktemp("shuffled") / "run", members=("aam",))
    store = read_store(run.store("aam", "train"))
    axes = np.eye(16, dtype=np.float32)
    axes[2] = 0.8 * axes[0] + 0.6 * axes[1]  # the third lies near the first, away from the second
    axes[1] = -axes[1]
    write_store(
        run.store("aam", "train"),
        replace(
            store,
            embeddings=axes[store.labels],
            segment_embeddings=axes[store.labels[store.segment_song]],
        ),
    )
    path = run.predictions / "validation.npz"
    table = read_table(path)
    scores = np.full((12, 4), np.log(0.1))
    scores[np.arange(12), table.truth] = np.log(0.7)
    scores[0] = np.log([0.05, 0.6, 0.2, 0.15])
    write_table(path, replace(table, log_probabilities=scores))
    analyze(run, pages=["confusion"])
    return run


@pytest.fixture(scope="session")
def mapped(run_at: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One member's map, of which the first song and a file called `a <b>file</b>` have players."""
    folder = tmp_path_factory.mktemp("mapped")
    run = run_at(folder / "run", members=("aam",))
    train, validation = (read_store(run.store("aam", split)) for split in ("train", "validation"))
    first = train.song_ids[0]
    song = Song(
        id=first, path=str(folder / "gone.wav"), singer="Ada", album="First", title="0 tune",
        split="train", audio="hash",
    )  # fmt: skip
    write_catalogue(run.catalogue, Catalogue((song,)))
    run.cache.mkdir()
    np.save(run.decoded("hash"), np.zeros(20 * 16000, np.int16))
    new = folder / "new.wav"
    soundfile.write(new, np.zeros(16000 * 16), 16000)
    store = replace(validation.take(np.array([0])), song_ids=("file 1",), split="")
    placed = PlacedFiles(
        (new,), ("a <b>file</b>",), (*train.singers, "Enrolled"),
        np.array([[0.1, 0.2, 0.0, 0.1, 0.6]]), ((store,),), ((),),
    )  # fmt: skip
    run.singer_facts.write_text(
        "singer,sex,low_hz,high_hz\nAda,f,200,800\nCem,m,100,400\n", encoding="utf-8"
    )
    analyze(run, pages=["tsne"], with_audio=True, placed=placed)
    return run


@pytest.fixture
def drawn() -> Callable[..., Spectrograms]:
    """Three singers; the vocals of the second are its mixture with noise, the third has none."""

    def make(singers: tuple[str, ...] = ("Ada", "Ben & Co", "Cem"), **changes: Any) -> Spectrograms:
        rng = np.random.default_rng(0)
        mixture = rng.integers(0, 256, (len(singers), 8, 12)).astype(np.uint8)
        vocals = rng.integers(0, 256, mixture.shape).astype(np.uint8)
        vocals[1] = (0.8 * mixture[1] + 0.2 * vocals[1]).astype(np.uint8)
        vocals[2] = 0
        values: dict[str, Any] = {
            "singers": singers,
            "songs": tuple(f"{singer}/First/0 tune.mp3" for singer in singers),
            "keys": tuple((f"mix{n}", f"vocals{n}" if n < 2 else "") for n in range(len(singers))),
            "starts_s": (1, 2, 0)[: len(singers)],
            "hertz": tuple(float(hertz) for hertz in range(500, 8500, 1000)),
            "hop_s": 0.02,
            "low_db": -50.0,
            "step_db": 0.3,
            "mixture": mixture,
            "vocals": vocals,
        }
        return Spectrograms(**{**values, **changes})

    return make
