"""Scores of new songs, whatever the batches: voice, members without a part, unknown singers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.artifact import read_json
from embedder.errors import UserError
from embedder.inference.aggregate import SOFTENING, song_embedding
from embedder.inference.store import Store, read_store
from embedder.run import Run
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fusers import answering
from ensemble.fusion.pipeline import open_fusion
from ensemble.index.table import enroll, read_indexes, songs_of, write_table
from ensemble.open_set import MIN_PREFERENCE
from ensemble.predictions import read_table
from ensemble.results import Prediction, Predictions, best_choices
from ensemble.scoring import (
    SongScores,
    join_scores,
    score_songs,
    threshold_of,
    unknown_songs,
    without_vocals,
)

MEMBERS = ["aam", "triplet"]
KNOWN = 6


def part(stores: Sequence[Store], rows: Sequence[int]) -> list[Store]:
    return [store.take(np.array(rows)) for store in stores]


def answer(fusion: Any, indexes: Any, batches: Sequence[Sequence[Store]]) -> SongScores:
    return join_scores(
        [score_songs(fusion, stores, indexes, without_vocals(stores)) for stores in batches]
    )


def predictions(
    names: Sequence[str], found: SongScores, strange: Any = None, voiced: bool = False
) -> Predictions:
    songs = [
        Prediction(name, best_choices(found, n), strange is not None and bool(strange[n]), 0.5, 3.0)
        for n, name in enumerate(names)
    ]
    return Predictions(tuple(songs), found, 0.5, voiced)


def of_vocals(store: Store, voice: Sequence[float]) -> Store:
    """The store of a member that hears vocals, with a share of voice for each song."""
    weight = np.array(voice, np.float32)[store.segment_song]
    made_from = {**store.made_from, "activity": "energy"}
    return replace(store, made_from=made_from, segment_weight=weight)


# Batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [MEMBERS, ["triplet"], ["aam"]])
def test_answers_do_not_depend_on_the_batches(members: Sequence[str], trained: Run) -> None:
    fusion, indexes = open_fusion(trained, members)
    stores = [read_store(trained.store(m, "test")) for m in members]
    whole = answer(fusion, indexes, [stores])
    assert whole.voice.tolist() == [1] * 4
    assert whole.unavailable == ((),) * 4
    for batches in ([[0], [1], [2], [3]], [[0, 1, 2], [3]]):
        parts = answer(fusion, indexes, [part(stores, rows) for rows in batches])
        assert list(parts.scores) == list(whole.scores)
        for name, logs in whole.scores.items():
            assert np.array_equal(parts.scores[name], logs), name
        assert np.array_equal(parts.confidence, whole.confidence)
        assert parts.unavailable == whole.unavailable
    assert np.allclose(np.exp(whole.scores[FUSED]).sum(axis=1), 1)


def test_a_batch_that_a_member_did_not_hear_has_nothing_of_it(world: Any) -> None:
    """As where only some of the files have a vocal stem."""
    both, alone = part(world.strangers, [0, 1]), part(world.strangers, [2, 3, 4])[:1]
    found = answer(world.fusion, world.indexes, [both, alone])
    first, second = (answer(world.fusion, world.indexes, [batch]) for batch in (both, alone))
    assert list(found.scores) == list(first.scores)
    assert list(found.scores)[-1] == FUSED
    for name, logs in found.scores.items():
        assert np.array_equal(logs[:2], first.scores[name])
        if name.startswith("two/"):
            assert name not in second.scores
            assert np.isnan(logs[2:]).all()
        else:
            assert np.array_equal(logs[2:], second.scores[name])
    assert found.unavailable == ((), (), ("two",), ("two",), ("two",))
    assert found.confidence.tolist() == [
        *first.confidence,
        *second.confidence,
    ]
    own = {name: logs for name, logs in second.scores.items() if name != FUSED}
    both, weights = answering(world.fusion.weights, own)
    logs = (weights[:, None, None] * both).sum(axis=0)
    expected = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    assert np.allclose(second.scores[FUSED], expected)


# Voice ------------------------------------------------------------------------------------------


def test_a_member_that_finds_no_vocals_has_no_part_and_says_nothing_of_voice(world: Any) -> None:
    mix, vocals = part(world.strangers, [0, 1, 2, 3])
    heard = replace(mix, segment_weight=np.full_like(mix.segment_weight, 0.5))
    stores = [heard, of_vocals(vocals, [0.3, 0.0, 0.8, 0.0])]
    found = answer(world.fusion, world.indexes, [stores])
    assert found.unavailable == ((), ("two",), (), ("two",))
    assert found.voice == pytest.approx([0.3, 0.5, 0.5, 0.5])  # of those that have a part
    alone = answer(world.fusion, world.indexes, [stores[:1]])
    assert np.array_equal(found.scores[FUSED][1], alone.scores[FUSED][1])
    both = [of_vocals(store, [0.3, 0.0, 0.8, 0.0]) for store in stores]
    found = answer(world.fusion, world.indexes, [both])
    assert found.unavailable == ((),) * 4  # nobody hears a voice: all answer
    assert found.voice == pytest.approx([0.3, 0, 0.8, 0])
    plain = replace(mix, segment_weight=np.zeros_like(mix.segment_weight))
    found = answer(
        world.fusion, world.indexes, [[plain, vocals]]
    )  # a detector's word silences none
    assert found.unavailable == ((),) * 4
    assert found.voice.tolist() == [0] * 4


def test_weights_move_heads_and_the_aggregate_sees_them(trained: Run) -> None:
    """What the experts say is what the weighted segments say, song by song."""
    fusion, indexes = open_fusion(trained, ["aam"])
    store = read_store(trained.store("aam", "test"))
    rng = np.random.default_rng(0)
    weight = rng.random(len(store.segment_song)).astype(np.float32)
    weight[store.segments_of(2)] = 0
    weighted_store = replace(store, segment_weight=weight)
    found = answer(fusion, indexes, [[weighted_store]])
    plain = answer(fusion, indexes, [[store]]).scores["aam/head"]
    assert (found.voice == 0).tolist() == [False, False, True, False]
    assert store.segment_logits is not None
    for number in range(4):
        rows = store.segments_of(number)
        shares = weight[rows] if weight[rows].any() else np.ones(rows.stop - rows.start)
        raised = np.exp(store.segment_logits[rows].astype(float) / SOFTENING)
        chances = raised / raised.sum(axis=1, keepdims=True)
        mean = np.log((shares[:, None] * chances).sum(axis=0) / shares.sum())
        logs = mean / fusion.temperatures["aam/head"]
        logs -= np.log(np.exp(logs).sum())
        assert np.allclose(found.scores["aam/head"][number], logs, atol=1e-5)
        same = np.allclose(found.scores["aam/head"][number], plain[number], atol=1e-9)
        assert same == (number == 2)


# Strangers --------------------------------------------------------------------------------------


def far_away(stores: Sequence[Store]) -> list[Store]:
    """The same songs, sung by somebody like nobody: their embeddings point away from all."""
    found = []
    for store in stores:
        away = -store.segment_embeddings
        songs = [song_embedding(away[store.segments_of(n)]) for n in range(len(store.song_ids))]
        logits = store.segment_logits
        flat = None if logits is None else np.zeros_like(logits)
        found.append(
            replace(store, embeddings=np.stack(songs), segment_embeddings=away, segment_logits=flat)
        )
    return found


def test_a_stranger_is_nobody_and_known_singers_keep_their_names(world: Any) -> None:
    songs = range(len(world.validation[0].song_ids))
    names = tuple(map(str, songs))
    known, away = part(world.validation, songs), far_away(part(world.train, songs))
    unknown = threshold_of(world.fusion, world.fusion.singers, world.fusion.members)
    assert unknown is world.fusion.unknown
    gone = []
    for stores in (known, away):
        files = [replace(store, split="", song_ids=names) for store in stores]
        found = answer(world.fusion, world.indexes, [files])
        gone.append(unknown_songs(unknown, found, KNOWN))
        assert (gone[-1] == (found.confidence < unknown.threshold)).all()
    assert gone[0].mean() <= 0.1
    assert gone[1].mean() >= 0.9


def test_unknown_comes_first_and_without_the_flag_nothing_changes(
    world: Any, tmp_path: Path
) -> None:
    files = [replace(store, split="") for store in world.validation]
    found = answer(world.fusion, world.indexes, [files])
    names = [str(number) for number in range(36)]
    strange = unknown_songs(world.fusion.unknown, found, KNOWN)
    strange[4:7] = True
    predictions(names, found).write(tmp_path / "plain.csv")
    marked = predictions(names, found, strange)
    marked.write(tmp_path / "p.csv", mark_unknown=True)
    assert marked.to_csv(mark_unknown=True) == (tmp_path / "p.csv").read_text("utf-8")
    nobody = np.zeros(36, bool)
    predictions(names, found, nobody).write(tmp_path / "q.csv", mark_unknown=True)
    assert (tmp_path / "q.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    pairs = zip(
        (tmp_path / "plain.csv").read_text("utf-8").splitlines(),
        (tmp_path / "p.csv").read_text("utf-8").splitlines(),
        strict=True,
    )
    for number, (plain, marked) in enumerate(pairs):
        name, *best = plain.split(",")
        expected = ["unknown", *best[:2]] if strange[number] else best
        assert marked.split(",") == [name, *expected]
    assert (tmp_path / "p.npz").read_bytes() == (tmp_path / "plain.npz").read_bytes()


def test_of_two_singers_one_follows_unknown(world: Any, tmp_path: Path) -> None:
    found = answer(world.fusion, world.indexes, [part(world.strangers, [0])])
    two = {name: logs[:, :2] for name, logs in found.scores.items()}
    narrow = replace(found, singers=("a", "b"), scores=two)
    first = "ab"[int(two[FUSED][0].argmax())]
    predictions(["x"], narrow, [True]).write(tmp_path / "p.json", "json", mark_unknown=True)
    assert read_json(tmp_path / "p.json") == {"x": ["unknown", first]}


def test_enrolled_singers_are_judged_by_how_clearly_they_are_preferred(
    world: Any, tmp_path: Path
) -> None:
    path = tmp_path / "index.sqlite"
    write_table(path, world.train)
    enroll(path, "new", songs_of(part(world.strangers, [0, 1, 2])))
    indexes = read_indexes(path)
    found = answer(world.fusion, indexes, [part(world.strangers, [3, 4, 5])])
    unknown = threshold_of(world.fusion, found.singers, world.fusion.members)
    assert (found.scores[FUSED].argmax(axis=1) == KNOWN).all()
    assert (found.confidence < unknown.threshold).any()  # to the experts, a stranger
    gone = unknown_songs(unknown, found, KNOWN)
    assert np.array_equal(gone, found.preference < MIN_PREFERENCE)
    assert not gone.all()
    low = replace(found, preference=np.full(3, MIN_PREFERENCE - 1))
    assert unknown_songs(unknown, low, KNOWN).all()


def test_without_a_threshold_or_with_a_singer_of_that_name_nobody_is_unknown(world: Any) -> None:
    few = replace(world.fusion, unknown=None)
    with pytest.raises(UserError, match=r"--unknown needs a threshold, .* app\.py fuse$"):
        threshold_of(few, few.singers, few.members)
    with pytest.raises(
        UserError, match=r"named unknown: .* two things in one word; predict without it"
    ):
        threshold_of(world.fusion, (*world.fusion.singers, "unknown"), world.fusion.members)


def test_members_without_a_head_are_refused_where_the_threshold_is_of_heads(world: Any) -> None:
    for measure in ("energy", "both"):
        assert world.fusion.unknown is not None
        scales = {"energy": {"one": (0.0, 1.0)}, "distance": {"one": (0.0, 1.0), "two": (0.0, 1.0)}}
        unknown = replace(world.fusion.unknown, measure=measure, scales=scales)
        fusion = replace(world.fusion, unknown=unknown)
        assert threshold_of(fusion, fusion.singers, ["one", "two"]) is unknown
        with pytest.raises(UserError, match=r"energy of heads, which two lack; .* --members one$"):
            threshold_of(fusion, fusion.singers, ["two"])


# Writing ----------------------------------------------------------------------------------------


def test_a_prediction_is_a_file_and_its_table(trained: Run, tmp_path: Path) -> None:
    fusion, indexes = open_fusion(trained, None)
    stores = [read_store(trained.store(m, "test")) for m in MEMBERS]
    found = answer(fusion, indexes, [stores])
    scores = found.scores
    names = ["0010", "x", "002", "1"]
    table = predictions(names, found).write(tmp_path / "o/p.csv")
    assert table == tmp_path / "o/p.npz"
    rows = [line.split(",") for line in (tmp_path / "o/p.csv").read_text("utf-8").splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "10", "x"]
    order = [3, 2, 0, 1]
    for row, place in zip(rows, order, strict=True):
        best = sorted(range(4), key=lambda i: -scores[FUSED][place, i])[:3]
        assert row[1:] == [fusion.singers[i] for i in best]
    read = read_table(table)
    assert read.ids == ("1", "002", "0010", "x")
    assert read.truth.tolist() == [-1] * 4
    assert list(read.experts) == list(fusion.experts)
    assert np.allclose(read.log_probabilities, scores[FUSED][order], atol=1e-6)
    assert read.voice is None
    assert read.confidence is not None
    assert np.allclose(read.confidence, found.confidence[order])
    voiced = replace(found, voice=np.array([0.1, 0, 0.5, 1]))
    predictions(names, voiced, voiced=True).write(tmp_path / "o/q.json", "json")
    heard = read_table(tmp_path / "o/q.npz").voice
    assert heard is not None
    assert np.allclose(heard, [1, 0.5, 0.1, 0])
    keyed = read_json(tmp_path / "o/q.json")
    assert list(keyed) == ["1", "002", "0010", "x"]
    assert list(keyed.values()) == [row[1:] for row in rows]
    assert json.dumps(keyed)
