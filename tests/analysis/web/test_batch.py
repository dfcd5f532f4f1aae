"""A batch: one row a file, one line an answer."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from analysis.web.batch import Row, batch_csv, batch_summary, batch_table, recognise_each
from analysis.web.schemas import Choice, Limits, Recognised
from analysis.web.uploads import Recording, Refused
from embedder.errors import UserError

ANSWER = Recognised(
    20.0, (Choice("Ada, A.", 0.7), Choice("Ben", 0.2)), False, 0.5, 0.3, (), (), None, ()
)


def recognise(data: bytes, name: str) -> Recognised:
    if data == b"bad":
        raise UserError(f"{name} is no audio")
    return replace(ANSWER, unknown=data == b"strange", notes=("<No voice>.",) * (data == b"hush"))


def rows_of(files: dict[str, bytes], minutes: float = 15) -> list[Row]:
    given = [Recording(name, data) for name, data in files.items()]
    return list(
        recognise_each(given, [Refused("x.txt", "not a recording")], recognise, Limits(50, minutes))
    )


def test_rows_come_in_the_order_of_their_ids() -> None:
    rows = rows_of({"b.wav": b"", "10.mp3": b"bad", "sub/9.ogg": b"", "009.wav": b"strange"})
    assert [row.name for row in rows] == ["009.wav", "10.mp3", "b.wav", "sub/9.ogg", "x.txt"]
    assert [row.why for row in rows] == ["", "10.mp3 is no audio", "", "", "not a recording"]
    assert list(csv.reader(io.StringIO(batch_csv(rows)))) == [
        ["9", "Ada, A.", "Ben"], ["b", "Ada, A.", "Ben"], ["sub/9", "Ada, A.", "Ben"]
    ]  # fmt: skip
    assert batch_summary(rows) == (
        "3 recordings answered, 1 of them probably by nobody known here, 2 files left out."
    )
    assert batch_summary(rows_of({"a.wav": b""})[:1]) == "1 recording answered."


def test_of_two_files_with_one_id_the_first_stands() -> None:
    rows = rows_of({"1.wav": b"", "001.mp3": b"", "01.ogg": b"bad"})
    assert [(row.name, row.answer is not None) for row in rows[:3]] == [
        ("001.mp3", True), ("01.ogg", False), ("1.wav", False)
    ]  # fmt: skip
    assert rows[2].why == "001.mp3 has the same ID, 1; rename one"
    assert batch_csv(rows).count("\n") == 1


def test_a_file_that_fails_takes_no_id() -> None:
    rows = rows_of({"001.mp3": b"bad", "1.wav": b""})
    assert [row.answer is not None for row in rows] == [False, True, False]


def test_the_minutes_are_a_limit_on_the_sum() -> None:
    rows = rows_of({f"{one}.wav": b"" for one in range(4)}, minutes=0.5)
    assert [row.answer is not None for row in rows] == [True, True, False, False, False]
    assert rows[2].why == "left out: those before it fill the 0.5 minutes at once"


def test_the_table_is_text() -> None:
    rows = rows_of({"<b>.wav": b"hush", "<i>.wav": b"strange", "u.wav": b"bad"})
    text = batch_table(rows)
    assert "&lt;b&gt;.wav<small>&lt;No voice&gt;.</small>" in text
    assert "&lt;i&gt;.wav<small>probably by nobody known here</small>" in text
    assert "u.wav<small>u.wav is no audio</small>" in text
    assert "Ada, A.<small>70%</small>" in text
    assert text.count("<td class=number>0:20</td>") == 2
