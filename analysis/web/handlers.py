"""What happens on the page, step by step, without knowing what draws it.

From what the browser sent, and tokens of recordings in memory, to HTML for the places of the page,
and sentences, never a stack trace, for what the visitor can mend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.page import colours, escape
from analysis.web.batch import Row, batch_csv, batch_summary, batch_table, recognise_each
from analysis.web.map import place_on_map
from analysis.web.schemas import Limits, Predictor
from analysis.web.uploads import Recent, Recording, Refused, recordings, take
from analysis.web.widgets import bars, headline, nearest, song_address, timeline
from embedder.errors import UserError
from embedder.text import counted

NONE_YET = "there is no recording yet; record or send one first"
GONE = "the recording is not kept any more; please send it again"


@dataclass(frozen=True)
class Message:
    """A sentence for the visitor, and whether it names a problem."""

    text: str
    problem: bool = False

    def html(self) -> str:
        """As a paragraph; nothing for no text."""
        if not self.text:
            return ""
        return f'<p class="{"problem" if self.problem else "said"}">{escape(self.text)}</p>'


NOTHING = Message("")


@dataclass(frozen=True)
class Batch:
    """Files that wait for their turn."""

    recordings: tuple[Recording, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, eq=False)
class Handlers:
    """The steps of all visitors: one's own things are behind one's own tokens."""

    predictor: Predictor
    limits: Limits
    kept: Recent
    folder: Path  # where uploads arrive, and whence they are taken at once

    def welcome(self) -> str:
        """The head of the page."""
        known = len(self.predictor.singers())
        return (
            "<h1>Who is singing?</h1><p>Sing, or send a recording. "
            f"{counted(known, 'singer').capitalize()} can be recognised.</p>"
        )

    def known(self) -> str:
        """The names that can be chosen from where one is written."""
        options = "".join(f'<option value="{escape(one)}">' for one in self.predictor.singers())
        return f'<datalist id="singers">{options}</datalist>'

    def take_one(
        self, payload: Mapping[str, Any] | None, still_s: float = 0.0
    ) -> tuple[str | None, Message]:
        """A recording out of the upload folder into memory: its token, or a problem."""
        if payload is None:
            return None, NOTHING
        try:
            (one,) = take([payload], self.folder, still_s)
            if not one.data:
                raise UserError(f"{one.name} is empty")
            recordings_of_one(one, self.limits)
        except UserError as error:
            return None, problem(error)
        return self.kept.put(one, len(one.data)), NOTHING

    def recognise_one(self, token: str | None) -> tuple[Message, str, str]:
        """The answer: its headline, the bars, and everything else, as HTML."""
        one = self.kept.get(token)
        if not isinstance(one, Recording):
            return problem(UserError(GONE)), "", ""
        try:
            answer = self.predictor.recognise(one.data, one.name)
        except UserError as error:
            return problem(error), "", ""
        singers = self.predictor.singers()
        tints = dict(zip(singers, colours(len(singers)), strict=True))
        rest = timeline(answer.segments, answer.seconds, tints, f"listening/recording/{token}")
        rest += f'<div class="pair">{place_on_map(self.predictor.map_points(), answer, tints)}'
        rest += f"{nearest(answer, song_address)}</div>"
        return Message(headline(answer, len(singers))), bars(answer, tints), rest

    def enroll(self, token: str | None, singer: str | None) -> Message:
        """Teach the system whose voice the last recording is."""
        name = " ".join((singer or "").split())
        one = self.kept.get(token)
        try:
            if not name:
                raise UserError("a name is missing; write whose voice it is")
            if not isinstance(one, Recording):
                raise UserError(GONE if token else NONE_YET)
            return Message(sentence(self.predictor.enroll(name, one.data, one.name)))
        except UserError as error:
            return problem(error)

    def undo(self) -> Message:
        """Take the last enrolment back, whoever made it."""
        try:
            return Message(sentence(self.predictor.undo()))
        except UserError as error:
            return problem(error)

    def take_many(self, payloads: Sequence[Mapping[str, Any]] | None) -> tuple[str | None, Message]:
        """Recordings and zips into memory: their token, or a problem."""
        if not payloads:
            return None, NOTHING
        try:
            good, bad = recordings(take(payloads, self.folder), self.limits)
        except UserError as error:
            return None, problem(error)
        size = sum(len(one.data) for one in good)
        return self.kept.put(Batch(tuple(good), tuple(bad)), size), NOTHING

    def recognise_many(self, token: str | None) -> Iterator[tuple[Message, str]]:
        """How far it is, and at the end the table with its prediction.csv."""
        batch = self.kept.get(token)
        if not isinstance(batch, Batch):
            yield Message("The files are not kept any more; please send them again.", True), ""
            return
        total = len(batch.recordings) + len(batch.refused)
        rows: list[Row] = []
        for row in recognise_each(
            batch.recordings, batch.refused, self.predictor.recognise, self.limits
        ):
            rows.append(row)
            if len(rows) < total:
                yield Message(f"{len(rows):,} of {counted(total, 'file')} done"), ""
        self.kept.drop(token)
        yield Message(batch_summary(rows)), self._download(rows) + batch_table(rows)

    def _download(self, rows: Sequence[Row]) -> str:
        text = batch_csv(rows)
        if not text:
            return ""
        token = self.kept.put(text, len(text))
        return (
            f'<p><a class="download" href="listening/prediction/{token}/prediction.csv" '
            'download="prediction.csv">Download prediction.csv</a></p>'
        )


def recordings_of_one(one: Recording, limits: Limits) -> None:
    """`UserError` if a single recording is too large, or is a zip."""
    good, _ = recordings([one], limits)
    if good != [one]:
        raise UserError(f"{one.name} is a zip; send it under Many recordings")


def problem(error: UserError) -> Message:
    """What cannot be done, as a sentence."""
    return Message(sentence(str(error)), True)


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    if not text:
        return ""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
