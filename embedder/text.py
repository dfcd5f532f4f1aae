"""Names in one Unicode form (NFC), and csv as editors and spreadsheets write and read it.

Paths stay as they are on disk; only what is compared or shown is brought into one form.
"""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from embedder.errors import UserError

# Categories of letters that no name may hold: control characters, the halves of letters that stand
# for bytes which are not UTF-8, and the separators of lines and of paragraphs.
UNUSABLE = ("Cc", "Cs", "Zl", "Zp")
# What a spreadsheet takes for a formula, behind the apostrophes that may stand before it already.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
NEGATIVE = re.compile(r"-[0-9.]+(e[+-][0-9]+)?")  # as this program writes numbers


def composed(text: str) -> str:
    """The text in Unicode's form NFC: `é` may be one character on disk, or two."""
    return unicodedata.normalize("NFC", text)


def counted(number: int, what: str, verbs: tuple[str, str] = ("", "")) -> str:
    """`1 song`, `2 songs`, `1,413 songs`; with `("is", "are")` also `1 song is`, `2 songs are`."""
    plural = number != 1
    return f"{number:,} {what}{'s' * plural} {verbs[plural]}".rstrip()


def name_problem(name: str) -> str:
    """Why a singer, an album or a song cannot bear this name, or an empty string.

    The rule is one for folders, lists and enrollment: a path "singer/album/song" must be one line
    of UTF-8 that can be taken apart.
    """
    if any(map(_unusable, name)):
        return "holds a line break or another control character, or is not UTF-8"
    if "/" in name:
        return "holds a '/', which stands between singer, album and song"
    return "" if name.strip() else "is empty"


def spelled_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ in case, compatibility form (NFKC) or spaces only, sorted."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold()
        groups["".join(unicodedata.normalize("NFKC", folded).split())].add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def files_alike(folder: Path, path: str) -> Iterator[Path]:
    """The files below a folder whose path differs from `path` in Unicode form at most."""
    name, _, rest = path.partition("/")
    found = [folder / name]
    if not name.isascii() and folder.is_dir():  # nothing else has more than one form
        found = [entry for entry in folder.iterdir() if composed(entry.name) == composed(name)]
    for entry in found:
        if rest:
            yield from files_alike(entry, rest)
        elif os.path.isfile(entry):  # noqa: PTH113 - a name too long for the disk is none
            yield entry


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark; spreadsheets and editors write one.

    Raises `UserError` naming the file, and the line where it is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} is not UTF-8 text in line {line}; save it as UTF-8") from None


def read_csv(path: Path, skip_spaces: bool = False) -> list[tuple[int, list[str]]]:
    """(line number, cells) of each row of a csv, as `to_csv` got them.

    `skip_spaces`: spaces before a cell, and before its quotes, are none of its text: people write
    them. Raises `UserError` naming file and line.
    """
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, strict=True, skipinitialspace=skip_spaces)
    try:
        return [(reader.line_num, [plain(cell) for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None


def to_csv(rows: Iterable[Iterable[object]]) -> str:
    """Rows as csv with newline line ends; a cell that holds a comma, quote or newline is quoted.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, which
    `read_csv` takes off. Numbers stay as they are.
    """
    lines = []
    for row in rows:
        text = io.StringIO()
        # Line ends of two characters, so that a cell that holds either of them is quoted.
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([inert(cell) if isinstance(cell, str) else cell for cell in row])
        lines.append(text.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def inert(cell: str) -> str:
    """A cell that begins with `=`, `+`, `-`, `@` or a tab, behind an apostrophe; others as is."""
    return f"'{cell}" if FORMULA.match(cell) and not NEGATIVE.fullmatch(cell) else cell


def plain(cell: str) -> str:
    """The cell that `inert` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _unusable(letter: str) -> bool:
    return unicodedata.category(letter) in UNUSABLE
