"""The training page: what the log says, and training songs against validation songs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.analyze import analyze
from analysis.pages.training import (
    Gap,
    Log,
    member_sentences,
    nearest_right,
    read_log,
    segments_right,
    training_finding,
    training_gap,
    training_page,
)
from analysis.run_data import read_run_data
from embedder.artifact import write_text
from embedder.inference.store import Store, read_store
from embedder.run import Run
from embedder.statistics import Estimate, bootstrap_interval, mean_of, unpaired_difference

Visit = Callable[..., Any]


def made_log(scores: list[float], kept: int, name: str = "m") -> Log:
    epochs = [float(number + 1) for number in range(len(scores))]
    return Log(name, {"epoch": epochs, "segment_score": scores}, kept)


def made_gap(train: float, validation: float, name: str = "m", how: str = "head") -> Gap:
    first = Estimate(train, train - 0.01, train + 0.01)
    return Gap(name, how, first, 40, Estimate(validation, validation - 0.02, validation + 0.02), 10)


def test_the_finding_is_of_the_largest_gap_and_says_only_what_holds() -> None:
    gaps = [made_gap(0.9, 0.8, "small"), made_gap(0.99, 0.7, "large")]
    logs = [made_log([0.5, 0.7], 1, "small"), made_log([0.5, 0.9, 0.85], 1, "large")]
    assert training_finding(logs, gaps) == (
        "Member large knows its training songs better than new ones: its head names the right "
        "singer in 99.0% of their segments and in 70.0% of those of 10 validation songs, a gap of "
        "+29.0 points, 95% interval +26.8 to +31.2, the largest of 2 members; the validation "
        "score was best in epoch 2 of 3 and 0.050 lower in the last."
    )
    level = training_finding([], [made_gap(0.8, 0.79, how="neighbours")])
    assert level == (
        "Member m knows its training songs no better than new ones, as far as can be told: the "
        "nearest training song of another album is by the same singer for 80.0% of them and for "
        "79.0% of 10 validation songs, a gap of +1.0 points, 95% interval −1.2 to +3.2."
    )
    assert training_finding([], []).startswith("Whether a member overfits is not known")


@pytest.mark.parametrize(
    ("scores", "kept", "says"),
    [
        ([0.5, 0.6], 1, "the validation score was best in the last of 2 epochs"),
        ([0.6, 0.6], 0, "the validation score was best in epoch 1 of 2 and no lower in the last"),
        ([0.6, 0.5998], 0, "epoch 1 of 2 and less than 0.001 lower in the last"),
        ([0.6], 0, "the validation score was best in the last of 1 epoch"),
    ],
)
def test_the_course_of_the_score(scores: list[float], kept: int, says: str) -> None:
    assert member_sentences(made_log(scores, kept))[0].endswith(says)


def test_sentences_of_a_member_have_the_logs_numbers(answered: Run) -> None:
    log = read_log(answered, "aam")
    assert isinstance(log, Log)
    assert member_sentences(log) == [
        "Member aam: the training loss went from 3.500 to 2.000 in 3 epochs",
        "the validation score was best in epoch 2 of 3 and 0.050 lower in the last",
        "the NLL of the validation songs was lowest in epoch 2 (0.500) and is 0.750 in the last",
    ]


def test_the_page_says_what_has_no_log(answered: Run, build_run: Callable[..., Run]) -> None:
    text = training_page(read_run_data(answered))
    assert "Member triplet has no log of its training; train it again: python app.py" in text
    assert "aam<small>segments that the head names right, mean over songs</small>" in text
    assert "triplet<small>songs whose nearest training song of another album" in text
    (path,) = analyze(build_run(members=("aam",)), pages=["training"])
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text  # there is no figure without a log
    assert "Member aam has no log" in text


def test_panels_mark_the_kept_epoch(answered: Run, visit: Visit) -> None:
    act = """
    const plot = document.getElementById("plot");
    return plot.data.map((trace) => ({
      y: trace.y, axis: trace.yaxis, symbols: trace.marker.symbol, hover: trace.hovertext[1],
      drawn: document.querySelectorAll("#plot .scatterlayer .trace").length,
    }));"""
    loss, segments, songs, nll, rate = visit(answered.pages / "training.html", act, width=390)
    assert loss["y"] == [3.5, 2.25, 2.0]
    assert loss["symbols"] == ["circle", "star", "circle"]
    assert loss["hover"] == "<b>aam</b><br>epoch 2, kept<br>loss 2.25"
    assert (segments["y"], segments["axis"]) == ([0.6, 0.9, 0.85], "y2")
    assert (songs["y"], songs["axis"]) == ([0.875, 1.25, 1.25], "y2")
    assert (nll["axis"], rate["axis"]) == ("y3", "y4")
    assert rate["y"] == [0.002, 0.001, 0.0001]
    assert loss["drawn"] == 5


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
    run_data = read_run_data(answered, seed=3)
    head, neighbours = (training_gap(run_data.stores(name), 3) for name in ("aam", "triplet"))
    assert head is not None
    assert neighbours is not None
    stores = {store.split: store for store in run_data.stores("aam")}
    parts = [segments_right(stores[split]) for split in ("train", "validation")]
    first, second = (
        bootstrap_interval(mean_of(part), len(part), 3, stores[split].albums)
        for part, split in zip(parts, ("train", "validation"), strict=True)
    )
    assert (head.how, head.train_songs, head.validation_songs) == ("head", 24, 24)
    assert head.value == unpaired_difference(first, second)
    assert head.value.value > 0  # the validation segments were made harder
    assert neighbours.how == "neighbours"
    assert training_gap([stores["validation"]]) is None
