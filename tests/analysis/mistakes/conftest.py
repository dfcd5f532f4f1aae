"""A run in which the first singer and the third sound alike, and one song is missed in top-3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.analyze import analyze
from embedder.artifacts import Run
from embedder.inference.store import read_store, write_store
from ensemble.predictions import read_table, write_table


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
