"""Choosing how neighbours vote: the default stands unless another is clearly better."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.fusion.calibration import LIMITS, PRIOR_SD, TemperatureScaling
from ensemble.fusion.cross_validation import (
    STEPS,
    choose_votes,
    clearly_best,
    held_out_losses,
    temperatures,
    vote_losses,
)
from ensemble.fusion.knn import Neighbours, Votes

SONGS, SINGERS = 60, 5
GRID = (Votes(10, 0.03), Votes(1, 0.03), Votes(5, 0.3))
ALBUMS = [f"album {song // 3}" for song in range(SONGS)]
LABELS = np.arange(SONGS) % SINGERS
FOLDS = [np.flatnonzero(np.arange(SONGS) // 3 % 4 == fold) for fold in range(4)]


def neighbours(first: float, others: float, seed: int = 0) -> Neighbours:
    """Ten neighbours as near as each other; the first is right in a share `first` of the songs.

    The other nine are of the same singer, who is the right one in a share `others`.
    """
    rng = np.random.default_rng(seed)
    wrong = (LABELS + rng.integers(1, SINGERS, size=SONGS)) % SINGERS
    labels = np.repeat(np.where(rng.random(SONGS) < others, LABELS, wrong)[:, None], 10, axis=1)
    labels[:, 0] = np.where(rng.random(SONGS) < first, LABELS, wrong)
    return Neighbours(np.tile(np.linspace(0.9, 0.89, 10), (SONGS, 1)), labels)


def test_losses_are_those_of_every_candidate_at_every_temperature() -> None:
    near = neighbours(0.8, 0.5)
    table = vote_losses(near, LABELS, SINGERS, GRID)
    assert len(temperatures()) == STEPS
    assert (temperatures()[0], temperatures()[-1]) == pytest.approx(LIMITS)
    for number, votes in enumerate(GRID):
        logits = near.logits(SINGERS, votes)
        for step, temperature in enumerate(temperatures()):
            logs = TemperatureScaling(float(temperature)).log_probabilities(logits)
            slow = [-logs[song, LABELS[song]] for song in range(SONGS)]
            np.testing.assert_allclose(table[number, step], slow, rtol=1e-12)


def test_held_out_losses_are_at_the_temperature_that_the_other_folds_like_best() -> None:
    table = vote_losses(neighbours(0.7, 0.6), LABELS, SINGERS, GRID)
    found = held_out_losses(table, FOLDS)
    chosen = set()
    for fold in FOLDS:
        rest = [song for song in range(SONGS) if song not in fold]
        for number in range(len(GRID)):
            objective = [
                sum(table[number, step, song] for song in rest)
                + np.log(temperature) ** 2 / (2 * PRIOR_SD**2)
                for step, temperature in enumerate(temperatures())
            ]
            best = int(np.argmin(objective))
            chosen.add(best)
            np.testing.assert_array_equal(found[number, fold], table[number, best, fold])
    assert len(chosen) > 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("gain", "expected"), [(0.8, 0), (1.2, 1)])
def test_without_clear_evidence_the_default_stands(seed: int, gain: float, expected: int) -> None:
    """Another candidate is better by 0.8 or 1.2 standard errors; a third is worse."""
    rng = np.random.default_rng(seed)
    table = np.repeat(vote_losses(neighbours(0.7, 0.7, seed), LABELS, SINGERS, GRID[:1]), 3, axis=0)
    better = 0.3 * rng.normal(size=SONGS)
    sums = (better - better.mean()).reshape(-1, 3).sum(axis=1)  # of albums
    better += gain * np.std(sums, ddof=1) * np.sqrt(len(sums)) / SONGS - better.mean()
    table[1] -= better
    table[2] += 0.1
    assert held_out_losses(table, FOLDS).mean(axis=1).argmin() == 1
    assert choose_votes(table, ALBUMS, GRID, FOLDS) == GRID[expected]


@pytest.mark.parametrize("seed", range(5))
def test_a_clearly_better_candidate_is_taken(seed: int) -> None:
    near = neighbours(0.95, 0.2, seed)  # only the nearest neighbour knows
    assert choose_votes(vote_losses(near, LABELS, SINGERS, GRID), ALBUMS, GRID, FOLDS) == GRID[1]
    near = neighbours(0.2, 0.95, seed)  # all but the nearest do
    table = vote_losses(near, LABELS, SINGERS, GRID[1:])
    assert choose_votes(table, ALBUMS, GRID[1:], FOLDS) == GRID[2]


@pytest.mark.parametrize("errors", [1.0, 2.0])
def test_clearly_is_by_standard_errors_of_the_mean_over_albums(errors: float) -> None:
    rng = np.random.default_rng(4)
    albums = [f"{number}" for number in rng.integers(12, size=SONGS)]  # of several sizes
    names = sorted(set(albums))
    gain = (
        rng.normal(size=SONGS)
        + np.array([rng.normal() for _ in names])[[names.index(album) for album in albums]]
    )
    gain -= gain.mean()
    deviations = [sum(g for g, a in zip(gain, albums, strict=True) if a == name) for name in names]
    error = (sum(d**2 for d in deviations) / (len(names) - 1) * len(names)) ** 0.5 / SONGS
    for factor, expected in ((0.99, 0), (1.01, 1)):
        held = np.stack([gain + factor * errors * error, np.zeros(SONGS)])
        assert clearly_best(held, albums, errors=errors) == expected


def test_one_album_that_gains_much_is_no_clear_evidence() -> None:
    """Its songs are one draw, however many they are."""
    held = np.ones((2, SONGS))
    held[1, :12] = 0.0
    together = [f"album {max(song - 11, 0)}" for song in range(SONGS)]
    apart = [f"album {song}" for song in range(SONGS)]
    assert clearly_best(held, together, errors=2.0) == 0
    assert clearly_best(held, apart, errors=2.0) == 1
    assert clearly_best(held, ["album"] * SONGS) == 0


def test_another_default_stands_likewise() -> None:
    held = np.stack([np.zeros(SONGS), np.ones(SONGS), 1e-9 * (np.arange(SONGS) % 7)])
    assert clearly_best(held, ALBUMS, default=1) == 0
    assert clearly_best(held, ALBUMS, default=0) == 0
    noisy = held[[0, 2]] + np.array([[0.0], [1.0]]) * np.random.default_rng(0).normal(size=SONGS)
    noisy[1] -= noisy[1].mean() - 1e-3
    assert clearly_best(noisy, ALBUMS, default=1) == 1
