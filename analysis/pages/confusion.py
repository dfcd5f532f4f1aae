"""The confusion page: which singer is taken for which, and in which songs.

A matrix in alphabetical order or with similar singers together, as counts or shares of rows or
columns, of the singers named first or of songs missed in the first three; a click lists a cell's
songs with what each segment says.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from analysis import figures as fig
from analysis.figures import Json
from analysis.neighbourhoods import SIMILAR_ORDER_SAYS, similar_order, singer_similarities
from analysis.page import choice, escape, numbered, page, panel, plot, table, variants
from analysis.run_data import Predicted, RunData, album_title, song_title
from analysis.segment_scores import FirstChoices, first_choices
from analysis.wording import interval
from embedder.metrics import ranking
from embedder.statistics import bootstrap_interval, mean_of
from embedder.text import counted

MISTAKES = 15  # rows of the table of mistakes
HOVERED = 12  # songs that a cell names on hover; a click lists them all
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
    said = [first_choices(run_data, one.ids) for one in tables]
    train = (
        store for name in run_data.members for store in run_data.stores(name)
        if store.split == "train"
    )  # fmt: skip
    similar = similar_order(singer_similarities(train))
    orders = {"alphabet": alphabetical(run_data.songs.singers), "similar": similar}
    controls = choice("split", "Split", numbered(one.split for one in tables))
    controls += choice("kind", "Songs", KINDS)
    controls += choice("unit", "Cells show", UNITS)
    controls += choice("order", "Order", ORDERS[: 2 if len(similar) > 2 else 1])
    findings = [escape(confusion_finding(one, run_data.seed)) for one in tables]
    how = said[0].how if isinstance(said[0], FirstChoices) else said[0]
    matrices = [
        (f"{split}-{kind}", segments, confusion_of(one, kind))
        for split, (one, segments) in enumerate(zip(tables, said, strict=True))
        for kind, _ in KINDS
    ]
    panels = "".join(_panels(key, one, segments) for key, segments, one in matrices)
    nothing = "".join(
        f'<p hidden data-when="split={key.replace("-", " kind=")}">{NOTHING}</p>'
        for key, _, one in matrices
        if not one.cells
    )
    body = f"""{variants("p", findings, "split", " id=finding")}
<p class="soft">A row is a true singer, a column the singer named first.
Blue is right, orange is a mistake. Point at a cell for its songs; click it to list them all below,
each with a strip of who its segments name. {escape(how)}</p>
<div class="controls">{controls}</div>
{plot("plot")}
<p class="soft" hidden data-when="order=similar">{escape(SIMILAR_ORDER_SAYS)}</p>
{nothing}<div id="panel" aria-live="polite"></div>{panels}
{variants("div", [_mistake_table(one) for one in tables], "split")}"""
    return page(
        "confusion.html",
        [confusion_title(one) for one in tables],
        body,
        note=" ".join(one.how for one in tables),
        figures={"plot": confusion_figure({key: one for key, _, one in matrices}, orders)},
    )


NOTHING = f"No song has its singer outside the first {PLACES}."


@dataclass(frozen=True, eq=False)
class Confusion:
    """The songs of one split by true and named singer."""

    predicted: Predicted
    kind: str  # one of `KINDS`
    cells: dict[tuple[int, int], list[int]]  # (true, named singer) → rows, surest first
    of_singer: NDArray[np.int64]  # (singers,), songs of each singer
    named_as: NDArray[np.int64]  # (singers,), songs named as each
    places: NDArray[np.int64]  # (songs,), on which place the own singer is named

    def heading(self, cell: tuple[int, int]) -> tuple[str, str, str]:
        """The true singer, the one named, and which of their songs are listed."""
        true, named = (_short(self.predicted.singers[one], 40) for one in cell)
        return true, named, f", missed in top-{PLACES}" if self.kind == "missed" else ""

    def shares(self, cell: tuple[int, int]) -> tuple[str, str]:
        """How many of the true singer's songs a cell holds, and how much of those named so."""
        true, named, _ = self.heading(cell)
        count, of = len(self.cells[cell]), int(self.of_singer[cell[0]])
        return (
            f"{count} of {counted(of, 'song')} of {true} ({fig.percent(count / of)})",
            f"{fig.percent(count / self.named_as[cell[1]])} of the songs named {named}",
        )

    def song(self, row: int) -> str:
        """Title, album and confidence of a song, and where a mistaken one names its singer."""
        one = self.predicted
        sure, own = one.probabilities[row].max(), one.probabilities[row, one.truth[row]]
        right = ""
        if self.places[row] > 1:
            right = f"; the true singer on place {self.places[row]}, {fig.percent(own)}"
        title, album = song_title(one.ids[row]), album_title(one.albums[row])
        return f"{_short(title, 40)}, {_short(album, 30)} ({fig.percent(sure)}{right})"


def confusion_of(predicted: Predicted, kind: str) -> Confusion:
    """All songs of known singers, or only those missed in the first few, by cell."""
    count, places = len(predicted.singers), true_places(predicted)
    found = {
        cell: [row for row in rows if kind == "first" or places[row] > PLACES]
        for cell, rows in confusion_cells(predicted).items()
    }
    known = predicted.truth >= 0
    return Confusion(
        predicted,
        kind,
        {cell: rows for cell, rows in found.items() if rows},
        np.bincount(predicted.truth[known], minlength=count),
        np.bincount(ranking(predicted.probabilities)[known, 0], minlength=count),
        places,
    )


SCALE = ((0, "wrong"), (0.4999, "wrong-soft"), (0.5, "empty"), (0.5001, "right-soft"), (1, "right"))


def confusion_figure(
    matrices: Mapping[str, Confusion], orders: Mapping[str, Sequence[int]]
) -> Json:
    """The matrix of each split, kind of songs, unit and order; mistakes count below 0.

    `matrices`: by "split-kind". `orders`: singers' numbers from the top.
    """
    singers = next(iter(matrices.values())).predicted.singers
    layout, square = fig.matrix(len(singers), ("identified as", "true singer"))
    cases = []
    for letters, narrow in ((22, False), (11, True)):
        for order, numbers in orders.items():
            ticks = fig.categories([singers[one] for one in numbers], letters)
            shape = {key: ticks[key] for key in ("tickmode", "tickvals", "ticktext")}
            both = {"xaxis": shape, "yaxis": shape}
            cases.append(fig.case(layout=both, order=order, narrow=narrow))
    for key, one in matrices.items():
        counts = np.zeros((len(singers), len(singers)))
        hover, keys = (np.full(counts.shape, "", object) for _ in range(2))
        for cell, rows in one.cells.items():
            counts[cell] = len(rows)
            hover[cell] = _hover(one, cell)
            keys[cell] = f"{key}-{cell[0]}-{cell[1]}"
        split, _, kind = key.partition("-")
        for order, numbers in orders.items():
            where: Json = {"split": split, "kind": kind, "order": order}
            grid = np.ix_(numbers, numbers)
            texts = {"hovertext": hover[grid].tolist(), "customdata": keys[grid].tolist()}
            cases.append(fig.case([texts], **where))
            for unit, values, highest in _in_units(counts, one):
                signed = np.where(np.eye(len(singers), dtype=bool), values, -values)[grid]
                text = np.where(counts > 0, np.rint(values).astype(int).astype(str), "")[grid]
                cells = {"z": fig.rounded(signed), "zmin": -highest, "zmax": highest}
                cases.append(fig.case([{**cells, "text": text.tolist()}], **where, unit=unit))
    heat = fig.heatmap([], SCALE, texttemplate="%{text}")
    return fig.figure([heat], layout, cases, square)


def _in_units(
    counts: NDArray[np.float64], one: Confusion
) -> list[tuple[str, NDArray[np.float64], float]]:
    """(unit, cells in it, what is drawn in full colour)."""
    of_row, of_column = (100 / np.maximum(songs, 1) for songs in (one.of_singer, one.named_as))
    return [
        ("counts", counts, float(max(one.of_singer.max(initial=1), 1))),
        ("rows", counts * of_row[:, None], 100.0),
        ("columns", counts * of_column[None], 100.0),
    ]


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _hover(one: Confusion, cell: tuple[int, int]) -> str:
    (true, named, missed), rows = one.heading(cell), one.cells[cell]
    lines = [f"<b>{fig.label(true)}</b> identified as <b>{fig.label(named)}</b>{missed}"]
    lines += [fig.label(says, 200) for says in one.shares(cell)]
    lines += ["· " + fig.label(one.song(row), 70) for row in rows[:HOVERED]]
    if len(rows) > HOVERED:
        lines.append(f"and {len(rows) - HOVERED} more: click to list them")
    return "<br>".join(lines)


def _panels(key: str, one: Confusion, segments: FirstChoices | str) -> str:
    """For each cell the list of its songs, each with a strip of what its segments say."""
    found = ""
    for cell, rows in one.cells.items():
        true, named, missed = one.heading(cell)
        says = f"{true} identified as {named}{missed}: {', '.join(one.shares(cell))}"
        text = f"<h2>{escape(says)}</h2>"
        if isinstance(segments, FirstChoices):
            orange = "" if cell[0] == cell[1] else "orange: the one named for the song; "
            text += (
                '<p class="soft">Segments from the song\'s beginning to its end. Blue: the true '
                f"singer is named; {orange}grey: another.</p>"
            )
        items = "".join(_song_item(one, row, cell, segments) for row in rows)
        found += panel(f"{key}-{cell[0]}-{cell[1]}", f'{text}<ul class="songs">{items}</ul>')
    return found


def _song_item(
    one: Confusion, row: int, cell: tuple[int, int], segments: FirstChoices | str
) -> str:
    address = f"timeline.html#{quote(one.predicted.ids[row].encode('utf-8', 'replace'), safe='')}"
    more = f' · <a href="{escape(address)}">timeline</a>'
    if isinstance(segments, FirstChoices):
        strip, words = _strip(one.predicted.singers, segments.runs(row), cell)
        more = f"{strip}<small>{escape(words)}{more}</small>"
    return f"<li>{escape(one.song(row))}{more}</li>"


def _strip(singers: Sequence[str], runs: Sequence[int], cell: tuple[int, int]) -> tuple[str, str]:
    """A song's segments as a strip that `switch.js` colours, and whom they name how often.

    "r3w2l10" are three segments that name the true singer, two the one named for the song, and ten
    another.
    """
    letters = {cell[1]: "w", cell[0]: "r"}
    counts: Counter[int] = Counter()
    strip: list[tuple[str, int]] = []
    for singer, length in zip(runs[::2], runs[1::2], strict=True):
        counts[singer] += length
        strip.append((letters.get(singer, "l"), length))
    joined = [
        f"{letter}{sum(length for _, length in run)}"
        for letter, run in itertools.groupby(strip, key=lambda one: one[0])
    ]
    named = [f"{singers[singer]} {count}" for singer, count in counts.most_common(4)]
    others = ", others" if len(counts) > 4 else ""
    bar = f'<i class="strip" data-strip="{"".join(joined)}"></i>'
    return bar, f"of {counts.total()} segments: {', '.join(named)}{others}"


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
