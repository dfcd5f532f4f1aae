"""The ensemble over a run folder: what is stale, what is written, what is answered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.aggregate import SOFTENING
from embedder.artifacts import SPLITS, Run, read_json
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.errors import UserError
from embedder.listening import Listening
from embedder.store import Store, read_store, write_store
from ensemble.fuse import FUSED
from ensemble.fusion import read_fusion
from ensemble.pipeline import (
    answer,
    choose_members,
    fuse_run,
    list_files,
    open_fusion,
    stale_stores,
    write_prediction,
)
from ensemble.predictions import read_table

MEMBERS = ["aam", "triplet"]


def contents(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(found)}


def rewrite(run: Run, member: str, split: str, **changes: Any) -> None:
    """Write a store again with other fields."""
    path = run.store(member, split)
    write_store(path, replace(read_store(path), **changes))


def song(store: Store, first: int, count: int) -> Store:
    """The part of a store about some songs, as embedding hands it over."""
    rows = slice(store.segments_of(first).start, store.segments_of(first + count - 1).stop)
    logits = store.segment_logits
    return replace(
        store,
        song_ids=store.song_ids[first : first + count],
        albums=store.albums[first : first + count],
        labels=store.labels[first : first + count],
        embeddings=store.embeddings[first : first + count],
        segment_song=store.segment_song[rows] - first,
        segment_start_s=store.segment_start_s[rows],
        segment_embeddings=store.segment_embeddings[rows],
        segment_logits=None if logits is None else logits[rows],
        segment_weight=store.segment_weight[rows],
    )


# Members and stores -----------------------------------------------------------------------------


def test_members_are_all_or_those_that_are_named(trained: Run, tmp_path: Path) -> None:
    assert choose_members(trained, None) == MEMBERS
    assert choose_members(trained, ["triplet", "aam", "triplet"]) == ["triplet", "aam"]
    with pytest.raises(UserError, match="there is no member 'x'; members are: aam, triplet"):
        choose_members(trained, ["aam", "x"])
    with pytest.raises(UserError, match=r"no member is trained in .*train-embedder"):
        choose_members(Run(tmp_path), None)


def test_a_fresh_run_has_no_stale_store_and_a_changed_one_those_that_changed(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    assert stale_stores(trained, catalogue, MEMBERS) == []
    trained.store("aam", "validation").unlink()
    trained.store("triplet", "test").write_bytes(b"PK broken")
    made_from = read_store(trained.store("triplet", "train")).made_from
    rewrite(trained, "triplet", "train", made_from={**made_from, "checkpoint": "other"})
    stale = [("aam", "validation"), ("triplet", "train"), ("triplet", "test")]
    assert stale_stores(trained, catalogue, MEMBERS) == stale
    assert stale_stores(trained, catalogue, ["aam"]) == stale[:1]
    trained.weights("aam").write_bytes(trained.weights("aam").read_bytes() + b"\0")  # retrained
    assert stale_stores(trained, catalogue, ["aam"]) == [("aam", s) for s in SPLITS]


def test_with_other_songs_every_store_is_stale(trained: Run) -> None:
    songs = read_catalogue(trained.catalogue).songs
    fewer = Catalogue(tuple(s for s in songs if s.split != "test"))
    expected = [(m, s) for m in MEMBERS for s in ("train", "validation")]  # no test songs, no store
    assert stale_stores(trained, fewer, MEMBERS) == expected


def test_another_grid_or_detector_makes_every_store_stale(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    every = [(m, s) for m in MEMBERS for s in SPLITS]
    assert stale_stores(trained, catalogue, MEMBERS, Listening(2.0, 1.0)) == []  # as trained
    for other in (Listening(2.5), Listening(hop_s=0.5), Listening(tta=1), Listening(detector="d")):
        assert stale_stores(trained, catalogue, MEMBERS, other) == every
    before = contents(trained.root)
    with pytest.raises(
        UserError, match=r"made from grid 2 s every 1 s, but .* now 2 s every 1 s a"
    ):
        fuse_run(trained, catalogue, MEMBERS, "mean", 0, Listening(tta=1))
    with pytest.raises(UserError, match=r"made from activity none, but the activity is now d;"):
        fuse_run(trained, catalogue, MEMBERS, "mean", 0, Listening(detector="d"))
    assert contents(trained.root) == before


def test_weights_move_heads_and_the_aggregate_sees_them(trained: Run) -> None:
    """What the experts say is what the weighted segments say, song by song."""
    fusion, indexes = open_fusion(trained, ["aam"])
    store = read_store(trained.store("aam", "test"))
    rng = np.random.default_rng(0)
    weight = rng.random(len(store.segment_song)).astype(np.float32)
    weight[store.segments_of(2)] = 0
    weighted = replace(store, segment_weight=weight)
    scores, voice = answer(fusion, indexes, [[weighted]])
    plain, _ = answer(fusion, indexes, [[store]])
    assert (voice == 0).tolist() == [False, False, True, False]
    assert store.segment_logits is not None
    for number in range(4):
        part = store.segments_of(number)
        shares = weight[part] if weight[part].any() else np.ones(part.stop - part.start)
        raised = np.exp(store.segment_logits[part].astype(float) / SOFTENING)
        chances = raised / raised.sum(axis=1, keepdims=True)
        mean = np.log((shares[:, None] * chances).sum(axis=0) / shares.sum())
        logs = mean / fusion.temperatures["aam/head"]
        logs -= np.log(np.exp(logs).sum())
        assert np.allclose(scores["aam/head"][number], logs, atol=1e-5)
        same = np.allclose(scores["aam/head"][number], plain["aam/head"][number], atol=1e-9)
        assert same == (number == 2)


# Fusing -----------------------------------------------------------------------------------------


def test_fusing_writes_everything_and_the_same_bytes_again(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    first = fuse_run(trained, catalogue, MEMBERS, "mean", 0)
    written = contents(trained.root)
    made = {name for name in written if name.startswith(("fusion/", "predictions/"))}
    indexes = {f"fusion/{m}.faiss{end}" for m in MEMBERS for end in ("", ".json")}
    tables = {f"predictions/{split}.npz" for split in ("validation", "test")}
    assert made == {"fusion/fusion.json", *indexes, *tables}
    shutil.rmtree(trained.fusion.parent)
    shutil.rmtree(trained.predictions)
    again = fuse_run(trained, catalogue, MEMBERS, "mean", 0)
    assert again == first == read_fusion(trained.fusion)
    assert contents(trained.root) == written
    assert list(again.made_from) == MEMBERS
    other = fuse_run(trained, catalogue, MEMBERS, "mean", 1)  # other folds
    assert other.weights == first.weights  # which are fitted on all songs
    assert other.results != first.results


def test_test_songs_have_rows_and_a_table_of_their_own(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    fusion = fuse_run(trained, catalogue, MEMBERS, "mean", 0)
    names = ["aam/head", "aam/knn", "triplet/knn", FUSED]
    rows = [(row.split, row.expert, row.cross_fitted) for row in fusion.results]
    assert rows == [
        *(("validation", name, True) for name in names),
        *(("test", name, False) for name in names),
    ]
    table = read_table(trained.predictions / "test.npz")
    songs = sorted(catalogue.of("test"), key=lambda s: s.id)
    assert table.ids == tuple(s.id for s in songs)
    assert [table.singers[label] for label in table.truth] == [s.singer for s in songs]
    top1 = float(np.mean(table.log_probabilities.argmax(axis=1) == table.truth))
    (fused,) = [row for row in fusion.results if (row.split, row.expert) == ("test", FUSED)]
    assert fused.metrics.top_1.value == pytest.approx(top1)
    stores = [read_store(trained.store(m, "test")) for m in MEMBERS]
    loaded, found = open_fusion(trained, None)
    scores, _ = answer(loaded, found, [stores])
    assert np.allclose(scores[FUSED], table.log_probabilities, atol=1e-5)


def test_without_test_songs_an_old_test_table_goes(trained: Run) -> None:
    songs = read_catalogue(trained.catalogue).songs
    fewer = Catalogue(tuple(s for s in songs if s.split != "test"))
    write_catalogue(trained.catalogue, fewer)
    for member in MEMBERS:
        for split in ("train", "validation"):
            made_from = read_store(trained.store(member, split)).made_from
            changed = {**made_from, "catalogue": fewer.fingerprint()}
            rewrite(trained, member, split, made_from=changed)
    fusion = fuse_run(trained, fewer, MEMBERS, "mean", 0)
    assert {row.split for row in fusion.results} == {"validation"}
    assert not (trained.predictions / "test.npz").exists()


def test_the_aggregate_is_kept_and_its_name_checked(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    voted = fuse_run(trained, catalogue, MEMBERS, "vote", 0)
    assert open_fusion(trained, None)[0].aggregate == "vote"
    assert voted.weights != fuse_run(trained, catalogue, MEMBERS, "mean", 0).weights
    before = contents(trained.root)
    with pytest.raises(UserError, match="--aggregate median is unknown"):
        fuse_run(trained, catalogue, MEMBERS, "median", 0)
    assert contents(trained.root) == before


@pytest.mark.parametrize(
    ("split", "changes", "message"),
    [
        ("train", {"made_from": {"checkpoint": "old"}}, "made from checkpoint old, .*app.py fuse"),
        ("validation", {"made_from": {}}, "made from checkpoint none"),
    ],
)
def test_a_store_that_does_not_fit_is_refused_and_nothing_is_written(
    split: str, changes: dict[str, Any], message: str, trained: Run
) -> None:
    rewrite(trained, "triplet", split, **changes)
    before = contents(trained.root)
    with pytest.raises(UserError, match=message):
        fuse_run(trained, read_catalogue(trained.catalogue), MEMBERS, "mean", 0)
    assert contents(trained.root) == before
    trained.store("triplet", split).unlink()
    with pytest.raises(UserError, match=r"is missing; run again: python app\.py fuse"):
        fuse_run(trained, read_catalogue(trained.catalogue), MEMBERS, "mean", 0)


def test_a_fusion_opens_with_the_indexes_of_the_members_that_are_named(
    trained: Run, tmp_path: Path
) -> None:
    fusion, indexes = open_fusion(trained, None)
    assert list(indexes) == list(fusion.members) == MEMBERS
    assert list(open_fusion(trained, ["triplet"])[1]) == ["triplet"]
    with pytest.raises(UserError, match="member x is not in the fusion, which has aam, triplet"):
        open_fusion(trained, ["x"])
    trained.index("aam").unlink()
    assert list(open_fusion(trained, ["triplet"])[1]) == ["triplet"]
    with pytest.raises(UserError, match=r"aam\.faiss is missing; run again: python"):
        open_fusion(trained, None)
    with pytest.raises(UserError, match=r"fusion\.json is missing; run again: python"):
        open_fusion(Run(tmp_path), None)


# Files and answers ------------------------------------------------------------------------------


def test_files_are_listed_sorted_whatever_lies_beside_them(tmp_path: Path) -> None:
    for name in ("b.WAV", "a/2.mp3", "10.flac", "9.ogg", ".hidden.wav", ".git/x.wav", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in list_files(tmp_path)]
    assert found == ["10.flac", "9.ogg", "a/2.mp3", "b.WAV"]


def test_a_folder_without_files_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none does not exist; --test_dir takes a folder"):
        list_files(tmp_path / "none")
    (tmp_path / "x.txt").touch()
    with pytest.raises(UserError, match=r"holds no audio file \(\.wav \.flac .*among 1 files"):
        list_files(tmp_path)
    with pytest.raises(UserError, match=r"x\.txt is a file; --test_dir takes a folder"):
        list_files(tmp_path / "x.txt")


@pytest.mark.parametrize("members", [MEMBERS, ["triplet"], ["aam"]])
def test_answers_do_not_depend_on_the_batches(members: Sequence[str], trained: Run) -> None:
    fusion, indexes = open_fusion(trained, members)
    stores = [read_store(trained.store(m, "test")) for m in members]
    whole, voice = answer(fusion, indexes, [stores])
    assert voice.tolist() == [1] * 4
    for sizes in ((1, 1, 1, 1), (3, 1)):
        first, batches = 0, []
        for size in sizes:
            batches.append([song(store, first, size) for store in stores])
            first += size
        parts, _ = answer(fusion, indexes, batches)
        assert list(parts) == list(whole)
        for name, logs in whole.items():
            assert np.array_equal(parts[name], logs), name
    assert np.allclose(np.exp(whole[FUSED]).sum(axis=1), 1)


def test_a_prediction_is_a_file_and_its_table(trained: Run, tmp_path: Path) -> None:
    fusion, indexes = open_fusion(trained, None)
    stores = [read_store(trained.store(m, "test")) for m in MEMBERS]
    scores, voice = answer(fusion, indexes, [stores])
    names = ["0010", "x", "002", "1"]
    table = write_prediction(tmp_path / "o/p.csv", "csv", names, fusion.singers, scores)
    assert table == tmp_path / "o/p.npz"
    rows = [line.split(",") for line in (tmp_path / "o/p.csv").read_text("utf-8").splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "10", "x"]
    for row, place in zip(rows, (3, 2, 0, 1), strict=True):
        best = sorted(range(4), key=lambda i: -scores[FUSED][place, i])[:3]
        assert row[1:] == [fusion.singers[i] for i in best]
    found = read_table(table)
    assert found.ids == ("1", "002", "0010", "x")
    assert found.truth.tolist() == [-1] * 4
    assert list(found.experts) == ["aam/head", "aam/knn", "triplet/knn"]
    assert np.allclose(found.log_probabilities, scores[FUSED][[3, 2, 0, 1]], atol=1e-6)
    assert found.voice is None
    voice = np.array([0.1, 0, 0.5, 1])
    write_prediction(tmp_path / "o/q.json", "json", names, fusion.singers, scores, voice)
    heard = read_table(tmp_path / "o/q.npz").voice
    assert heard is not None
    assert np.allclose(heard, [1, 0.5, 0.1, 0])
    keyed = read_json(tmp_path / "o/q.json")
    assert list(keyed) == ["1", "002", "0010", "x"]
    assert list(keyed.values()) == [row[1:] for row in rows]
    assert json.dumps(keyed)
