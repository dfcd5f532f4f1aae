"""Finished maps: kept, taken up again only where they fit, and read without pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.maps import files
from analysis.maps.files import finished_map
from analysis.maps.fit import Tell, fit_maps


@pytest.fixture
def vectors() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(40, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds with which maps were fitted."""
    seeds: list[int] = []

    def fit(
        vectors: np.ndarray, perplexities: tuple[float, ...], seed: int, tell: Tell
    ) -> np.ndarray:
        tell(1.0)
        seeds.append(seed)
        return np.random.default_rng(seed).normal(size=(len(perplexities), len(vectors), 2))

    monkeypatch.setattr(files, "fit_maps", fit)
    return seeds


def test_a_map_is_fitted_once(tmp_path: Path, vectors: np.ndarray, calls: list[int]) -> None:
    path = tmp_path / "maps" / "song.npz"
    first = finished_map(path, vectors, (5.0, 10.0), 3)
    again = finished_map(path, vectors, (5.0, 10.0), 3)
    assert calls == [3]
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(again.vectors, vectors)
    assert again.perplexities == (5.0, 10.0)
    expected = np.random.default_rng(3).normal(size=(2, 40, 2))
    np.testing.assert_allclose(first.points, expected, rtol=1e-6)
    with np.load(path, allow_pickle=False) as file:
        assert set(file) == {"made_from", "perplexities", "vectors", "points"}


def test_other_embeddings_perplexities_or_seeds_are_fitted_anew(
    tmp_path: Path, vectors: np.ndarray, calls: list[int]
) -> None:
    path = tmp_path / "song.npz"
    finished_map(path, vectors, (5.0,), 1)
    finished_map(path, vectors, (5.0,), 2)
    finished_map(path, vectors, (6.0,), 2)
    finished_map(path, vectors[::-1], (6.0,), 2)
    finished_map(path, vectors[::-1], (6.0,), 2)
    assert calls == [1, 2, 2, 2]


@pytest.mark.parametrize("damage", [b"", b"no archive at all"])
def test_a_damaged_map_is_fitted_anew(
    damage: bytes, tmp_path: Path, vectors: np.ndarray, calls: list[int]
) -> None:
    path = tmp_path / "song.npz"
    whole = finished_map(path, vectors, (5.0,), 1)
    path.write_bytes(damage or path.read_bytes()[:-200])
    np.testing.assert_array_equal(finished_map(path, vectors, (5.0,), 1).points, whole.points)
    assert calls == [1, 1]


def test_many_embeddings_are_kept_in_half_precision(
    tmp_path: Path, vectors: np.ndarray, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "EXACT", 39)
    found = finished_map(tmp_path / "segment.npz", vectors, (5.0,), 1)
    with np.load(tmp_path / "segment.npz") as file:
        assert file["vectors"].dtype == np.float16
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    finished_map(tmp_path / "segment.npz", vectors, (5.0,), 1)
    assert calls == [1]


def test_files_are_placed_on_every_map(tmp_path: Path, vectors: np.ndarray) -> None:
    found = finished_map(tmp_path / "song.npz", vectors, (5.0, 10.0), 0)
    fitted = fit_maps(vectors, (5.0, 10.0), 0)
    placed = found.place(vectors[:3])
    extent = np.ptp(fitted, axis=(1, 2))
    for number in range(2):
        gaps = np.linalg.norm(placed[number] - fitted[number, :3], axis=1)
        assert gaps.max() < 0.1 * extent[number]  # a copy lies where its original is
    assert found.place(vectors[:0]).shape == (2, 0, 2)
