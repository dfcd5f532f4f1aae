"""Made-up segments: clustered as their docstring says, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.index.madeup import (
    BLOCK,
    SEGMENTS,
    SHARES,
    SONGS,
    directions,
    made_up_queries,
    made_up_segments,
)

SINGER = SONGS * SEGMENTS


def test_cosines_are_those_of_songs_and_singers() -> None:
    count = 40 * SINGER  # more singers than one block has
    rows = np.concatenate(list(made_up_segments(count, 192, seed=0)))
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
    singers = BLOCK + 3
    rows = np.concatenate(list(made_up_segments(singers * SINGER, 192, seed=0)))
    queries = made_up_queries(200, singers * SINGER, 192, seed=0)
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
        return [*made_up_segments(700, 8, seed), made_up_queries(5, 700, 8, seed)]

    for one, again in zip(drawn(3), drawn(3), strict=True):
        np.testing.assert_array_equal(one, again)
    for one, other in zip(drawn(3), drawn(4), strict=True):
        assert np.abs(one - other).max() > 0.1
