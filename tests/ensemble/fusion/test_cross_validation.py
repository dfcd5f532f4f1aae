"""Cross-fitting: honest to the last choice, and no worse than the best expert among noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.metrics import nll, score, song_nll
from ensemble.fusion import cross_validation
from ensemble.fusion.calibration import TemperatureScaling
from ensemble.fusion.cross_validation import (
    DEFAULT,
    CrossFit,
    ValidationData,
    album_folds,
    calibrated,
    choose_method,
    choose_votes,
    cross_fit,
    fit,
)
from ensemble.fusion.experts import NO_VOTES, ExpertScores, Raw, candidates
from ensemble.fusion.fusers import FUSERS
from ensemble.fusion.knn import Neighbours, SegmentNeighbours, Votes

SINGERS, CHUNKS = 6, 3
METHODS = tuple(FUSERS)


def drawn(
    qualities: Mapping[str, float],
    seed: int = 0,
    albums: int = 3,
    songs: int = 3,
    votes: bool = False,
) -> ValidationData:
    """Experts of singers x albums x songs that err by album, by song and by piece.

    `votes`: one expert more, whose neighbours' first is often right and whose others seldom are.
    """
    rng = np.random.default_rng(seed)
    count = SINGERS * albums * songs
    labels = np.repeat(np.arange(SINGERS), albums * songs)
    album = np.arange(count) // songs
    owners = np.repeat(np.arange(count), CHUNKS)
    truth = np.eye(SINGERS)[labels]
    whole: dict[str, Raw] = {}
    parts: dict[str, Raw] = {}
    for name, quality in qualities.items():
        lean = rng.normal(size=(count // songs, SINGERS))[album]
        said = 2.5 * quality * truth + lean + rng.normal(size=truth.shape)
        chunks = said[owners] + rng.normal(size=(len(owners), SINGERS))
        parts[name] = 2 * chunks
        whole[name] = 2 * chunks.reshape(count, CHUNKS, SINGERS).mean(axis=1)
    if votes:
        for material, there in ((whole, labels), (parts, labels[owners])):
            material["voting/knn_song"] = neighbours(there, rng)
    singers = tuple(f"singer {number}" for number in range(SINGERS))
    names = tuple(f"album {number}" for number in album)
    return ValidationData(
        ExpertScores(singers, labels, names, whole),
        ExpertScores(singers, labels[owners], tuple(names[song] for song in owners), parts),
        owners,
    )


def neighbours(labels: np.ndarray, rng: np.random.Generator) -> Neighbours:
    """Ten neighbours as near as each other: the first right in 8 of 10, the others a crowd."""
    wrong = (labels + rng.integers(1, SINGERS, size=len(labels))) % SINGERS
    found = np.repeat(wrong[:, None], 10, axis=1)
    found[:, 0] = np.where(rng.random(len(labels)) < 0.8, labels, wrong)
    return Neighbours(np.tile(np.linspace(0.9, 0.89, 10), (len(labels), 1)), found)


def relabelled(validation: ValidationData, labels: np.ndarray) -> ValidationData:
    """The same scores with other labels, and nothing remembered."""
    return ValidationData(
        replace(validation.songs, labels=labels),
        replace(validation.chunks, labels=labels[validation.owners]),
        validation.owners,
        validation.score_norm,
    )


def some(validation: ValidationData, songs: np.ndarray) -> ValidationData:
    """Some of the songs, in the order given, and nothing remembered."""
    place = np.full(len(validation.songs.labels), -1)
    place[songs] = np.arange(len(songs))
    owners = place[validation.owners]
    rows = np.argsort(owners, kind="stable")[(owners < 0).sum() :]

    def of(scores: ExpertScores, kept: np.ndarray) -> ExpertScores:
        raw = {name: taken(found, kept) for name, found in scores.raw.items()}
        albums = tuple(scores.albums[row] for row in kept)
        return ExpertScores(scores.singers, scores.labels[kept], albums, raw)

    return ValidationData(of(validation.songs, songs), of(validation.chunks, rows), owners[rows])


def taken(raw: Raw, rows: np.ndarray) -> Raw:
    return raw.take(rows) if isinstance(raw, Neighbours | SegmentNeighbours) else raw[rows]


def rows_of(found: CrossFit) -> dict[str, np.ndarray]:
    return {**found.experts, **found.methods, "fused": found.fused}


@pytest.fixture(scope="module")
def validation() -> ValidationData:
    experts = {"good/head": 1.0, "fair/probe": 0.7, "noise/head": 0.0}
    return drawn(experts, votes=True)


@pytest.fixture(scope="module")
def found(validation: ValidationData) -> CrossFit:
    return cross_fit(validation, METHODS)


@pytest.fixture
def easily(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest loss chooses the method, however little lower it is."""
    monkeypatch.setattr(cross_validation, "ERRORS", 0.0)


# Folds ------------------------------------------------------------------------------------------


def test_an_album_s_songs_share_their_fold_and_folds_are_about_equal() -> None:
    albums = [f"album {number // 4}" for number in range(80)]
    folds = album_folds(albums, seed=0)
    assert np.bincount(folds).tolist() == [16] * 5
    assert all(len(set(folds[start : start + 4])) == 1 for start in range(0, 80, 4))
    np.testing.assert_array_equal(folds, album_folds(albums, seed=0))
    assert not np.array_equal(folds, album_folds(albums, seed=1))


@pytest.mark.parametrize("albums", [2, 3, 5])
def test_few_albums_make_as_many_folds(albums: int) -> None:
    folds = album_folds([f"{number % albums}" for number in range(20)], seed=0)
    assert len(set(folds)) == albums


def test_one_album_is_too_few() -> None:
    with pytest.raises(UserError, match="come from 1 album; fusion needs two or more"):
        album_folds(["only"] * 5, seed=0)


# Honesty ----------------------------------------------------------------------------------------


def test_each_song_s_rows_are_of_what_other_folds_fitted(
    validation: ValidationData, found: CrossFit
) -> None:
    folds = album_folds(validation.songs.albums, seed=0)
    for fold in range(5):
        held = np.flatnonzero(folds == fold)
        fitted = fit(validation, np.flatnonzero(folds != fold), folds, METHODS)
        logs = calibrated(validation, fitted, held)
        for name, rows in logs.items():
            np.testing.assert_array_equal(found.experts[name][held], rows)
        for name in METHODS:
            np.testing.assert_array_equal(
                found.methods[name][held], fitted.fusers[name].log_probabilities(logs)
            )


def test_what_is_fitted_on_songs_is_fitted_on_those_songs(validation: ValidationData) -> None:
    """Recomputed from arrays that hold nothing else."""
    scores, folds = validation.songs, album_folds(validation.songs.albums, seed=0)
    songs = np.flatnonzero(folds != 2)
    fitted = fit(validation, songs, folds, ("log_linear",))
    alone = some(validation, songs)
    same = fit(alone, np.arange(len(songs)), folds[songs], ("log_linear",))
    assert same.votes == fitted.votes
    assert same.temperatures == fitted.temperatures
    assert same.fusers["log_linear"].weights == fitted.fusers["log_linear"].weights
    for name, temperature in fitted.temperatures.items():
        logits = scores.logits(name, fitted.votes[name])[songs]
        assert temperature == TemperatureScaling.fit(logits, scores.labels[songs]).temperature
    np.testing.assert_array_equal(
        calibrated(validation, fitted, songs)["good/head"],
        TemperatureScaling(fitted.temperatures["good/head"]).log_probabilities(
            scores.raw["good/head"][songs]
        ),  # type: ignore[index]
    )


def test_a_song_counts_the_same_however_many_chunks_it_has(validation: ValidationData) -> None:
    rows = np.sort(np.concatenate([np.arange(len(validation.owners))] * 2))
    raw = {name: taken(found, rows) for name, found in validation.chunks.raw.items()}
    twice = replace(
        validation,
        chunks=replace(validation.chunks, raw=raw),
        owners=validation.owners[rows],
        computed={},
    )
    folds, songs = album_folds(validation.songs.albums, seed=0), np.arange(54)
    one, other = (fit(v, songs, folds, ("log_linear",)) for v in (validation, twice))
    assert one.temperatures == other.temperatures
    weights = [list(found.fusers["log_linear"].weights.values()) for found in (one, other)]
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-3, atol=1e-3)


def test_what_is_remembered_is_of_the_votes_asked_for(validation: ValidationData) -> None:
    name = "voting/knn_song"
    for votes in (Votes(10, 0.03), Votes(1, 0.03), Votes(10, 0.3), Votes(10, 0.03)):
        for chunks, scores in ((False, validation.songs), (True, validation.chunks)):
            found = validation.logits(name, votes, chunks)
            np.testing.assert_array_equal(found, scores.logits(name, votes))


@pytest.mark.usefixtures("easily")
def test_a_fold_s_labels_change_nothing_about_its_own_scores(validation: ValidationData) -> None:
    """Neither votes nor temperatures nor weights nor the method; but they do change the others'."""
    before = cross_fit(validation, METHODS)
    held = album_folds(validation.songs.albums, seed=0) == 3
    labels = validation.songs.labels.copy()
    labels[held] = (labels[held] + 1) % SINGERS
    after = cross_fit(relabelled(validation, labels), METHODS)
    one, other = rows_of(before), rows_of(after)
    for name, rows in one.items():
        np.testing.assert_array_equal(other[name][held], rows[held])
        assert not np.array_equal(other[name][~held], rows[~held])
    for name, rows in before.plain.items():  # printed as "before calibration": votes are fitted
        np.testing.assert_array_equal(after.plain[name][held], rows[held])


def test_votes_are_chosen_without_the_fold_that_they_are_used_on(
    validation: ValidationData,
) -> None:
    scores, folds = validation.songs, album_folds(validation.songs.albums, seed=0)
    grid = candidates("voting/knn_song", "none")
    songs = np.flatnonzero(folds != 1)
    parts = [np.flatnonzero(folds[songs] == fold) for fold in (0, 2, 3, 4)]
    expected = choose_votes(
        validation.losses("voting/knn_song")[:, :, songs],
        [scores.albums[song] for song in songs],
        grid,
        parts,
    )
    fitted = fit(validation, songs, folds, ("mean",))
    assert fitted.votes["voting/knn_song"] == expected
    assert expected.k == 1  # the default, of 10 neighbours, hears the crowd
    assert fitted.votes["good/head"] == NO_VOTES


def test_where_nothing_can_be_held_out_votes_are_the_default(validation: ValidationData) -> None:
    folds = album_folds(validation.songs.albums, seed=0)
    fitted = fit(validation, np.flatnonzero(folds == 1), folds, ("mean",))
    assert fitted.votes["voting/knn_song"] == Votes() == candidates("voting/knn_song", "none")[0]


def slow_choices(validation: ValidationData) -> list[str]:
    """For each fold the method of the lowest loss on others, of which each is left out in turn."""
    scores, folds = validation.songs, album_folds(validation.songs.albums, seed=0)
    chosen = []
    for fold in range(5):
        losses = dict.fromkeys(METHODS, 0.0)
        for other in set(range(5)) - {fold}:
            held = np.flatnonzero(folds == other)
            rest = np.flatnonzero((folds != fold) & (folds != other))
            fitted = fit(validation, rest, folds, METHODS)
            logs = calibrated(validation, fitted, held)
            for name, fuser in fitted.fusers.items():
                losses[name] += song_nll(scores.labels[held], fuser.log_probabilities(logs)).sum()
        chosen.append(min(losses, key=lambda name: losses[name]))
    return chosen


@pytest.mark.usefixtures("easily")
def test_the_method_of_each_fold_is_chosen_by_the_others_among_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[set[str]] = []
    real = choose_method

    def spy(methods: Sequence[str], held_out: np.ndarray, albums: Sequence[str]) -> str:
        asked.append(set(albums))
        assert held_out.shape == (len(methods), len(albums))
        return real(methods, held_out, albums)

    monkeypatch.setattr(cross_validation, "choose_method", spy)
    validation = drawn({"good/head": 1.0, "fair/head": 0.3, "noise/head": 0.0}, seed=1)
    found = cross_fit(validation, METHODS)
    folds, chosen = album_folds(validation.songs.albums, seed=0), slow_choices(validation)
    assert len(set(chosen)) > 1  # the folds do not agree, or there would be little to see
    for fold, method in enumerate(chosen):
        held = folds == fold
        np.testing.assert_array_equal(found.fused[held], found.methods[method][held])
        albums = {validation.songs.albums[song] for song in np.flatnonzero(~held)}
        assert asked[fold] == albums


# The method -------------------------------------------------------------------------------------


def test_the_default_method_stands_unless_another_is_clearly_better() -> None:
    albums = [f"{song // 2}" for song in range(40)]
    noise = np.random.default_rng(0).normal(size=40)
    noise -= noise.mean()
    error = np.std(noise.reshape(-1, 2).sum(axis=1), ddof=1) * 20**0.5 / 40
    names = ("vote", DEFAULT, "mean")
    for factor, expected in ((1.9, DEFAULT), (2.1, "mean")):
        held_out = np.stack([np.full(40, 9.0), noise + factor * error, np.zeros(40)])
        assert choose_method(names, held_out, albums) == expected
    held_out = np.stack([np.ones(40), np.ones(40) - 1e-9])
    assert choose_method(("vote", "mean"), held_out, albums) == "mean"  # the default is not asked


def test_the_method_of_all_songs_is_the_one_of_the_lowest_cross_fitted_loss(
    validation: ValidationData, found: CrossFit
) -> None:
    losses = [song_nll(validation.songs.labels, found.methods[name]) for name in METHODS]
    assert found.method == choose_method(METHODS, np.array(losses), validation.songs.albums)
    everything = np.arange(len(validation.songs.labels))
    folds = album_folds(validation.songs.albums, seed=0)
    fitted = fit(validation, everything, folds, METHODS)
    assert fitted.votes == found.fitted.votes
    assert fitted.temperatures == found.fitted.temperatures
    assert list(found.fitted.fusers) == [found.method]
    assert fitted.fusers[found.method].weights == found.fitted.fusers[found.method].weights


@pytest.mark.parametrize("method", METHODS)
def test_one_method_alone_is_the_one_of_every_fold(
    method: str, validation: ValidationData, found: CrossFit
) -> None:
    alone = cross_fit(validation, (method,))
    assert alone.method == method
    assert list(alone.methods) == [method]
    np.testing.assert_array_equal(alone.fused, found.methods[method])


@pytest.mark.usefixtures("easily")
def test_with_two_albums_there_is_nothing_to_choose_by() -> None:
    validation = drawn({"good/head": 1.0, "noise/head": 0.0})
    part = some(
        validation, np.flatnonzero(np.isin(validation.songs.albums, ["album 0", "album 3"]))
    )
    found = cross_fit(part, METHODS)
    assert all(np.isfinite(rows).all() for rows in rows_of(found).values())
    np.testing.assert_array_equal(found.fused, found.methods[DEFAULT])
    without = cross_fit(part, ("vote", "mean"))
    np.testing.assert_array_equal(without.fused, without.methods["vote"])


# Experts of which half are noise ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "informed", [{"a/head": 1.0, "b/head": 0.8, "c/head": 0.6}, {"a/head": 1.2}]
)
def test_with_as_much_noise_the_chosen_fusion_is_no_worse_than_the_best_expert(
    informed: dict[str, float], seed: int
) -> None:
    """Nor with more of it: one expert that knows something beside five that do not."""
    noise = {f"{name}/head": 0.0 for name in "uvwxy"[: max(3, 6 - len(informed))]}
    validation = drawn(informed | noise, seed)
    found, labels = cross_fit(validation, METHODS, seed), validation.songs.labels
    losses = {name: nll(labels, logs) for name, logs in found.experts.items()}
    scores = {name: score(labels, logs) for name, logs in found.experts.items()}
    assert min(losses[name] for name in noise) > 0.97 * np.log(SINGERS)  # the noise is noise
    assert min(losses.values()) < 0.7 * np.log(SINGERS)  # and the best is not
    if len(informed) > 1:
        assert nll(labels, found.fused) < min(losses.values())
        assert score(labels, found.fused) >= max(scores.values())
    else:
        assert nll(labels, found.fused) <= min(losses.values()) + 0.03
        assert score(labels, found.fused) >= max(scores.values()) - 0.05
    folds, songs = album_folds(validation.songs.albums, seed), np.arange(len(labels))
    fuser = fit(validation, songs, folds, ("log_linear",)).fusers["log_linear"]
    said = {name: fuser.weights[name] * found.experts[name].std() for name in fuser.weights}
    assert max(said[name] for name in noise) < 0.15 * max(said.values())


# Repetition -------------------------------------------------------------------------------------


def test_fitting_repeats_and_the_order_of_the_songs_does_not_matter(
    validation: ValidationData,
) -> None:
    order = np.random.default_rng(0).permutation(len(validation.songs.labels))
    methods = ("vote", "log_linear")
    found = cross_fit(validation, methods)
    again = cross_fit(relabelled(validation, validation.songs.labels), methods)
    moved = cross_fit(some(validation, order), methods)
    other = cross_fit(validation, methods, seed=1)
    assert not np.array_equal(other.fused, found.fused)  # the seed draws other folds
    assert moved.method == found.method
    for name, rows in rows_of(found).items():
        np.testing.assert_array_equal(rows_of(again)[name], rows)
        np.testing.assert_allclose(rows_of(moved)[name], rows[order], atol=1e-3)
