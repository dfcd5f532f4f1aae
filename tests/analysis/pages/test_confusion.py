"""The confusion page: every song in its cell, mistakes in order, a sentence true of the numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.analyze import analyze
from analysis.page import escape
from analysis.pages.confusion import (
    alphabetical,
    confusion_cells,
    confusion_finding,
    confusion_of,
    confusion_page,
    confusion_title,
    mistakes,
    similar_order,
    singer_similarities,
    true_places,
)
from analysis.run_data import Predicted, read_run_data
from embedder.inference.store import Store
from embedder.metrics import confusion_matrix
from embedder.run import Run


def random_predictions(songs: int = 90, singers: int = 5, unknown: int = 7) -> Predicted:
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet(np.ones(singers), size=songs)
    truth = rng.integers(singers, size=songs)
    truth[:unknown] = -1
    names = tuple(f"singer {number}" for number in range(singers))
    ids = tuple(f"s/a/song {number}.wav" for number in range(songs))
    return Predicted("validation", ids, names, probabilities, truth, ("s/a",) * songs, {})


def named(truth: list[int], answers: list[list[int]], singers: int = 4) -> Predicted:
    """Songs whose answers are singers in descending order of probability."""
    rows = np.zeros((len(truth), singers))
    for row, order in enumerate(answers):
        rest = [singer for singer in range(singers) if singer not in order]
        rows[row, [*order, *rest]] = [0.5, 0.25, 0.15, 0.1][:singers]
    ids = tuple(f"A/x/{row}.mp3" for row in range(len(truth)))
    names = ("Ada", "Ben", "Cem", "Dora")[:singers]
    return Predicted("test", ids, names, rows, np.array(truth), ("A/x",) * len(truth), {})


def test_cells_hold_every_known_song_once() -> None:
    predicted = random_predictions()
    cells = confusion_cells(predicted)
    known = predicted.known()
    matrix = confusion_matrix(known.truth, known.probabilities.argmax(axis=1), 5)
    counts = np.zeros_like(matrix)
    for cell, rows in cells.items():
        counts[cell] = len(rows)
        confidences = predicted.probabilities[rows].max(axis=1)
        assert np.all(np.diff(confidences) <= 0)
    assert np.array_equal(counts, matrix)
    assert sorted(row for rows in cells.values() for row in rows) == list(range(7, 90))


def test_mistakes_are_off_the_diagonal_and_most_first() -> None:
    found = mistakes(random_predictions())
    counts = [len(rows) for *_, rows in found]
    assert counts == sorted(counts, reverse=True)
    assert all(true != named for true, named, _ in found)
    assert len(found) > 15


def test_title_states_split_level_and_known_songs() -> None:
    assert confusion_title(random_predictions()) == (
        "Confusion of singers: validation split, song level, 83 songs"
    )


def test_places_are_those_of_a_sort() -> None:
    known = random_predictions().known()
    for row, truth, place in zip(known.probabilities, known.truth, true_places(known), strict=True):
        assert sorted(row, reverse=True)[place - 1] == row[truth]


@pytest.mark.parametrize(
    ("truth", "answers", "parts"),
    [
        (
            [0, 1, 2],
            [[0], [1], [2]],
            ["named first for each of 3 test songs (no mistake in ", "so no singer is"],
        ),
        (
            [0, 0, 0, 1, 2],
            [[1, 0], [1, 2, 3], [0], [1], [1]],
            [
                "named first for 40.0% of 5 test songs (95% interval",
                "among the first three for 80.0% (95% interval",
                "; most often Ada is taken for Ben (2 of 3 songs).",
            ],
        ),
        (
            [0, 0, 1, 1, 3],
            [[1, 0], [1, 0], [0, 1], [0, 1], [3]],
            ["; most often Ada is taken for Ben (2 of 2 songs, as often as 1 other kind of mist"],
        ),
        ([0, 1], [[1, 0], [1]], ["; Ada is taken for Ben (1 of 1 song)."]),
        ([0, 1], [[1, 0], [0, 1]], ["; each of the 2 mistakes is of another kind."]),
    ],
)
def test_the_finding_is_true_of_the_numbers(
    truth: list[int], answers: list[list[int]], parts: list[str]
) -> None:
    text = confusion_finding(named(truth, answers))
    assert text.startswith("The right singer is named first for ")
    for part in parts:
        assert part in text


def test_the_alphabet_does_not_know_capital_letters() -> None:
    assert alphabetical(("b", "C", "a", "B")) == [2, 3, 0, 1]


def test_page_lists_mistakes_and_says_what_it_cuts(analyzed: Run) -> None:
    random = random_predictions().known()
    run_data = replace(read_run_data(analyzed), fusion=None, predicted=(random,))
    kinds = len(mistakes(random))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.pages.confusion.first_choices", lambda *_: "No <segments> here.")
        text = confusion_page(run_data)
    assert f"Mistakes, the 15 most frequent of {kinds} kinds" in text
    assert "No &lt;segments&gt; here." in text
    true, taken, rows = mistakes(random)[0]
    total = int((random.truth == true).sum())
    assert (
        f"<tr><td>singer {true}</td><td>singer {taken}</td>"
        f"<td class=number>{len(rows)} of {total}</td>"
    ) in text


def test_cells_hold_their_songs_surest_first_with_what_segments_name(answered: Run) -> None:
    run_data = read_run_data(answered)
    text = confusion_page(run_data)
    for split, one in enumerate(run_data.predicted):
        assert f">{confusion_title(one)}</span>" in text
        places = true_places(one)
        found = confusion_of(one, "first")
        for cell, rows in found.cells.items():
            items = text.partition(f'<template id="panel-{split}-first-{cell[0]}-{cell[1]}">')[2]
            items = items.partition("</template>")[0]
            lines = re.findall("<li>(.*?)<", items)
            assert lines == [escape(found.song(row)) for row in rows]
            assert items.count("<li>") == items.count("of 6 segments: ") == len(rows)
            sure = one.probabilities.max(axis=1)[rows]
            assert sure.tolist() == sorted(sure, reverse=True)
            for row in rows:
                assert ("the true singer on place" in found.song(row)) == (places[row] > 1)
        missed = [row for rows in confusion_of(one, "missed").cells.values() for row in rows]
        assert sorted(missed) == np.flatnonzero(places > 3).tolist()
    strips = re.findall(r'data-strip="([rwl0-9]+)"', text)
    assert strips
    for strip in strips:
        assert sum(map(int, re.findall(r"\d+", strip))) == 6
    assert "mean of what aam (its head), triplet (its neighbours&#x27; votes) say" in text
    assert "average linkage" in text


def test_a_page_without_mistakes(build_run: Callable[..., Run]) -> None:
    run = build_run(members=("aam",), splits=("train", "validation", "test"))
    run_data = read_run_data(run)
    text = confusion_page(replace(run_data, predicted=run_data.predicted[1:]))
    assert "None: each song's singer is named first." in text
    assert "so no singer is taken for another." in text


def test_two_splits_can_be_switched(analyzed: Run) -> None:
    (path,) = [analyzed.pages / "confusion.html"]
    text = path.read_text(encoding="utf-8")
    assert '<input type="radio" name="split" value="1"><span>test</span>' in text
    assert '<div data-when="split=1" hidden>' in text
    assert '<p data-when="split=1" hidden>' in text


def test_two_thousand_songs_fit(build_run: Callable[..., Run]) -> None:
    run = build_run(singers=[f"a singer {number}" for number in range(20)], members=("aam",))
    run_data = read_run_data(run)
    rng = np.random.default_rng(0)
    songs = 2000
    many = Predicted(
        "validation",
        tuple(f"a singer/an album/a song with a name {row}.mp3" for row in range(songs)),
        run_data.songs.singers,
        rng.dirichlet(np.ones(20), size=songs),
        rng.integers(20, size=songs),
        ("a singer/an album with a name",) * songs,
        {},
    )

    class Choices:
        how = ""

        def runs(self, song: int) -> list[int]:
            del song
            return rng.integers(20, size=120).tolist()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.pages.confusion.first_choices", lambda *_: Choices())
        patch.setattr("analysis.pages.confusion.FirstChoices", Choices)
        patch.setattr(
            "analysis.analyze.read_run_data", lambda *_: replace(run_data, predicted=(many,))
        )
        (path,) = analyze(run, pages=["confusion"])
    assert path.stat().st_size < 3e6


def test_similarities_are_cosines_of_mean_embeddings(build_store: Callable[..., Store]) -> None:
    stores = [build_store(name, "train", ["a", "b", "c"], ["1", "2"]) for name in ("aam", "x")]
    found = singer_similarities(stores)
    for one in range(3):
        for other in range(3):
            cosines = []
            for store in stores:
                means = [store.embeddings[store.labels == label].mean(axis=0) for label in range(3)]
                lengths = np.linalg.norm(means[one]) * np.linalg.norm(means[other])
                cosines.append(means[one] @ means[other] / lengths)
            assert found[one, other] == pytest.approx(np.mean(cosines), abs=1e-6)


def test_songs_of_nobody_known_do_not_count(build_store: Callable[..., Store]) -> None:
    store = build_store("aam", "train", ["a", "b", "c"], ["1"])
    unknown = replace(store, labels=np.where(store.labels == 1, -1, store.labels))
    found = singer_similarities([unknown])
    assert found[0, 2] == pytest.approx(singer_similarities([store])[0, 2])
    assert found[1].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="need the training songs"):
        singer_similarities([])


def test_alike_singers_stand_beside_each_other() -> None:
    rng = np.random.default_rng(3)
    group = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    vectors = np.eye(3, 8)[group] + rng.normal(scale=0.05, size=(8, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = similar_order(vectors @ vectors.T)
    assert sorted(order) == list(range(8))
    assert np.count_nonzero(np.diff(group[order])) == 2  # each group in one piece


def test_neighbours_are_most_alike_among_the_orders_of_the_tree() -> None:
    """Four singers on a line: of the tree's eight orders, the line itself is the shortest."""
    angles = np.radians([0, 30, 10, 50])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert similar_order(points @ points.T) in ([0, 2, 1, 3], [3, 1, 2, 0])


@pytest.mark.parametrize("count", [1, 2])
def test_few_singers_have_one_order(count: int) -> None:
    assert similar_order(np.eye(count)) == list(range(count))
