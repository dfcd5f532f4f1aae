"""What a fusion says of new songs: recomputed, in any company, with and without some members."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.fusion.experts import FUSED, gather
from ensemble.index.members import MemberIndex
from ensemble.index.table import enroll, read_indexes, songs_of, write_table
from ensemble.open_set import SOFTENING
from ensemble.scoring import SongScores, all_log_probabilities, score_songs

KNOWN = 6
NEW = ("new one", "new two")


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


@pytest.fixture(scope="module")
def enlarged(world: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MemberIndex]:
    """The indexes with two more singers, each enrolled from the three songs of one album."""
    path: Path = tmp_path_factory.mktemp("enlarged") / "index.sqlite"
    write_table(path, world.train)
    for number, singer in enumerate(NEW):
        rows = np.arange(3) + 6 * number
        enroll(path, singer, songs_of([store.take(rows) for store in world.strangers]))
    return read_indexes(path)


@pytest.fixture(params=["trained", "enlarged"])
def indexes(
    request: pytest.FixtureRequest, world: Any, enlarged: dict[str, MemberIndex]
) -> dict[str, MemberIndex]:
    return enlarged if request.param == "enlarged" else world.indexes


def test_the_answer_is_the_experts_calibrated_weighted_and_pooled(world: Any) -> None:
    fusion, stores = world.fusion, world.strangers
    found = score_songs(fusion, stores, world.indexes)
    assert found.singers == fusion.singers
    evidence = gather(stores, world.indexes, fusion.aggregate, fusion.probes)
    raw = evidence.scores(fusion.votes)
    assert list(found.scores) == [*raw, FUSED]
    for song in range(12):
        pooled, soft = np.zeros(KNOWN), np.zeros(KNOWN)
        for name, logits in raw.items():
            log = np.log(softmax(logits[song] / fusion.temperatures[name]))
            assert np.allclose(found.scores[name][song], log)
            pooled += fusion.weights[name] * log
            soft += softmax(logits[song] / SOFTENING.temperature) / len(raw)
        assert np.allclose(found.scores[FUSED][song], np.log(softmax(pooled)))
        assert found.confidence[song] == pytest.approx(soft.max())
    assert np.isneginf(found.preference).all()  # nobody is enrolled
    assert found.unavailable == ((),) * 12


def test_no_answer_depends_on_the_company(world: Any, indexes: dict[str, MemberIndex]) -> None:
    stores = world.validation
    songs = len(stores[0].song_ids)
    unavailable = [frozenset({"two"}) if song % 5 == 0 else frozenset() for song in range(songs)]
    whole = score_songs(world.fusion, stores, indexes, unavailable)
    order = np.random.default_rng(0).permutation(songs)
    for rows in (*([song] for song in range(0, songs, 7)), order[:11], order):
        chosen = np.array(rows)
        part = score_songs(
            world.fusion,
            [store.take(chosen) for store in stores],
            indexes,
            [unavailable[row] for row in chosen],
        )
        for name, logs in whole.scores.items():
            assert np.array_equal(part.scores[name], logs[chosen], equal_nan=True), name
        assert np.array_equal(part.confidence, whole.confidence[chosen])
        assert np.array_equal(part.preference, whole.preference[chosen])


def test_a_member_that_could_not_hear_a_song_has_no_part_in_its_answer(
    world: Any, indexes: dict[str, MemberIndex]
) -> None:
    stores = [store.take(np.arange(5)) for store in world.validation]
    both = frozenset({"one", "two"})
    unavailable = [frozenset[str](), frozenset({"one"}), frozenset({"two"}), both, frozenset({"x"})]
    found = score_songs(world.fusion, stores, indexes, unavailable)
    assert found.unavailable == ((), ("one",), ("two",), (), ())
    whole = score_songs(world.fusion, stores, indexes)
    for song, members in enumerate(("one two", "two", "one", "one two", "one two")):
        heard = [store for store in stores if store.member in members.split()]
        alone = score_songs(world.fusion, heard, indexes) if len(heard) < 2 else whole
        for name, logs in found.scores.items():
            if name in alone.scores:
                assert np.array_equal(logs[song], alone.scores[name][song]), (song, name)
            else:
                assert np.isnan(logs[song]).all()
        assert found.confidence[song] == alone.confidence[song]
        assert found.preference[song] == alone.preference[song]
    assert np.allclose(np.exp(found.scores[FUSED]).sum(axis=1), 1)
    assert not np.allclose(found.scores[FUSED][1:3], whole.scores[FUSED][1:3], atol=1e-3)


def test_missing_experts_leave_their_weight_to_the_others(world: Any) -> None:
    fusion = world.fusion
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=(4, KNOWN)) for name in ("one/head", "two/probe")}
    total = sum(fusion.weights.values())
    share = {name: fusion.weights[name] for name in scores}
    logs = sum(
        share[name] * total / sum(share.values())
        * np.log([softmax(row / fusion.temperatures[name]) for row in logits])
        for name, logits in scores.items()
    )  # fmt: skip
    assert np.allclose(
        all_log_probabilities(fusion, scores)[FUSED], np.log([softmax(row) for row in logs])
    )
    for wrong in ({}, {**scores, "one/ear": scores["one/head"]}):
        with pytest.raises(ValueError, match=r"unknown experts .*this fusion has one/head, one/kn"):
            all_log_probabilities(fusion, wrong)


# Enrolled singers -------------------------------------------------------------------------------


def answers(world: Any, stores: list[Store], indexes: dict[str, MemberIndex]) -> SongScores:
    return score_songs(world.fusion, stores, indexes)


def test_with_enrolled_singers_all_sum_to_one_and_the_known_keep_their_proportions(
    world: Any, enlarged: dict[str, MemberIndex]
) -> None:
    for stores in (world.validation, world.strangers):
        plain, found = (answers(world, stores, each) for each in (world.indexes, enlarged))
        assert found.singers == (*plain.singers, *NEW)
        assert np.allclose(np.exp(found.scores[FUSED]).sum(axis=1), 1)
        less = found.scores[FUSED][:, :KNOWN] - plain.scores[FUSED]
        assert np.allclose(less, less[:, :1])
        assert (less < 0).all()
        assert np.allclose(np.exp(less[:, 0]), np.exp(found.scores[FUSED][:, :KNOWN]).sum(axis=1))
        assert np.array_equal(found.confidence, plain.confidence)
        for name, logs in plain.scores.items():
            if name != FUSED:  # an expert cannot name those who came later
                assert np.array_equal(found.scores[name][:, :KNOWN], logs)
                assert np.isneginf(found.scores[name][:, KNOWN:]).all()


def test_enrolled_singers_are_found_on_an_album_that_was_not_enrolled(
    world: Any, enlarged: dict[str, MemberIndex]
) -> None:
    found = answers(world, world.strangers, enlarged)
    first = found.scores[FUSED].argmax(axis=1)
    assert (first[[3, 4, 5]] == KNOWN).all()
    assert (first[[9, 10, 11]] == KNOWN + 1).all()
    known = answers(world, world.validation, enlarged).scores[FUSED].argmax(axis=1)
    assert (known == world.validation[0].labels).mean() >= 0.9
    clear = answers(world, world.validation, enlarged).preference
    assert (found.preference > 0).mean() >= 0.9
    assert (clear < 0).mean() >= 0.9


def test_songs_added_to_a_trained_singer_are_that_singer_s(world: Any, tmp_path: Path) -> None:
    """They take part in the votes; no label is added."""
    path = tmp_path / "index.sqlite"
    write_table(path, world.train)
    mine = world.validation[0].labels == 3
    own = [store.take(np.flatnonzero(mine)) for store in world.validation]
    enroll(path, "singer 3", songs_of([replace(s, split="") for s in own]))
    more = read_indexes(path)
    assert more["one"].singers == world.fusion.singers
    files = [replace(store, split="") for store in own]  # the enrolled recordings, as files
    before, after = (answers(world, files, each) for each in (world.indexes, more))
    assert after.singers == before.singers
    assert np.isneginf(after.preference).all()
    near: Any = gather(files, more, world.fusion.aggregate).raw["one/knn_song"]
    assert np.allclose(near.similarities[:, 0], 1)
    assert (near.labels[:, 0] == 3).all()
    assert (after.scores["one/knn_song"][:, 3] > before.scores["one/knn_song"][:, 3]).all()
    for name in ("one/head", "two/probe"):
        assert np.array_equal(after.scores[name], before.scores[name])


# Refusals ---------------------------------------------------------------------------------------


def test_what_does_not_fit_the_fusion_is_refused(
    world: Any, enlarged: dict[str, MemberIndex]
) -> None:
    fusion, stores, indexes = world.fusion, world.strangers, world.indexes
    other = [replace(store, made_from={"checkpoint": "new"}) for store in stores]
    with pytest.raises(UserError, match="checkpoint one-1 of member one, which is now new"):
        score_songs(fusion, other, indexes)
    renamed = replace(fusion, singers=tuple(name.upper() for name in fusion.singers))
    with pytest.raises(UserError, match="the fusion knows other singers than the stores"):
        score_songs(renamed, stores, indexes)
    with pytest.raises(UserError, match=r"other checkpoints .*or singers; run again"):
        score_songs(fusion, stores, {n: replace(i, checkpoint="x") for n, i in indexes.items()})
    ungated = replace(fusion, gate=None)
    with pytest.raises(UserError, match="knows too few singers for others to be enrolled"):
        score_songs(ungated, stores, enlarged)
    assert score_songs(ungated, stores, indexes).singers == fusion.singers
