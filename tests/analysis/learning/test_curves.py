"""How a member learned: its log, and right answers on training songs against validation songs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.learning.curves import Log, nearest_right, read_log, segments_right, training_gap
from analysis.material import read_material
from embedder.artifacts import Run, write_text
from embedder.inference.store import Store, read_store
from embedder.intervals import difference
from embedder.metrics import bootstrap_interval, mean_of

Visit = Callable[..., Any]


def test_the_log_is_read_as_it_was_written(answered: Run) -> None:
    log = read_log(answered, "aam")
    assert isinstance(log, Log)
    assert log.columns["loss"] == [3.5, 2.25, 2.0]
    assert log.columns["lr"] == [0.002, 0.001, 0.0001]
    assert log.columns["nll"] == [1.5, 0.5, 0.75]
    assert (log.kept, log.epochs, log.chosen_by) == (1, 3, "segment_score")


def test_a_log_of_fewer_columns_is_drawn_by_those_it_has(copied: Run) -> None:
    write_text(copied.log("aam"), "epoch,score,best\n1,0.5,1\n2,0.4,0\n")
    log = read_log(copied, "aam")
    assert isinstance(log, Log)
    assert set(log.columns) == {"epoch", "score"}
    assert log.chosen_by == "score"


@pytest.mark.parametrize(
    "text",
    ["", "epoch,loss,best\n", "epoch,loss,best\n1,much,1\n", "epoch,loss,best\n1,0.5,0\n",
     "epoch,loss,best\n1,0.5,1\n2\n", "epoch,loss,best\n1,nan,1\n", "loss,best\n1,1\n"],
)  # fmt: skip
def test_a_broken_log_is_named_and_the_page_is_written(text: str, copied: Run) -> None:
    write_text(copied.log("aam"), text)
    says = read_log(copied, "aam")
    assert str(says).startswith("The log of member aam cannot be read; train it again: ")


def test_segments_right_counts_by_hand(answered: Run) -> None:
    store = read_store(answered.store("aam", "validation"))
    found = segments_right(store)
    logits = store.segment_logits
    assert logits is not None
    for song, share in enumerate(found):
        rows = [row for row, owner in enumerate(store.segment_song) if owner == song]
        hits = [int(np.argmax(logits[row])) == store.labels[song] for row in rows]
        assert share == pytest.approx(sum(hits) / len(hits))
    unknown = replace(store, labels=np.where(np.arange(24) == 3, -1, store.labels))
    found[3] = np.nan
    np.testing.assert_allclose(segments_right(unknown), found)


def test_the_nearest_song_is_of_another_album(answered: Run) -> None:
    train = read_store(answered.store("triplet", "train"))
    for queries in (train, read_store(answered.store("triplet", "validation"))):
        expected = []
        for row, embedding in enumerate(queries.embeddings):
            others = [
                (float(embedding @ other), label)
                for other, label, album in zip(
                    train.embeddings, train.labels, train.albums, strict=True
                )
                if album != queries.albums[row]
            ]
            expected.append(max(others)[1] == queries.labels[row])
        np.testing.assert_array_equal(nearest_right(train, queries), expected)


def test_songs_without_another_album_of_their_singer_are_not_asked(
    build_store: Callable[..., Store],
) -> None:
    train = build_store("m", "train", ("A", "B"), ("one",))
    assert np.isnan(nearest_right(train, train)).all()
    other = build_store("m", "validation", ("A", "B"), ("two",))
    assert not np.isnan(nearest_right(train, other)).any()
    loose = replace(train, albums=("",) * 6)  # each song is an album of its own
    assert not np.isnan(nearest_right(loose, loose)).any()


def test_the_gap_has_the_interval_of_two_sets_of_songs(answered: Run) -> None:
    material = read_material(answered, seed=3)
    head, neighbours = (training_gap(material.stores(name), 3) for name in ("aam", "triplet"))
    assert head is not None
    assert neighbours is not None
    stores = {store.split: store for store in material.stores("aam")}
    parts = [segments_right(stores[split]) for split in ("train", "validation")]
    first, second = (
        bootstrap_interval(mean_of(part), len(part), 3, stores[split].albums)
        for part, split in zip(parts, ("train", "validation"), strict=True)
    )
    assert (head.how, head.train_songs, head.validation_songs) == ("head", 24, 24)
    assert head.value == difference(first, second)
    assert head.value.value > 0  # the validation segments were made harder
    assert neighbours.how == "neighbours"
    assert training_gap([stores["validation"]]) is None
