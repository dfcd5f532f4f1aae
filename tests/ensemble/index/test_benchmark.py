"""The benchmark: what it measures is what the files do, and memory is a process's own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ensemble.index import benchmark as module
from ensemble.index.benchmark import (
    MB,
    SEGMENTS,
    SHARES,
    SONGS,
    K,
    _search,
    benchmark,
    directions,
    in_own_process,
    peak_mb,
    synthetic_queries,
    synthetic_segments,
)
from ensemble.index.vectors import read_vectors, share_found


def test_recall_is_the_share_of_true_neighbours() -> None:
    truth = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = np.array([[4, 3, 9, 9], [8, 7, 6, 5]])
    assert share_found(truth, found) == 6 / 8


def test_rows_are_of_the_files_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(benchmark(tmp_path / "b", 1500, 16, 130, ["hnsw", "flat"], seed=1))
    assert [row.kind for row in rows] == ["flat", "hnsw"]
    vectors, queries = np.load(tmp_path / "b" / "vectors.npy"), np.load(tmp_path / "b/queries.npy")
    assert (vectors.shape, queries.shape) == ((1500, 16), (130, 16))
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
    for row in rows:
        path = tmp_path / "b" / f"{row.kind}.faiss"
        index = read_vectors(path)
        assert (index.kind, len(index)) == (row.kind, 1500)
        found = index.search(queries, K)[1]
        monkeypatch.setattr(module, "BATCH", 50)
        _, _, searched = _search(path, tmp_path / "b" / "queries.npy")
        np.testing.assert_array_equal(searched, found)  # in batches
        hits = [len(set(one) & set(other)) for one, other in zip(truth, found, strict=True)]
        assert row.recall == pytest.approx(sum(hits) / (130 * K))
        assert row.disk_mb == path.stat().st_size / MB
        assert row.build_s > 0
        assert row.queries_per_s > 0
    assert rows[0].recall == 1


@pytest.mark.skipif(sys.platform != "linux", reason="counted in another way")
def test_memory_is_a_process_s_own_and_its_most() -> None:
    rows = np.ones(30_000_000)
    most = peak_mb()
    assert most > rows.nbytes / MB
    assert in_own_process(peak_mb) < most - 100  # not that of the process that started it
    del rows
    assert peak_mb() > most - 1  # the kernel counts it in steps


SINGER = SONGS * SEGMENTS


def test_cosines_are_those_of_songs_and_singers() -> None:
    count = 40 * SINGER
    rows = synthetic_segments(count, 192, seed=0)
    assert rows.shape == (count, 192)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    some = np.random.default_rng(1).choice(count, 3000, replace=False)
    pairs = rows[some] @ rows[some].T
    song = some[:, None] // SEGMENTS == some // SEGMENTS
    singer = some[:, None] // SINGER == some // SINGER
    assert pairs[song & ~np.eye(len(some), dtype=bool)].mean() == pytest.approx(0.76, abs=0.02)
    assert pairs[singer & ~song].mean() == pytest.approx(0.60, abs=0.02)
    assert pairs[~singer].mean() == pytest.approx(0.10, abs=0.03)
    assert sum(SHARES.values()) == pytest.approx(1)


def test_queries_are_new_songs_of_the_same_singers() -> None:
    singers = 35
    rows = synthetic_segments(singers * SINGER, 192, seed=0)
    queries = synthetic_queries(200, singers * SINGER, 192, seed=0)
    centres = rows.reshape(singers, SINGER, 192).mean(axis=1)
    owner = (queries @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T).argmax(axis=1)
    assert len(set(owner)) == singers  # of all of them
    near = queries @ rows.T
    own = np.arange(len(rows)) // SINGER == owner[:, None]
    assert near[own].mean() == pytest.approx(0.60, abs=0.02)
    assert near[~own].mean() == pytest.approx(0.10, abs=0.03)
    assert near.max() < 0.9  # none is a segment of a song that is in the index


def test_directions_crowd_in_few_dimensions() -> None:
    rows = directions(5000, 192, np.random.default_rng(0))
    variances = np.linalg.eigvalsh(np.cov(rows.T))
    ratio = variances.sum() ** 2 / (variances**2).sum()  # the participation ratio
    assert 15 < ratio < 30


def test_a_seed_decides_everything() -> None:
    def drawn(seed: int) -> list[np.ndarray]:
        return [synthetic_segments(700, 8, seed), synthetic_queries(5, 700, 8, seed)]

    for one, again in zip(drawn(3), drawn(3), strict=True):
        np.testing.assert_array_equal(one, again)
    for one, other in zip(drawn(3), drawn(4), strict=True):
        assert np.abs(one - other).max() > 0.1
