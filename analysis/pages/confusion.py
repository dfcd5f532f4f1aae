"""The confusion page: which singer is taken for which, and in which songs.

Enters: `RunData`. Leaves: the text of `confusion.html`: a matrix in alphabetical order or with
similar singers together, as counts or shares of rows or columns, of the singers named first or of
songs missed in the first three; a click lists a cell's songs with what each segment says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.page import choice, escape, page, table
from analysis.run_data import Predicted, RunData, album_title, song_title
from analysis.segment_scores import FirstChoices, first_choices
from analysis.wording import counted, interval
from embedder.inference.store import Store
from embedder.metrics import bootstrap_interval, mean_of, ranking

MISTAKES = 15  # rows of the table of mistakes
PLACES = 3  # a song is missed if its singer is not among so many

UNITS = (
    ("counts", "songs"),
    ("rows", "% of the singer's songs"),
    ("columns", "% of the songs named so"),
)
KINDS = (("first", "named first"), ("missed", f"missed in top-{PLACES}"))
ORDERS = (("alphabet", "alphabetical"), ("similar", "similar singers together"))


def confusion_cells(predicted: Predicted) -> dict[tuple[int, int], list[int]]:
    """(true singer, identified singer) → rows of the songs in that cell, surest first.

    Songs whose singer is unknown are left out; a cell without songs is not listed.
    """
    cells: dict[tuple[int, int], list[int]] = {}
    confidences = predicted.probabilities.max(axis=1)
    for row in np.argsort(-confidences, kind="stable"):
        if predicted.truth[row] >= 0:
            cell = (int(predicted.truth[row]), int(predicted.probabilities[row].argmax()))
            cells.setdefault(cell, []).append(int(row))
    return cells


def mistakes(predicted: Predicted) -> list[tuple[int, int, list[int]]]:
    """(true singer, identified singer, rows of the songs) of each kind of mistake, most first."""
    wrong = [
        (*cell, rows) for cell, rows in confusion_cells(predicted).items() if cell[0] != cell[1]
    ]
    return sorted(wrong, key=lambda one: (-len(one[2]), one[0], one[1]))


def true_places(predicted: Predicted) -> NDArray[np.int64]:
    """On which place each song's own singer is named (songs,), 1 first; all singers known."""
    order = ranking(predicted.probabilities)
    return np.asarray((order == predicted.truth[:, None]).argmax(axis=1) + 1)


def confusion_finding(predicted: Predicted, seed: int = 0) -> str:
    """How often the singer is right, and who is taken for whom, in a sentence."""
    known = predicted.known()
    places, songs = true_places(known), len(known.ids)
    first, third = (
        bootstrap_interval(mean_of(places <= k), songs, seed, known.groups) for k in (1, PLACES)
    )
    if first.value == 1:
        return (
            f"The right singer is named first for each of {counted(songs, f'{known.split} song')} "
            f"({interval(first, songs)}), so no singer is taken for another."
        )
    start = (
        f"The right singer is named first for {first.value:.1%} of "
        f"{counted(songs, f'{known.split} song')} ({interval(first, songs)}) and is among the "
        f"first three for {third.value:.1%} ({interval(third, songs)})"
    )
    kinds = mistakes(known)
    true, named, rows = kinds[0]
    if len(rows) == 1 and len(kinds) > 1:
        return f"{start}; each of the {len(kinds)} mistakes is of another kind."
    often = "" if len(kinds) == 1 else "most often "
    of = int((known.truth == true).sum())
    equal = sum(len(one) == len(rows) for *_, one in kinds)
    ties = f", as often as {counted(equal - 1, 'other kind')} of mistake" if equal > 1 else ""
    return (
        f"{start}; {often}{known.singers[true]} is taken for {known.singers[named]} "
        f"({len(rows)} of {counted(of, 'song')}{ties})."
    )


def confusion_title(predicted: Predicted) -> str:
    """The heading: split, level and number of songs."""
    count = len(predicted.known().ids)
    return f"Confusion of singers: {predicted.split} split, song level, {count:,} songs"


def confusion_page(run_data: RunData) -> str:
    """The text of `confusion.html`."""
    tables = run_data.predicted
    heard = [first_choices(run_data, one.ids) for one in tables]
    train = (
        store for name in run_data.members for store in run_data.stores(name)
        if store.split == "train"
    )  # fmt: skip
    similar = similar_order(singer_similarities(train))
    controls = choice("split", "Split", [(str(i), one.split) for i, one in enumerate(tables)])
    controls += choice("kind", "Songs", KINDS)
    controls += choice("unit", "Cells show", UNITS)
    controls += choice("order", "Order", ORDERS) if len(similar) > 2 else ""
    parts = "".join(
        f'<div data-set="{number}"{" hidden" if number else ""}>{_mistake_table(one)}</div>'
        for number, one in enumerate(tables)
    )
    findings = "".join(
        f'<p data-set="{number}"{" hidden" if number else ""}'
        f'{"" if number else " id=finding"}>{escape(confusion_finding(one, run_data.seed))}</p>'
        for number, one in enumerate(tables)
    )  # fmt: skip
    how = heard[0].how if isinstance(heard[0], FirstChoices) else heard[0]
    body = f"""{findings}<p class="soft">A row is a true singer, a column the singer named first.
Blue is right, orange is a mistake. Point at a cell for its songs; click it to list them all below,
each with a strip of who its segments name. {escape(how)}</p>
<div class="controls">{controls}</div>
<div class="plot"><div class="scroll"><div id="plot"></div></div></div>
<p class="soft">{escape(HOW)}</p>
<div id="cell" aria-live="polite"></div>
{parts}"""
    note = " ".join(one.how for one in tables)
    data = {
        "orders": {"alphabet": alphabetical(run_data.songs.singers), "similar": similar},
        "places": PLACES,
        "sets": [_set_data(one, said) for one, said in zip(tables, heard, strict=True)],
    }
    title = confusion_title(tables[0])
    return page("confusion.html", title, body, data, ["confusion.js"], note)


def alphabetical(singers: Sequence[str]) -> list[int]:
    """Singers' numbers by name, small and capital letters alike."""
    return sorted(range(len(singers)), key=lambda one: (singers[one].casefold(), singers[one]))


def _mistake_table(predicted: Predicted) -> str:
    found = mistakes(predicted)
    if not found:
        return "<h2>Mistakes</h2><p>None: each song's singer is named first.</p>"
    totals = np.bincount(predicted.truth[predicted.truth >= 0], minlength=len(predicted.singers))
    rows = [
        (
            predicted.singers[true],
            predicted.singers[named],
            f"{len(songs)} of {totals[true]}",
            ", ".join(song_title(predicted.ids[song]) for song in songs[:5])
            + (f" and {len(songs) - 5} more" if len(songs) > 5 else ""),
        )
        for true, named, songs in found[:MISTAKES]
    ]
    cut = f", the {MISTAKES} most frequent of {len(found)} kinds" if len(found) > MISTAKES else ""
    head = ("true singer", "identified as", "songs", "which")
    return f"<h2>Mistakes{cut}</h2>" + table(head, rows, numeric=[2])


def _set_data(predicted: Predicted, heard: FirstChoices | str) -> dict[str, Any]:
    """Songs by descending confidence, so that each cell's come surest first."""
    sure = predicted.probabilities.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    own = predicted.probabilities[np.arange(len(order)), predicted.truth]
    return {
        "title": confusion_title(predicted),
        "singers": predicted.singers,
        "songs": {
            "id": [predicted.ids[row] for row in order],
            "title": [song_title(predicted.ids[row]) for row in order],
            "album": [album_title(predicted.albums[row]) for row in order],
            "true": predicted.truth[order].tolist(),
            "named": ranking(predicted.probabilities)[order, 0].tolist(),
            "place": true_places(predicted)[order].tolist(),
            "sure": sure[order].round(4).tolist(),
            "own": own[order].round(4).tolist(),
            "strip": [heard.runs(int(row)) for row in order]
            if isinstance(heard, FirstChoices)
            else None,
        },
    }


HOW = (
    "Similar singers stand beside each other: average linkage of the cosine distances between the "
    "singers' mean training-song embeddings (mean over the members), leaves in the order in which "
    "neighbours are most alike (Bar-Joseph et al. 2001, as in scipy)."
)


def singer_similarities(train: Iterable[Store]) -> NDArray[np.float64]:
    """Mean over members of the cosine between singers' mean embeddings: (singers, singers).

    `train`: one store of training songs a member, all of the same singers. A singer without a song
    is like nobody: 0.
    """
    found = []
    for store in train:
        sums = np.zeros((len(store.singers), store.embeddings.shape[1]))
        known = store.labels >= 0
        np.add.at(sums, store.labels[known], store.embeddings[known])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        found.append(centres @ centres.T)
    if not found:
        raise ValueError("need the training songs of a member")
    return np.asarray(np.mean(found, axis=0))


def similar_order(similarities: NDArray[np.float64]) -> list[int]:
    """Singers' numbers in the order of an average-linkage tree over 1 − similarity."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    count = len(similarities)
    if count < 3:
        return list(range(count))
    distances = np.clip(1 - (similarities + similarities.T) / 2, 0, None)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return [int(leaf) for leaf in leaves_list(tree)]
