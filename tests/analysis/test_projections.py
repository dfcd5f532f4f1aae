"""Maps: neighbours as a slow search finds them, determinism, clusters, openTSNE's own transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import projections
from analysis.projections import (
    OnProgress,
    centred,
    finished_map,
    fit_maps,
    neighbours,
    perplexities_for,
    place,
)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def clusters(count: int = 5, each: int = 20, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(count), each)
    noise = np.random.default_rng(1).normal(scale=0.1, size=(len(labels), dim))
    return unit(np.eye(count, dim)[labels] + noise), labels


def nearest_are_equal(points: np.ndarray, labels: np.ndarray) -> float:
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    return float(np.mean(labels[gaps.argmin(axis=1)] == labels))


@pytest.mark.parametrize(
    ("count", "found"),
    [
        (2, (1.0,)),
        (16, (5.0,)),
        (31, (10.0,)),
        (90, (10.0,)),
        (91, (10.0, 30.0)),
        (301, (10.0, 30.0, 100.0)),
    ],
)
def test_perplexities_look_at_three_times_as_many_neighbours(
    count: int, found: tuple[float, ...]
) -> None:
    assert perplexities_for(count) == found


def test_neighbours_are_those_of_a_slow_search() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(40, 5)))
    vectors[7] = vectors[3]
    rows, distances = neighbours(vectors, 6)
    for row in range(len(vectors)):
        gaps = [(1 - float(vectors[row] @ other), at) for at, other in enumerate(vectors)]
        slow = sorted(one for one in gaps if one[1] != row)[:6]
        assert rows[row].tolist() == [at for _, at in slow]
        np.testing.assert_allclose(distances[row], [max(gap, 0) for gap, _ in slow], atol=1e-6)


def test_a_point_is_not_its_own_neighbour_among_many_equal_ones() -> None:
    rows, distances = neighbours(unit(np.ones((9, 3))), 3)
    assert all(row not in found for row, found in enumerate(rows.tolist()))
    np.testing.assert_allclose(distances, 0, atol=1e-6)


def test_the_same_seed_gives_the_same_maps_and_another_others() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(100, 8)))
    first = fit_maps(vectors, (10.0, 30.0), 3)
    assert first.shape == (2, 100, 2)
    assert np.array_equal(first, fit_maps(vectors, (10.0, 30.0), 3))
    assert not np.array_equal(first, fit_maps(vectors, (10.0, 30.0), 4))
    assert not np.allclose(first[0], first[1])


@pytest.mark.parametrize("exact", [10_000, 50])
def test_every_map_keeps_clusters_together(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few and, above `EXACT`, with many points, whose forces are interpolated."""
    monkeypatch.setattr(projections, "EXACT", exact)
    if exact < 100:  # the grid costs the same for few points
        monkeypatch.setattr(projections, "ROUNDS", (60, 40))
        monkeypatch.setattr(projections, "MORE_ROUNDS", 20)
    vectors, labels = clusters()
    for points in fit_maps(vectors, (10.0, 30.0), 0):
        assert nearest_are_equal(points, labels) == 1
        np.testing.assert_allclose(points.max(axis=0) + points.min(axis=0), 0, atol=1e-9)


def test_points_keep_their_side_from_one_perplexity_to_the_next() -> None:
    vectors, labels = clusters()
    one, other = (
        np.array([points[labels == label].mean(axis=0) for label in range(5)])
        for points in fit_maps(vectors, (10.0, 30.0), 0)
    )
    for first in range(5):
        for second in range(first):
            assert (one[first] - one[second]) @ (other[first] - other[second]) > 0


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("dim", [1, 2, 8])
def test_maps_of_few_songs(count: int, dim: int) -> None:
    vectors = unit(np.random.default_rng(2).normal(size=(count, dim)))
    (points,) = fit_maps(vectors, perplexities_for(count), 0)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == count


def test_a_map_of_equal_songs_is_finite() -> None:
    assert np.isfinite(fit_maps(unit(np.ones((12, 4))), (10 / 3,), 0)).all()


def test_placing_is_what_openTSNE_does_with_a_map_of_its_own() -> None:
    from openTSNE import TSNE

    vectors, _ = clusters()
    new = unit(vectors[::7] + np.random.default_rng(3).normal(scale=0.2, size=(15, 12)))
    fitted = TSNE(
        perplexity=20, metric="cosine", neighbors="exact", negative_gradient_method="bh",
        random_state=0,
    ).fit(vectors)  # fmt: skip
    own = np.asarray(fitted.transform(new))  # moves the map's middle to 0 before
    placed = place(vectors, centred(np.asarray(fitted)), new)
    np.testing.assert_allclose(placed, own, atol=1e-3)


def test_a_new_song_lies_in_its_own_cluster_whoever_comes_with_it() -> None:
    vectors, labels = clusters()
    (points,) = fit_maps(vectors, (10.0,), 0)
    before = points.copy()
    new = unit(np.eye(5, 12) + 0.05)
    placed = place(vectors, points, new)
    assert np.array_equal(points, before)
    gaps = np.linalg.norm(placed[:, None] - points[None], axis=2)
    assert labels[gaps.argmin(axis=1)].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(place(vectors, points, new[2:3]), placed[2:3], atol=1e-5)


def test_on_a_map_of_few_songs_a_new_one_lies_at_its_nearest() -> None:
    vectors = unit(np.eye(3))
    (points,) = fit_maps(vectors, (1.0,), 0)
    np.testing.assert_array_equal(place(vectors, points, unit(np.eye(3)[[2, 0]])), points[[2, 0]])


def test_fitting_tells_how_far_it_is() -> None:
    """The search of the neighbours first, then each map's rounds."""
    vectors = unit(np.random.default_rng(0).normal(size=(40, 6)))
    told: list[float] = []
    silent = fit_maps(vectors, (5.0, 10.0), 0)
    np.testing.assert_array_equal(fit_maps(vectors, (5.0, 10.0), 0, told.append), silent)
    assert told == sorted(told)
    assert told[0] == 100 / (100 + 250 + 500 + 250)
    assert told[1] == 125 / 1100
    assert told[-1] == 1
    assert len(told) == 1 + 1000 / 25


@pytest.fixture
def vectors() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(40, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds with which maps were fitted."""
    seeds: list[int] = []

    def fit(
        vectors: np.ndarray, perplexities: tuple[float, ...], seed: int, on_progress: OnProgress
    ) -> np.ndarray:
        on_progress(1.0)
        seeds.append(seed)
        return np.random.default_rng(seed).normal(size=(len(perplexities), len(vectors), 2))

    monkeypatch.setattr(projections, "fit_maps", fit)
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
        assert set(file) == {"head", "vectors", "points"}


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
    monkeypatch.setattr(projections, "EXACT", 39)
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
