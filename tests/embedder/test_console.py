"""Progress and tables: everything passes through, and plain output stays plain and whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from embedder import console
from embedder.console import (
    meter,
    on_terminal,
    print_table,
    repeating_warnings,
    say,
    shown,
    warn,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time in seconds, as the console sees it."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_no_terminal_here() -> None:
    assert not on_terminal()


def test_plain_progress_speaks_every_five_seconds(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    for item in shown(iter(range(9)), 9, "decoding"):
        seen.append(item)
        clock[0] += 2
    assert seen == list(range(9))
    # One item every 2 s: lines once 5 s have gone by since the last, none with the last item.
    assert capsys.readouterr().out.splitlines() == [
        "decoding: 3/9, 0.5/s, 12 s left",
        "decoding: 6/9, 0.5/s, 6 s left",
        "decoding: 9 in 18.0 s",
    ]


def test_no_rate_is_told_before_anything_is_done(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with meter("fitting") as tick:
        clock[0] += 6
        tick(0, 100)
        clock[0] += 2
        tick(4, 100)
    assert capsys.readouterr().out == "fitting: 4/100, 0.5/s, 192 s left\n"


def test_items_are_drawn_one_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    drawn: list[int] = []
    items = shown((drawn.append(n) or n for n in range(5)), 5, "x")  # type: ignore[func-returns-value]
    assert next(items) == 0
    assert drawn == [0]
    items.close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out == ""  # what was left is not told as done


def test_nothing_to_do_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown([], 0, "embedding")) == []
    assert re.fullmatch(r"embedding: 0 in 0\.\d s\n", capsys.readouterr().out)


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_among_the_items_comes_through(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "on_terminal", lambda: terminal)

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken item")

    seen = []
    with pytest.raises(ValueError, match="broken item"):
        seen.extend(shown(items(), 2, "x"))


def test_a_terminal_gets_the_items_and_a_bar_that_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "on_terminal", lambda: True)
    made = []

    class Watched(console.Progress):
        def __init__(self, *columns: object, **options: object) -> None:
            super().__init__(*columns, **options)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(console, "Progress", Watched)
    assert list(shown("abc", 3, "reading")) == ["a", "b", "c"]
    (task,) = made[0].tasks
    assert (task.description, task.completed, task.total) == ("reading", 3, 3)
    assert re.fullmatch(r"\d+\.\d/s", task.fields["rate"])
    assert "in 0.0 s" not in capsys.readouterr().out


def test_say_is_one_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold]next[/bold]: :cat: 100 %")
    assert capsys.readouterr().out == "[bold]next[/bold]: :cat: 100 %\n"


def cells(out: str) -> list[list[str]]:
    rows = [line for line in out.splitlines() if line and line[0] in "┃│"]
    return [[cell.strip() for cell in re.split("[┃│]", row)[1:-1]] for row in rows]


def test_a_table_holds_its_cells_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["[red]", "0.98"], [":cat: [/x]", "1"], ["林", "-"]]
    print_table("validation, songs", ["singer", "top-1"], rows)
    out = capsys.readouterr().out
    assert out.splitlines()[0].strip() == "validation, songs"
    assert cells(out) == [["singer", "top-1"], *rows]


def test_a_title_wider_than_its_table_stays_on_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    title = "validation songs, cross-fitted by album: " + "x" * 200
    print_table(title, ["a", "b"], [["1", "2"]])
    assert capsys.readouterr().out.splitlines()[0].strip() == title


def test_a_table_s_numbers_stand_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("t", ["name", "n"], [["a", "1"], ["long name", "1000"]])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert lines == ["│ a         │    1 │", "│ long name │ 1000 │"]


@pytest.mark.parametrize("width", [60, 300])
def test_nothing_is_cut_off_where_there_is_no_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table("t", ["name", "value"], [["x" * width, "1"]])
    assert cells(capsys.readouterr().out) == [["name", "value"], ["x" * width, "1"]]


# Warnings ---------------------------------------------------------------------------------------


def test_a_warning_is_printed_at_once_and_once_more_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with repeating_warnings():
        warn("one.mp3 was read in part:\n6.1 of 12.0 s")
        assert capsys.readouterr().err == "warning: one.mp3 was read in part: 6.1 of 12.0 s\n"
        warn("no threshold holds")
        warn("no threshold holds")
        say("wrote all")
        capsys.readouterr()
    shown = capsys.readouterr()
    assert shown.out == ""  # what a program reads there stays what it was
    lines = shown.err.strip().splitlines()
    assert "3 warnings" in lines[0]
    assert [line for line in lines if "one.mp3" in line] == [
        "- one.mp3 was read in part: 6.1 of 12.0 s"
    ]
    assert "2 times" in next(line for line in lines if "threshold" in line)


def test_warnings_of_an_earlier_command_are_not_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with repeating_warnings():
        warn("old")
    with suppress(ValueError), repeating_warnings():
        warn("before the error")
        raise ValueError
    capsys.readouterr()
    with repeating_warnings():
        pass
    assert capsys.readouterr().err == ""


def test_of_very_many_warnings_the_end_counts_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    with repeating_warnings():
        for number in range(console.MOST_REPEATED + 5):
            warn(f"file {number}")
        capsys.readouterr()
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 + console.MOST_REPEATED + 1
    assert "5 more" in lines[-1]
