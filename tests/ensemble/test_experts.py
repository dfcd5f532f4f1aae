"""Experts' raw scores, and the refusal of stores that do not describe the same songs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.store import Store
from ensemble.experts import check_agreement, gather
from ensemble.knn import Votes, build_index, neighbour_votes

Maker = Callable[..., Store]
MEMBERS = ("aam", "triplet")
CHOSEN = Votes(5, 0.1)


def indexed(make_store: Maker) -> dict[str, Any]:
    return {
        member: build_index(make_store(member, "train", head=member == "aam")) for member in MEMBERS
    }


def test_a_member_without_a_head_has_only_its_neighbours(make_store: Maker) -> None:
    stores = [make_store("aam", "validation"), make_store("triplet", "validation", head=False)]
    evidence = gather(stores, indexed(make_store), "mean", 9)
    assert evidence.experts == ("aam/head", "aam/knn", "triplet/knn")
    scores = evidence.scores(CHOSEN)
    np.testing.assert_array_equal(scores["aam/head"], stores[0].logits("mean"))
    for store in stores:
        near = indexed(make_store)[store.member].search(store.embeddings, 9)
        expected = neighbour_votes(near.similarities, near.labels, 8, CHOSEN.k, CHOSEN.tau)
        np.testing.assert_array_equal(scores[f"{store.member}/knn"], expected)


def test_the_aggregate_reaches_the_heads(make_store: Maker) -> None:
    stores = [make_store("aam", "validation")]
    by_vote = gather(stores, indexed(make_store), "vote", 5).heads["aam"]
    np.testing.assert_array_equal(by_vote, stores[0].logits("vote"))
    assert not np.allclose(by_vote, stores[0].logits("mean"))


def test_part_of_the_evidence_is_the_evidence_of_part(make_store: Maker) -> None:
    stores = [make_store("aam", "validation"), make_store("triplet", "validation", head=False)]
    whole = gather(stores, indexed(make_store), "mean", 9)
    songs = np.array([7, 2, 40])
    part = whole.take(songs)
    assert part.albums == tuple(stores[0].albums[song] for song in songs)
    np.testing.assert_array_equal(part.labels, stores[0].labels[songs])
    for name, scores in part.scores(CHOSEN).items():
        np.testing.assert_array_equal(scores, whole.scores(CHOSEN)[name][songs])


def test_songs_of_unknown_albums_are_kept_apart(make_store: Maker) -> None:
    unknown = make_store("aam", "")
    object.__setattr__(unknown, "albums", ("",) * len(unknown.song_ids))
    evidence = gather([unknown], indexed(make_store), "mean", 5)
    assert len(set(evidence.albums)) == len(unknown.song_ids)


def test_a_validation_song_is_never_its_own_neighbour(make_store: Maker) -> None:
    index = {"aam": build_index(make_store("aam", "train"))}
    leaking = make_store("aam", "train")
    object.__setattr__(leaking, "split", "validation")
    with pytest.raises(ValueError, match="96 songs are also training songs"):
        gather([leaking], index, "mean", 5)
    object.__setattr__(leaking, "split", "")  # files to predict may be training files
    assert gather([leaking], index, "mean", 5).neighbours["aam"].similarities[:, 0].min() > 0.999


def test_a_store_and_an_index_of_other_checkpoints_are_refused(make_store: Maker) -> None:
    index = {"aam": build_index(make_store("aam", "train", made_from={"checkpoint": "old"}))}
    with pytest.raises(
        UserError, match=r"member aam .* checkpoints \(aam-1 and old\).*app\.py fuse"
    ):
        gather([make_store("aam", "validation")], index, "mean", 5)
    with pytest.raises(ValueError, match="no index for member 'triplet'"):
        gather([make_store("triplet", "validation")], index, "mean", 5)


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
    turned = make_store("b", "validation", labels=7 - store.labels)
    object.__setattr__(turned, "singers", store.singers[::-1])
    with pytest.raises(UserError, match="differing in the order of singer 0 and singer 7"):
        check_agreement([make_store("aam", "validation"), turned])


def test_no_member_at_all_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no member to fuse; train one: python app\.py train-emb"):
        check_agreement([])
