"""The benchmark: what it measures is what the files do, and memory is a process's own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ensemble.index import benchmark as module
from ensemble.index.benchmark import MB, K, _search, alone, benchmark, peak_mb, shared
from ensemble.index.vectors import read_vectors


def test_recall_is_the_share_of_true_neighbours() -> None:
    truth = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = np.array([[4, 3, 9, 9], [8, 7, 6, 5]])
    assert shared(truth, found) == 6 / 8


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
    assert alone(peak_mb) < most - 100  # not that of the process that started it
    del rows
    assert peak_mb() > most - 1  # the kernel counts it in steps
