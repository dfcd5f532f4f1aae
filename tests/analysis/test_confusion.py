"""The confusion page: every song in its cell, mistakes in order, title with split, level, count."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from analysis.confusion import confusion_cells, confusion_page, confusion_title, mistakes
from analysis.inputs import Predicted
from analysis.page import escape
from embedder.metrics import confusion_matrix


def random_predictions(songs: int = 90, singers: int = 5, unknown: int = 7) -> Predicted:
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet(np.ones(singers), size=songs)
    truth = rng.integers(singers, size=songs)
    truth[:unknown] = -1
    names = tuple(f"singer {number}" for number in range(singers))
    ids = tuple(f"s/a/song {number}.wav" for number in range(songs))
    return Predicted("validation", ids, names, probabilities, truth, ("s/a",) * songs)


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


def material(tables: list[Predicted]) -> Any:
    """As much of a `Material` as the page takes."""
    return SimpleNamespace(predicted=tables)


def test_page_lists_mistakes_and_says_what_it_cuts() -> None:
    predicted = random_predictions()
    text = confusion_page(material([predicted]))
    kinds = len(mistakes(predicted))
    assert f"Mistakes, the 15 most frequent of {kinds} kinds" in text
    assert escape(predicted.how) in text
    true, named, rows = mistakes(predicted)[0]
    total = int((predicted.truth == true).sum())
    assert (
        f"<tr><td>singer {true}</td><td>singer {named}</td>"
        f"<td class=number>{len(rows)} of {total}</td>"
    ) in text


def test_page_without_mistakes(page_data: Callable[[str], dict[str, object]]) -> None:
    perfect = Predicted("test", ("1", "2"), ("a", "b"), np.eye(2), np.arange(2), ("", ""))
    text = confusion_page(material([perfect]))
    assert "None: each song's singer is named first." in text
    sets = page_data(text)["sets"]
    assert isinstance(sets, list)
    assert sets[0]["songs"] == {
        "0,0": [{"title": "1", "album": "unknown", "confidence": 1.0}],
        "1,1": [{"title": "2", "album": "unknown", "confidence": 1.0}],
    }
    assert sets[0]["totals"] == [1, 1]


def test_two_splits_can_be_switched() -> None:
    first = random_predictions()
    second = Predicted("test", *[getattr(first, name) for name in list(vars(first))[1:]])
    text = confusion_page(material([first, second]))
    assert '<input type="radio" name="split" value="1"><span>test</span>' in text
    assert '<div data-set="1" hidden>' in text
