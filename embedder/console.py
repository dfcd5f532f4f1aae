"""Progress, tables and messages for the terminal.

Bars with speed and time left on a terminal, plain lines now and then in a file or a pipe.
"""

from __future__ import annotations

import errno
import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

EVERY_S = 5.0  # between two plain lines of progress
MOST_REPEATED = 20  # warnings that stand in a command's last lines


class Output(io.FileIO):
    """An output whose reader may leave, as `head -1` does: what nobody reads any more is dropped.

    A reader that has seen enough is no reason to stop work that writes files.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EINVAL):  # EINVAL: as Windows says it
                raise
            return memoryview(data).nbytes


def output_of(stream: Any) -> Any:
    """The same stream, but one that outlives its reader and can say any character.

    A character that it cannot encode is shown as `\\u2192`. What is no `TextIOWrapper` stays.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")
    raw = getattr(stream.buffer, "raw", stream.buffer)  # python -u does without a buffer
    if not isinstance(raw, io.FileIO):
        return stream
    output: Any = Output(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        output if raw is stream.buffer else io.BufferedWriter(output),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def say(text: str) -> None:
    """One plain line on standard output, at once."""
    print(text, flush=True)


_warnings: Counter[str] = Counter()  # given since the command began, in order


def warn(text: str) -> None:
    """Print a warning on standard error at once; the command's last lines repeat it.

    For whatever leaves a command with a result that is not what it seems: a file that was read in
    part, a threshold that calls most known singers unknown, an answer for a silent recording. Call
    it where the fact is known, with one sentence that names the file or the number; the command
    line does the rest. Threads may call it. What a worker process warns of is printed, but not
    repeated: return the sentence to the parent, and warn there.

    Args:
        text: One sentence, without "warning:" before it.
    """
    line = " ".join(text.split())
    print(f"warning: {line}", file=sys.stderr, flush=True)
    _warnings[line] += 1


@contextmanager
def repeating_warnings() -> Iterator[None]:
    """Collect the warnings of a block, and print each once more when it ends without an error."""
    _warnings.clear()
    yield
    if _warnings:
        total = _warnings.total()
        print(f"\n{total} warning{'s' if total > 1 else ''}, once more:", file=sys.stderr)
        for line, times in list(_warnings.items())[:MOST_REPEATED]:
            print(f"- {line}" + (f" ({times} times)" if times > 1 else ""), file=sys.stderr)
        if len(_warnings) > MOST_REPEATED:
            print(f"- and {len(_warnings) - MOST_REPEATED} more, above", file=sys.stderr)


def on_terminal() -> bool:
    """Whether standard output is a terminal that can show bars."""
    return Console().is_terminal


Tick = Callable[[int, int], None]


@contextmanager
def meter(title: str) -> Iterator[Tick]:
    """Yield a function to call with (done, total) as work goes on; what it shows says how fast.

    A bar on a terminal; else a line every `EVERY_S` seconds and one when all is done.
    """
    started = reported = time.monotonic()
    if not on_terminal():

        def speak(done: int, total: int) -> None:
            nonlocal reported
            now = time.monotonic()
            if done >= total:
                say(f"{title}: {total} in {now - started:.1f} s")
            elif done and now - reported >= EVERY_S:  # before anything is done, no rate is known
                rate = done / (now - started)
                say(f"{title}: {done}/{total}, {rate:.1f}/s, {(total - done) / rate:.0f} s left")
                reported = now

        yield speak
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(title, total=None, rate="")

        def move(done: int, total: int) -> None:
            rate = done / max(1e-9, time.monotonic() - started)
            bar.update(task, completed=done, total=total, rate=f"{rate:.1f}/s")

        yield move


def shown(items: Iterable[Any], total: int, title: str) -> Iterator[Any]:
    """Hand the items on and show how far they are, how fast, and how long it will take."""
    with meter(title) as tick:
        if total == 0:
            tick(0, 0)
        for done, item in enumerate(items, 1):
            yield item
            tick(done, total)


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output, in full width where that is no terminal. First column is text."""
    table = Table(header_style="bold")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(file=sys.stdout, markup=False, emoji=False)
    if not console.is_terminal:
        unbound = console.options.update(width=10_000)
        width = max(console.measure(part, options=unbound).maximum for part in (title, table))
        console = Console(file=sys.stdout, markup=False, emoji=False, width=width)
    console.print(title, style="bold")
    console.print(table)
