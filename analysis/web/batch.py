"""Many recordings at once: a row for each, the table as HTML, and `prediction.csv`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from analysis.page import table
from analysis.web.schemas import Limits, Recognised
from analysis.web.uploads import Recording, Refused
from analysis.web.widgets import clock, percent
from embedder.catalogue import without_audio_suffix
from embedder.errors import UserError
from embedder.text import counted
from ensemble.predictions import csv_text, id_order, normal_id


@dataclass(frozen=True)
class Row:
    """A file of the batch: its answer, or why there is none."""

    name: str  # as it was sent, with folders inside a zip
    answer: Recognised | None
    why: str = ""

    @property
    def ident(self) -> str:
        """The name without suffix, folders kept."""
        return without_audio_suffix(self.name)


def recognise_each(
    recordings: Sequence[Recording],
    refused: Sequence[Refused],
    recognise: Callable[[bytes, str], Recognised],
    limits: Limits,
) -> Iterator[Row]:
    """Rows in the order of their IDs, each as soon as it is done; the refused ones last.

    Two files with one ID: the first stands. The limit on minutes is one on their sum.
    """
    taken: dict[str, str] = {}
    left = limits.max_minutes * 60
    for one in sorted(recordings, key=lambda one: (id_order(Row(one.name, None).ident), one.name)):
        ident = normal_id(Row(one.name, None).ident)
        if ident in taken:
            yield Row(one.name, None, f"{taken[ident]} has the same ID, {ident}; rename one")
            continue
        if left <= 0:
            why = f"left out: those before it fill the {limits.max_minutes:g} minutes at once"
            yield Row(one.name, None, why)
            continue
        try:
            answer = recognise(one.data, one.name)
        except UserError as error:
            yield Row(one.name, None, str(error))
            continue
        taken[ident] = one.name
        left -= answer.seconds
        yield Row(one.name, answer)
    for gone in refused:
        yield Row(gone.name, None, gone.why)


def batch_csv(rows: Sequence[Row]) -> str:
    """Lines `ID,No.1,No.2,No.3` of the answered files, as `predict` writes them."""
    answered = [(row.ident, row.answer) for row in rows if row.answer is not None]
    return csv_text(
        [ident for ident, _ in answered],
        [[choice.singer for choice in answer.top] for _, answer in answered],
    )


def batch_summary(rows: Sequence[Row]) -> str:
    """What became of the files, in a sentence."""
    answered = [row.answer for row in rows if row.answer is not None]
    unknown = sum(answer.unknown for answer in answered)
    parts = [f"{counted(len(answered), 'recording')} answered"]
    if unknown:
        parts.append(f"{unknown:,} of them probably by nobody known here")
    if len(rows) > len(answered):
        parts.append(f"{counted(len(rows) - len(answered), 'file')} left out")
    return ", ".join(parts) + "."


def batch_table(rows: Sequence[Row]) -> str:
    """A table of all files; under a name stands what is to be known, or why it is left out."""

    def cells(row: Row) -> tuple[str, ...]:
        if row.answer is None:
            return (f"{row.name}\n{row.why}", "", "", "", "")
        remarks = ["probably by nobody known here"] if row.answer.unknown else []
        remarks += row.answer.notes
        file = "\n".join([row.name, "; ".join(remarks)]) if remarks else row.name
        top = [f"{one.singer}\n{percent(one.probability)}" for one in row.answer.top]
        return (file, *[*top, "", "", ""][:3], clock(row.answer.seconds))

    head = ("file", "first", "second", "third", "length")
    return table(head, [cells(row) for row in rows], numeric=[4])
