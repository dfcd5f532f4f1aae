"""Synthetic runs to make decks of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.maps import View
from analysis.neighbourhoods import Preservation
from analysis.run_data import Predicted, RunData, song_list
from embedder.inference.store import Store, write_store
from embedder.measures.records import Spectrograms, write_spectrograms
from embedder.measures.robustness import severity_levels
from embedder.run import Run, create_run
from ensemble.fusion.fitted import Fusion
from ensemble.fusion.fusers import LogLinear
from ensemble.fusion.knn import Votes
from ensemble.robustness import Conditions, Row, begin, write_rows


def synthetic(
    ids: Sequence[str],
    albums: Sequence[str],
    truth: np.ndarray,
    singers: Sequence[str],
    experts: int = 4,
    wrong: float = 0.3,
    split: str = "validation",
) -> Predicted:
    """Predictions of songs of which a share is named wrongly, by each expert others."""
    rng = np.random.default_rng(len(singers))

    def answers() -> np.ndarray:
        drawn = rng.integers(len(singers), size=len(truth))
        named = np.where(rng.random(len(truth)) < wrong, drawn, truth)
        rows = rng.dirichlet(np.full(len(singers), 0.5), size=len(truth)) * 0.3
        rows[np.arange(len(truth)), named] += 0.7
        return np.asarray(rows)

    kinds = ("head", "knn_song", "knn_segment", "probe")
    names = {
        f"aam{'-with-a-long-name' * (number // 4)}{number // 4}/{kinds[number % 4]}": answers()
        for number in range(experts)
    }
    return Predicted(split, tuple(ids), tuple(singers), answers(), truth, tuple(albums), names)


def measure(run: Run, singers: Sequence[str]) -> None:
    """Spectrograms of all singers, and robustness of a few songs, without a sound."""
    rng = np.random.default_rng(0)
    levels = rng.integers(256, size=(len(singers), 8, 15), dtype=np.uint8)
    count = len(singers)
    found = Spectrograms(
        tuple(singers), ("a/b/c.mp3",) * count, (("x", ""),) * count, (4,) * count,
        tuple(np.linspace(60, 7000, 8)), 0.2, -80.0, 0.3, levels, 0 * levels,
    )  # fmt: skip
    write_spectrograms(run, found)
    conditions = Conditions("", "x", "", "validation", 10.0, tuple(singers), ("fused",))
    begin(run, conditions, 4, 4)
    rows = [
        Row(f"song {song}", singers[0], step, singers[0], (int(rng.integers(1, 3)),))
        for song in range(4)
        for step in severity_levels()
    ]
    write_rows(run, ("fused",), rows)


@pytest.fixture
def build_run_data(tmp_path: Path, build_store: Callable[..., Store]) -> Callable[..., RunData]:
    """`build_run_data(singers, fused=False)`: a run of one member, its songs answered."""

    def build(
        singers: Sequence[str],
        fused: bool = True,
        tests: bool = False,
        measured: bool = False,
        **choices: Any,
    ) -> RunData:
        run = create_run(tmp_path / "made")
        stores = []
        for split in ("train", "validation", "test")[: 2 + tests]:
            stores.append(build_store("aam", split, singers, (f"Album of {split}",)))
            write_store(run.store("aam", split), stores[-1])
        predicted = tuple(
            synthetic(one.song_ids, one.albums, one.labels, singers, split=one.split, **choices)
            for one in stores[1:]
        )
        songs = song_list(stores, predicted)
        measure(run, singers) if measured else None
        fusion = None
        if fused:
            experts = list(predicted[0].experts)
            fusion = Fusion(
                singers=tuple(singers),
                aggregate="probability",
                temperatures=dict.fromkeys(experts, 1.0),
                fuser=LogLinear(dict.fromkeys(experts, 0.25)),
                votes=dict.fromkeys(experts, Votes(5, 0.1)),
                made_from={"aam": "hash of aam"},
                probes={},
            )
        return RunData(run, ("aam",), fusion, songs, predicted)

    return build


def flat_view(run_data: RunData) -> Iterator[View]:
    """A map that costs nothing."""
    count = len(run_data.songs.ids)
    points = np.random.default_rng(0).normal(size=(1, count, 2))
    kept = Preservation(0.9, count, 10, "validation", 0, 10)
    yield View(
        "", "song", (30.0,), points, np.arange(count), None, count, count, (kept,)
    )  # fmt: skip


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """No t-SNE, intervals of few resamples, coarse pictures."""
    monkeypatch.setattr("embedder.statistics.RESAMPLES", 20)
    monkeypatch.setattr("analysis.report.charts.DPI", 20)
    monkeypatch.setattr("analysis.report.numbers.all_views", flat_view)
