"""Maps: neighbours as a slow search finds them, determinism, clusters, openTSNE's own transform."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.maps import fit
from analysis.maps.fit import centred, fit_maps, neighbours, perplexities_for, place


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
    monkeypatch.setattr(fit, "EXACT", exact)
    if exact < 100:  # the grid costs the same for few points
        monkeypatch.setattr(fit, "ROUNDS", (60, 40))
        monkeypatch.setattr(fit, "MORE_ROUNDS", 20)
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
