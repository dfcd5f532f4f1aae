"""The linear probe: scikit-learn's own decision, and what it says of singers without a song."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from ensemble.fusion.probe import FOLDS, ROUNDS, STRENGTHS, TOLERANCE, Probe

DIM = 6


def songs_of(
    singers: int, albums: int = 4, songs: int = 3, spread: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Unit embeddings around one centre a singer and one an album, labels, and albums."""
    rng = np.random.default_rng(seed)
    rows, labels, names = [], [], []
    for singer in range(singers):
        centre = rng.normal(size=DIM)
        for album in range(albums):
            colour = centre + spread * rng.normal(size=DIM)
            for _ in range(songs):
                rows.append(colour + 0.3 * rng.normal(size=DIM))
                labels.append(singer)
                names.append(f"{singer}/{album}")
    unit = np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32), np.array(labels), names


def up_to_a_constant(logits: np.ndarray) -> np.ndarray:
    """Logits of which the mean of each song is taken away."""
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def slow_probe(rows: np.ndarray, labels: np.ndarray, albums: list[str]) -> LogisticRegression:
    """The strength with the lowest mean loss over albums left out, fitted on all songs."""
    folds = GroupKFold(FOLDS).split(rows, groups=albums)
    pairs = [(a, b) for a, b in folds if set(labels[a]) == set(labels)]
    losses = []
    for strength in STRENGTHS:
        found = []
        for rest, held in pairs:
            model = LogisticRegression(C=strength, max_iter=ROUNDS, tol=TOLERANCE).fit(
                rows[rest], labels[rest]
            )
            found.append(
                log_loss(labels[held], model.predict_proba(rows[held]), labels=model.classes_)
            )
        losses.append(np.mean(found))
    best = STRENGTHS[int(np.argmin(losses))]
    return LogisticRegression(C=best, max_iter=ROUNDS, tol=TOLERANCE).fit(rows, labels)


@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_logits_are_the_decision_of_the_regression_that_held_out_albums_choose(
    spread: float,
) -> None:
    rows, labels, albums = songs_of(5, spread=spread)
    probe = Probe.fit(rows, labels, albums, 5)
    features = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)) * DIM**0.5
    slow = slow_probe(features, labels, albums)
    np.testing.assert_allclose(
        up_to_a_constant(probe.logits(rows)),
        up_to_a_constant(slow.decision_function(features)),
        atol=0.02,
    )


def test_albums_that_differ_much_make_the_regularisation_strong() -> None:
    """By songs of albums that are known, nothing would need to be held back."""
    sizes = []
    for spread in (0.1, 4.0):
        rows, labels, albums = songs_of(5, spread=spread, albums=3, seed=1)
        sizes.append(np.abs(Probe.fit(rows, labels, albums, 5).weights).max())
    assert sizes[0] > 5 * sizes[1]


def test_singers_who_stand_apart_are_named_with_confidence_on_other_albums() -> None:
    """They need hardly any regularisation, and the grid has to reach that far."""
    rows, labels, albums = songs_of(5, spread=0.2, albums=6)
    held = np.array([album[-1] in "45" for album in albums])
    known = [album for album, left_out in zip(albums, held, strict=True) if not left_out]
    logits = Probe.fit(rows[~held], labels[~held], known, 5).logits(rows[held])
    logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    features = (rows - rows[~held].mean(axis=0, dtype=np.float64)) * DIM**0.5
    timid = LogisticRegression(C=1.0, max_iter=ROUNDS).fit(features[~held], labels[~held])
    found = -logs[np.arange(held.sum()), labels[held]].mean()
    assert found < 0.5 * log_loss(labels[held], timid.predict_proba(features[held]))


def test_two_singers_are_told_apart_as_scikit_learn_does() -> None:
    rows, labels, albums = songs_of(2)
    probe = Probe.fit(rows, labels, albums, 2)
    features = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)) * DIM**0.5
    logits = probe.logits(rows)
    decision = slow_probe(features, labels, albums).decision_function(features)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], decision, atol=0.02)


def test_a_singer_without_a_song_is_never_chosen() -> None:
    rows, labels, albums = songs_of(4)
    absent = labels * 2  # 0, 2, 4, 6 of nine singers sing
    probe = Probe.fit(rows, absent, albums, 9)
    anything = np.random.default_rng(0).normal(size=(500, DIM))
    anything /= np.linalg.norm(anything, axis=1, keepdims=True)
    logits = probe.logits(anything)
    shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    assert set(logits.argmax(axis=1)) <= {0, 2, 4, 6}
    assert shares[:, [1, 3, 5, 7, 8]].max() < 1e-3
    present = Probe.fit(rows, labels, albums, 4).logits(anything)
    np.testing.assert_allclose(logits[:, :8:2], present, rtol=1e-9, atol=1e-9)


def test_a_song_s_logits_do_not_depend_on_its_company() -> None:
    rows, labels, albums = songs_of(5)
    probe = Probe.fit(rows, labels, albums, 5)
    together = probe.logits(rows)
    for song in range(len(rows)):
        np.testing.assert_array_equal(probe.logits(rows[song : song + 1])[0], together[song])
    np.testing.assert_allclose(
        together, rows.astype(np.float64) @ probe.weights.T + probe.bias, rtol=1e-9, atol=1e-9
    )
    assert probe.logits(rows[:0]).shape == (0, 5)


@pytest.mark.parametrize("albums", [1, 4])
def test_where_no_album_can_be_left_out_the_strongest_regularisation_is_taken(albums: int) -> None:
    """One album of all; or one of each singer, with which the singer would go."""
    rows, labels, _ = songs_of(4, albums=1)
    names = [str(label % albums) for label in labels]
    probe = Probe.fit(rows, labels, names, 4)
    features = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)) * DIM**0.5
    slow = LogisticRegression(C=min(STRENGTHS), max_iter=ROUNDS, tol=TOLERANCE).fit(
        features, labels
    )
    expected = up_to_a_constant(slow.decision_function(features))
    np.testing.assert_allclose(up_to_a_constant(probe.logits(rows)), expected, atol=1e-4)


def test_one_singer_needs_no_telling_apart() -> None:
    rows, labels, albums = songs_of(1)
    with pytest.raises(ValueError, match="tells singers apart; there is 1"):
        Probe.fit(rows, labels, albums, 3)
