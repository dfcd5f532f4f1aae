"""The confusion page: which singer is taken for which, and in which songs.

Enters: `Predicted` tables with known singers. Leaves: the text of `confusion.html`, with a switch
between counts and row percentages, and the most frequent mistakes as a table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.inputs import Predicted, album_title, song_title
from analysis.material import Material
from analysis.page import choice, page, table

MISTAKES = 15  # rows of the table of mistakes


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


def confusion_title(predicted: Predicted) -> str:
    """The heading: split, level and number of songs."""
    count = len(predicted.known().ids)
    return f"Confusion of singers: {predicted.split} split, song level, {count:,} songs"


def confusion_page(material: Material) -> str:
    """The text of `confusion.html`."""
    tables = material.predicted
    controls = choice("split", "Split", [(str(i), one.split) for i, one in enumerate(tables)])
    controls += choice(
        "unit", "Cells show", [("counts", "songs"), ("shares", "% of the singer's songs")]
    )
    parts = "".join(
        f'<div data-set="{number}"{" hidden" if number else ""}>{_mistake_table(one)}</div>'
        for number, one in enumerate(tables)
    )
    body = f"""<p class="soft">A row is a true singer, a column the singer named first. Blue is
right, orange is a mistake. Point at a cell for its songs; click it to list them all below.</p>
<div class="controls">{controls}</div>
<div class="plot"><div class="scroll"><div id="plot"></div></div></div>
<div id="cell" aria-live="polite"></div>
{parts}"""
    note = " ".join(one.how for one in tables)
    data = {"sets": [_set_data(one) for one in tables]}
    title = confusion_title(tables[0])
    return page("confusion.html", title, body, data, ["confusion.js"], note)


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


def _set_data(predicted: Predicted) -> dict[str, Any]:
    confidences = predicted.probabilities.max(axis=1)
    totals = np.bincount(predicted.truth[predicted.truth >= 0], minlength=len(predicted.singers))
    return {
        "title": confusion_title(predicted),
        "singers": predicted.singers,
        "totals": totals.tolist(),
        "songs": {
            f"{true},{named}": [
                {
                    "title": song_title(predicted.ids[row]),
                    "album": album_title(predicted.albums[row]),
                    "confidence": round(float(confidences[row]), 4),
                }
                for row in rows
            ]
            for (true, named), rows in confusion_cells(predicted).items()
        },
    }
