"""Experts' raw scores, each recomputed; and the refusal of stores of other songs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.fusion import knn
from ensemble.fusion.experts import (
    EXPERTS,
    ExpertScores,
    candidates,
    check_agreement,
    expert_name,
    gather,
    kind_of,
    member_of,
)
from ensemble.fusion.knn import (
    DEPTH,
    MIN_SD,
    NEAREST,
    SCORE_NORMS,
    Neighbours,
    SegmentNeighbours,
    Votes,
)
from ensemble.fusion.probe import Probe
from ensemble.index.members import MemberIndex, index_of

Maker = Callable[..., Store]
MEMBERS = ("aam", "triplet")
SMALL = {"singers": 4, "albums": 2, "songs": 4, "segments": 3}
CHOSEN = Votes(5, 0.1)


def stores_of(make_store: Maker, split: str, **changes: Any) -> list[Store]:
    """The second member has no head."""
    size = SMALL | changes
    return [make_store(member, split, head=member == "aam", **size) for member in MEMBERS]


@pytest.fixture(scope="module")
def indexes(make_store: Maker) -> dict[str, MemberIndex]:
    return {store.member: index_of(store) for store in stores_of(make_store, "train")}


@pytest.fixture(scope="module")
def probes() -> dict[str, Probe]:
    rng = np.random.default_rng(0)
    return {name: Probe(rng.normal(size=(4, 16)), rng.normal(size=4)) for name in MEMBERS}


# Each expert once more --------------------------------------------------------------------------


def sd_above(index: MemberIndex, vector: np.ndarray, label: int, cosine: float) -> float:
    """By how much a cosine exceeds those of the nearest strangers, in their SD."""
    there = [
        float(row.astype(np.float64) @ vector.astype(np.float64))
        for row, singer in zip(index.embeddings, index.labels, strict=True)
        if singer != label
    ]
    near = np.sort(there)[::-1][:NEAREST]
    return float((cosine - near.mean()) / max(near.std(), MIN_SD))


def slow_neighbours(
    queries: np.ndarray, index: MemberIndex, segments: bool, score_norm: str
) -> Neighbours:
    """Of each query all that are near, one by one."""
    vectors = index.embeddings
    owners = np.arange(len(vectors))
    if segments:
        vectors = index.segments.index.reconstruct_n(0, len(index.segments))
        owners = index.segment_song
    values, labels = [], []
    for query in queries:
        cosines = vectors.astype(np.float64) @ query.astype(np.float64)
        rows = np.argsort(-cosines, kind="stable")[:DEPTH]
        found = []
        for row in rows:
            label, cosine = int(index.labels[owners[row]]), float(cosines[row])
            if score_norm == "as_norm":
                sides = (query, index.embeddings[owners[row]])
                cosine = sum(sd_above(index, side, label, cosines[row]) for side in sides) / 2
            found.append((cosine, label))
        found.sort(key=lambda pair: -pair[0])
        values.append([value for value, _ in found])
        labels.append([label for _, label in found])
    return Neighbours(np.array(values), np.array(labels))


def slow_logits(
    kind: str, store: Store, index: MemberIndex, probe: Probe, votes: Votes, score_norm: str
) -> np.ndarray | None:
    if kind == "head":
        return None if store.segment_logits is None else store.logits("mean")
    if kind == "probe":
        return store.embeddings.astype(np.float64) @ probe.weights.T + probe.bias
    if kind == "knn_song":
        near = slow_neighbours(store.embeddings, index, False, score_norm)
        return near.logits(len(store.singers), votes)
    assert kind == "knn_segment", f"{kind} is not recomputed here"
    near = slow_neighbours(store.segment_embeddings, index, True, score_norm)
    weights = store.segment_weight.astype(np.float64)
    part = SegmentNeighbours(near, store.segment_song, weights)
    return part.logits(len(store.singers), votes)


@pytest.mark.parametrize("score_norm", SCORE_NORMS)
@pytest.mark.parametrize("kind", EXPERTS)
def test_each_expert_says_what_its_recomputation_says(
    kind: str,
    score_norm: str,
    make_store: Maker,
    indexes: dict[str, MemberIndex],
    probes: dict[str, Probe],
) -> None:
    voice = np.random.default_rng(1).random(96).astype(np.float32)
    stores = [
        replace(store, segment_weight=voice).take(np.arange(3, 32, 4))
        for store in stores_of(make_store, "validation")
    ]
    evidence = gather(stores, indexes, "mean", probes, score_norm)
    for store in stores:
        name = expert_name(store.member, kind)
        assert (kind_of(name), member_of(name)) == (kind, store.member)
        found = indexes[store.member], probes[store.member]
        for votes in (*candidates(name, score_norm)[:2], CHOSEN):
            slow = slow_logits(kind, store, *found, votes, score_norm)
            if slow is None:
                assert name not in evidence.raw
            else:
                np.testing.assert_allclose(evidence.logits(name, votes), slow, rtol=1e-4, atol=1e-4)
        if name in evidence.raw:
            scores = evidence.scores({name: CHOSEN})[name]
            np.testing.assert_array_equal(scores, evidence.logits(name, CHOSEN))


def test_experts_come_by_member_and_a_member_without_a_head_has_none(
    make_store: Maker, indexes: dict[str, MemberIndex], probes: dict[str, Probe]
) -> None:
    stores = stores_of(make_store, "validation")
    kinds = tuple(EXPERTS)
    assert kinds == ("head", "knn_song", "knn_segment", "probe")
    expected = [f"aam/{kind}" for kind in kinds] + [f"triplet/{kind}" for kind in kinds[1:]]
    assert list(gather(stores, indexes, "mean", probes).experts) == expected
    without = gather(stores, indexes, "mean", {"aam": probes["aam"]})
    assert list(without.experts) == expected[:-1]
    few = gather(stores, indexes, "mean", probes, wanted=["triplet/knn_song", "aam/head"])
    assert few.experts == ("aam/head", "triplet/knn_song")
    assert few.singers == stores[0].singers
    assert few.albums == stores[0].albums


def test_the_aggregate_reaches_the_heads(
    make_store: Maker, indexes: dict[str, MemberIndex]
) -> None:
    store = stores_of(make_store, "validation")[0]
    by_vote = gather([store], indexes, "vote").logits("aam/head", CHOSEN)
    np.testing.assert_array_equal(by_vote, store.logits("vote"))
    assert not np.allclose(by_vote, store.logits("mean"))


@pytest.mark.parametrize("score_norm", SCORE_NORMS)
def test_what_is_said_of_a_song_does_not_depend_on_its_company(
    score_norm: str,
    make_store: Maker,
    indexes: dict[str, MemberIndex],
    probes: dict[str, Probe],
) -> None:
    stores = stores_of(make_store, "validation")
    together = gather(stores, indexes, "mean", probes, score_norm).scores({})
    for song in (0, 13, 31):
        alone = gather(
            [store.take(np.array([song])) for store in stores], indexes, "mean", probes, score_norm
        ).scores({})
        for name, logits in together.items():
            np.testing.assert_array_equal(alone[name][0], logits[song])


def test_no_more_neighbours_are_searched_than_could_be_chosen(
    make_store: Maker, indexes: dict[str, MemberIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(v.k for e in EXPERTS.values() for v in (*e.votes, *e.normalised_votes))
    assert largest == DEPTH
    monkeypatch.setattr(knn, "DEPTH", 7)
    found = gather(stores_of(make_store, "validation"), indexes, "mean").raw["aam/knn_song"]
    assert isinstance(found, Neighbours)
    assert found.labels.shape == (32, 7)


@pytest.mark.parametrize("score_norm", SCORE_NORMS)
@pytest.mark.parametrize("left_out", [False, True])
def test_only_songs_of_singers_who_may_be_named_are_neighbours(
    left_out: bool, score_norm: str, make_store: Maker
) -> None:
    """A singer who was enrolled, or is left out, is to the experts as if not in the index."""
    train = [make_store(m, "train", head=False, **SMALL | {"singers": 5}) for m in MEMBERS]
    names = train[0].singers[:4]
    query = [replace(store, singers=names) for store in stores_of(make_store, "test")]
    query = [replace(store, segment_logits=None) for store in query]
    whole = {store.member: replace(index_of(store), known=4) for store in train}
    gone = {4, 2} if left_out else {4}
    kept = np.flatnonzero(~np.isin(train[0].labels, list(gone)))
    less = {store.member: index_of(replace(store.take(kept), singers=names)) for store in train}
    without = 2 if left_out else None
    scores = gather(query, whole, "mean", None, score_norm, without=without).scores({})
    expected = gather(query, less, "mean", None, score_norm).scores({})
    plain = gather(query, whole, "mean", None, score_norm).scores({})
    for name, logits in expected.items():
        np.testing.assert_allclose(scores[name], logits, rtol=1e-5, atol=1e-6)
        assert np.allclose(scores[name], plain[name]) != left_out


@pytest.mark.parametrize("kind", EXPERTS)
def test_candidates_are_different_votes_that_begin_with_the_default(kind: str) -> None:
    for score_norm in SCORE_NORMS:
        grid = candidates(f"m/{kind}", score_norm)
        assert len(set(grid)) == len(grid)
        assert grid[0].k == Votes().k
    assert candidates(f"m/{kind}", "none")[0] == Votes()


def test_songs_of_unknown_albums_are_kept_apart(
    make_store: Maker, indexes: dict[str, MemberIndex]
) -> None:
    store = stores_of(make_store, "")[0]
    unknown = replace(store, albums=("",) * len(store.song_ids))
    evidence = gather([unknown], indexes, "mean")
    assert len(set(evidence.albums)) == len(unknown.song_ids)


def test_a_validation_song_is_never_its_own_neighbour(
    make_store: Maker, indexes: dict[str, MemberIndex]
) -> None:
    train = stores_of(make_store, "train")[0]
    with pytest.raises(ValueError, match="32 songs are also in the index"):
        gather([replace(train, split="validation")], indexes, "mean")
    evidence: ExpertScores = gather([replace(train, split="")], indexes, "mean")
    near = evidence.raw["aam/knn_song"]  # files to predict may be training files
    assert isinstance(near, Neighbours)
    assert near.similarities[:, 0].min() > 0.999


def test_a_store_and_an_index_of_other_checkpoints_or_singers_are_refused(
    make_store: Maker, indexes: dict[str, MemberIndex]
) -> None:
    store = stores_of(make_store, "validation")[0]
    old = {"aam": replace(indexes["aam"], checkpoint="old")}
    with pytest.raises(
        UserError, match=r"member aam .* checkpoints \(aam-1 and old\).*app\.py fuse"
    ):
        gather([store], old, "mean")
    fewer = {"aam": replace(indexes["aam"], known=3)}
    with pytest.raises(UserError, match=r"validation store of member aam .* or singers; run again"):
        gather([store], fewer, "mean")
    with pytest.raises(ValueError, match="no index for member 'triplet'"):
        gather(stores_of(make_store, "validation")[1:], {"aam": indexes["aam"]}, "mean")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"singers": 7}, r"members aam and b were trained on other singers \(8 and 7.*singer 7"),
        ({"songs": 2}, r"members aam and b have stores of other songs \(96 of .* 64 of .*/2\.wav"),
        ({"split": "test"}, "members aam and b have stores of other songs"),
        ({"labels": np.zeros(96, np.int64)}, "members aam and b .* label the same songs otherwise"),
        ({"member": "aam"}, "member aam is named twice"),
    ],
)
def test_members_that_disagree_are_both_named(
    make_store: Maker, other: dict[str, Any], message: str
) -> None:
    settings = {"member": "b", "split": "validation"} | other
    with pytest.raises(UserError, match=message):
        check_agreement([make_store("aam", "validation"), make_store(**settings)])


def test_the_same_singers_in_another_order_are_refused(make_store: Maker) -> None:
    store = make_store("b", "validation")
    turned = replace(store, labels=7 - store.labels, singers=store.singers[::-1])
    with pytest.raises(UserError, match="differing in the order of singer 0 and singer 7"):
        check_agreement([make_store("aam", "validation"), turned])


def test_no_member_at_all_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no member to fuse; train one: python app\.py train-emb"):
        check_agreement([])
