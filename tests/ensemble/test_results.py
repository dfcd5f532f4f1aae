"""Files placed beside a run's songs: whose stores they are, batch after batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedder.inference.store import Store
from ensemble.results import PlacedFiles


@pytest.fixture
def placed(make_store: Callable[..., Store]) -> PlacedFiles:
    """Five files in batches of two, two and one; "two" has no part in the first and in the last."""
    size = {"singers": 1, "albums": 1, "songs": 5}
    one, two = (make_store(member, "test", **size) for member in ("one", "two"))
    batches = tuple(
        (one.take(rows), two.take(rows)) for rows in map(np.array, ([0, 1], [2, 3], [4]))
    )
    return PlacedFiles(
        paths=tuple(Path(f"{number}.wav") for number in range(5)),
        names=tuple("abcde"),
        singers=("x",),
        probabilities=np.ones((5, 1)),
        batches=batches,
        unavailable=(("two",), (), ("one",), (), ("two",)),
    )


@pytest.mark.parametrize(("member", "heard"), [("one", [0, 1, 3, 4]), ("two", [1, 2, 3])])
def test_a_members_stores_hold_what_it_heard(
    member: str, heard: list[int], placed: PlacedFiles, make_store: Callable[..., Store]
) -> None:
    whole = make_store(member, "test", singers=1, albums=1, songs=5)
    stores, files = placed.stores(member)
    assert files.tolist() == heard
    assert {store.member for store in stores} == {member}
    ids = [song for store in stores for song in store.song_ids]
    assert ids == [whole.song_ids[row] for row in heard]
    found = np.concatenate([store.embeddings for store in stores])
    np.testing.assert_array_equal(found, whole.embeddings[heard])
    segments = np.concatenate([store.segment_embeddings for store in stores])
    rows = np.isin(whole.segment_song, heard)
    np.testing.assert_array_equal(segments, whole.segment_embeddings[rows])


def test_a_batch_in_which_it_heard_nothing_gives_no_store(placed: PlacedFiles) -> None:
    assert len(placed.stores("two")[0]) == 2
    assert len(placed.stores("one")[0]) == 3


def test_files_that_all_heard(placed: PlacedFiles) -> None:
    assert placed.taken_by(["one", "two"]).tolist() == [1, 3]
    assert placed.taken_by(["two"]).tolist() == [1, 2, 3]
    assert placed.taken_by([]).tolist() == []
    assert placed.taken_by(["one", "nobody"]).tolist() == []
