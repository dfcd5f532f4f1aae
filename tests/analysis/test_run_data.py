"""What pages read: each thing that is missing or disagrees is named, with the command to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.run_data import (
    album_title,
    member_stores,
    members_with_stores,
    predicted_splits,
    read_predicted,
    read_run_data,
    song_list,
    song_title,
)
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.embed import embed_songs
from embedder.inference.store import Store, write_store
from embedder.run import Run
from ensemble.predictions import read_table, write_table

AGAIN = "python app.py fuse"


@pytest.mark.parametrize(
    ("song", "title"),
    [("a/b/01-Lost_Ashes.mp3", "01-Lost_Ashes"), ("a/b/Mr. X.flac", "Mr. X"), ("12", "12")],
)
def test_song_title(song: str, title: str) -> None:
    assert song_title(song) == title


@pytest.mark.parametrize(
    ("album", "title"), [("alys/Lonely", "Lonely"), ("", "unknown"), ("alone", "alone")]
)
def test_album_title(album: str, title: str) -> None:
    assert album_title(album) == title


def test_members_are_those_that_were_embedded(build_run: Callable[..., Run]) -> None:
    run = build_run()
    run.member("trained only").mkdir()
    assert members_with_stores(run) == ["aam", "triplet"]
    assert members_with_stores(run, ["triplet", "triplet"]) == ["triplet"]
    with pytest.raises(UserError, match=f"member trained only has no store.*{AGAIN}"):
        members_with_stores(run, ["trained only"])
    with pytest.raises(UserError, match=r"no member amm.*there: aam, trained only, triplet"):
        members_with_stores(run, ["amm"])
    with pytest.raises(UserError, match="names no member"):
        members_with_stores(run, [])


def test_no_stores_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no member in .* has embedded songs; run: {AGAIN}"):
        members_with_stores(Run(tmp_path))


def test_stores_come_in_the_order_of_the_splits(analyzed: Run) -> None:
    stores = member_stores(analyzed, "triplet")
    assert [store.split for store in stores] == ["train", "validation", "test"]
    songs = song_list(stores, [])
    assert songs.ids == tuple(song for store in stores for song in store.song_ids)
    assert np.bincount(songs.splits).tolist() == [24, 12, 12]


def test_stores_of_other_singers_are_refused(
    build_run: Callable[..., Run], build_store: Callable[..., Store]
) -> None:
    run = build_run()
    write_store(run.store("aam", "train"), build_store("aam", "train", ["x", "y"], ["1"]))
    with pytest.raises(UserError, match=f"stores of member aam name different singers.*{AGAIN}"):
        member_stores(run, "aam")


def test_a_song_in_two_splits_is_refused(build_store: Callable[..., Store]) -> None:
    train = build_store("aam", "train", ["x", "y"], ["1"])
    with pytest.raises(UserError, match=f"a song stands in two splits.*{AGAIN}"):
        song_list([train, replace(train, split="validation")], [])


def test_predictions_missing_or_unreadable(build_run: Callable[..., Run]) -> None:
    run = build_run()
    path = run.predictions / "validation.npz"
    path.write_bytes(b"no npz")
    with pytest.raises(UserError, match=r"validation\.npz is not a readable table"):
        read_predicted(run)
    path.unlink()
    with pytest.raises(UserError, match=rf"validation\.npz is missing; run: {AGAIN}"):
        read_predicted(run)


def test_probabilities_that_do_not_sum_to_1_are_refused(build_run: Callable[..., Run]) -> None:
    run = build_run()
    path = run.predictions / "validation.npz"
    table = read_table(path)
    write_table(path, replace(table, log_probabilities=table.log_probabilities + 1))
    with pytest.raises(UserError, match=f"holds no log-probabilities.*{AGAIN}"):
        read_predicted(run)


def test_predictions_without_truth_are_refused(build_run: Callable[..., Run]) -> None:
    run = build_run()
    path = run.predictions / "validation.npz"
    write_table(path, replace(read_table(path), truth=np.full(12, -1)))
    with pytest.raises(UserError, match=f"no song whose singer is known.*{AGAIN}"):
        read_predicted(run)


def test_a_folder_predicted_as_test_is_left_alone(
    build_run: Callable[..., Run], analyzed: Run
) -> None:
    run = build_run()  # validation only: a test.npz there is someone's folder called "test"
    write_table(run.predictions / "test.npz", read_table(run.predictions / "validation.npz"))
    assert predicted_splits(run, ["aam", "triplet"]) == ["validation"]
    assert predicted_splits(analyzed, ["aam", "triplet"]) == ["validation", "test"]


def test_predictions_reach_the_right_songs(analyzed: Run) -> None:
    tables = read_predicted(analyzed, ["validation", "test"])
    songs = song_list(member_stores(analyzed, "aam"), tables)
    for table in tables:
        for song, row in zip(table.ids, table.probabilities, strict=True):
            place = songs.ids.index(song)
            assert songs.predictions[place] == row.argmax()
            assert songs.confidences[place] == row.max()
    assert (songs.predictions[songs.splits == 0] == -1).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: replace(t, ids=("a stranger", *t.ids[1:])), "name song a stranger"),
        (lambda t: replace(t, singers=t.singers[::-1]), "name other singers"),
        (lambda t: replace(t, truth=t.truth[::-1].copy()), "disagree on who sings"),
    ],
)
def test_predictions_of_other_songs_are_refused(
    spoil: Callable[..., object], message: str, analyzed: Run
) -> None:
    stores = member_stores(analyzed, "aam")
    predicted = read_predicted(analyzed)[0]
    with pytest.raises(UserError, match=f"{message}.*{AGAIN}"):
        song_list(stores, [spoil(predicted)])  # type: ignore[list-item]


def test_stores_that_an_interrupted_fuse_embedded_are_not_taken_for_those_fused(
    trained: Run,
) -> None:
    read_run_data(trained)
    catalogue = read_catalogue(trained.catalogue)
    embed_songs(trained, catalogue, [("aam", "validation")], InferenceConfig(1.0, 0.5), "cpu")
    with pytest.raises(UserError, match=r"is of .*, 1 s every 0\.5 s, .* the fusion of"):
        read_run_data(trained)


def test_a_fusion_of_other_songs_is_not_shown(trained: Run) -> None:
    first, *others = read_catalogue(trained.catalogue).songs
    write_catalogue(trained.catalogue, Catalogue((replace(first, audio="other"), *others)))
    with pytest.raises(UserError, match="other songs"):
        read_run_data(trained)
