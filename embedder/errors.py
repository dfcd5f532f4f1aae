"""`UserError`: one sentence that says what is wrong, where, and which values are legal.

Beside it, commands that can be pasted into a terminal, and the name that was probably meant.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUN_DIR = Path("runs")  # where every command works unless --run_dir says otherwise
SCRIPT = "singer-id"  # of an installed copy, see pyproject.toml
WITHOUT_RUN = ("architectures", "benchmark-index")  # commands that take no --run_dir

_typed: list[list[str]] = [[]]  # the words of the command that the user gave
_run_dirs = [RUN_DIR]  # of the commands that are running in each other; all threads see them


def one_line(text: str) -> str:
    """The text with a space for each line break; spaces within a line stay, as paths need them."""
    return re.sub(r"[^\S\n]*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*", " ", text).strip()


class UserError(Exception):
    """Something the user can mend: shown as one line, the command exits with code 2.

    Programming errors stay `ValueError`, `TypeError` and so on, and keep their traceback. `advice`
    ends the line; who knows better what to do may leave it out, for `fault` is the line without it.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        self.fault = one_line(message)
        super().__init__(one_line(f"{message}; {advice}") if advice else self.fault)


@contextmanager
def working_in(run_dir: Path) -> Iterator[None]:
    """Commands that are named within the block are for this run folder."""
    _run_dirs.append(run_dir)
    try:
        yield
    finally:
        _run_dirs.pop()


@contextmanager
def typed(words: list[str]) -> Iterator[None]:
    """Within the block the user's command is the one of these words, without the program's name."""
    _typed.append(words)
    try:
        yield
    finally:
        _typed.pop()


def typed_with(flag: str) -> str:
    """`: ` and the command that the user gave, with a flag more; empty where there was none."""
    if not _typed[-1]:
        return ""
    name, *rest = _typed[-1]
    return f": {_quoted([*program(), name, f'--{flag}', *rest])}"


def current_run_dir() -> Path:
    """The run folder of the command that is running."""
    return _run_dirs[-1]


def program() -> list[str]:
    """The words that start the program, as it was started: the installed script, or `app.py`."""
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]  # noqa: PTH119, PTH122
    return [name] if name == SCRIPT else ["python", "app.py"]


class Command:
    """A command of this program that can be pasted: whole, quoted, with its `--run_dir`.

    The text is made when it is printed, so that a constant names the run folder of the command that
    is running then. It belongs at the end of a message, with nothing behind it, not even a full
    stop. What only the user knows is a word in capitals, such as `SONGS`.

    Args:
        name: As the user types it, such as "train-embedder".
        arguments: What stands before the options.
        before: Words in front of it, such as "run again".
        options: Without their dashes. `True` is a flag, `None` and `False` leave the option out,
            a sequence repeats it. `run_dir` is the running command's if it is not given.
    """

    def __init__(self, name: str, /, *arguments: str, before: str = "", **options: Any) -> None:
        self.name, self.arguments, self.before, self.options = name, arguments, before, options

    def __str__(self) -> str:
        words = [*program(), self.name, *self.arguments]
        options = dict(self.options)
        if self.name not in WITHOUT_RUN and not options.get("bundle"):
            options = {**options, "run_dir": options.get("run_dir", current_run_dir())}
        for name, value in options.items():
            if value is None or value is False or (name == "run_dir" and Path(value) == RUN_DIR):
                continue
            for one in value if isinstance(value, (list, tuple)) else (value,):
                words += [f"--{name}"] if one is True else [f"--{name}", _text(one)]
        line = _quoted(words)
        return f"{self.before}: {line}" if self.before else line


def _quoted(words: list[str]) -> str:
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean epochs?)` where a known name is near to the word, else nothing."""
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, 1)
    return f" (did you mean {names[near[0]]}?)" if near else ""
