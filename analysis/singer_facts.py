"""What is known of the singers beside their songs: sex and vocal range, from a csv.

The csv has the columns singer, sex, low_hz and high_hz, all but the first optional. An empty field,
or a singer without a row, is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from embedder.errors import UserError
from embedder.text import composed, read_csv

COLUMNS = ("singer", "sex", "low_hz", "high_hz")
AUDIBLE_HZ = (20.0, 5000.0)  # no singer's lowest or highest note lies outside


@dataclass(frozen=True)
class SingerFacts:
    """One singer."""

    sex: str = ""  # as the csv writes it; "" where unknown
    low_hz: float | None = None  # lowest and highest note, both or neither
    high_hz: float | None = None
    measured: bool = False  # the range was measured in the songs


def read_singer_facts(path: Path, singers: Sequence[str]) -> dict[str, SingerFacts]:
    """The facts of those of `singers` that have a row; other rows may be there and are ignored.

    Raises `UserError` if the file cannot be read, has other columns, names none of the singers or
    one of them twice, or holds a range that is none.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; it is a csv of {', '.join(COLUMNS)}")
    rows = [(line, [cell.strip() for cell in cells]) for line, cells in read_csv(path, True)]
    head = rows[0][1] if rows else []
    wrong = [name for name in head if name not in COLUMNS]
    if "singer" not in head or wrong or len(set(head)) < len(head):
        found = ", ".join(head) or "nothing"
        raise UserError(f"{path} has the columns {found}; legal are {', '.join(COLUMNS)}")
    known = {composed(singer): singer for singer in singers}
    facts: dict[str, SingerFacts] = {}
    for line, cells in rows[1:]:
        if len(cells) > len(head):
            raise UserError(f"{path}, line {line}: more fields than columns")
        row = dict(zip_longest(head, cells, fillvalue=""))
        singer = known.get(composed(row["singer"]))
        if singer is None:
            continue
        if singer in facts:
            raise UserError(f"{path}, line {line}: a second row of {singer}")
        facts[singer] = _facts(row, f"{path}, line {line}")
    if not facts:
        raise UserError(f"{path} names none of the run's singers; one is {singers[0]}")
    return facts


def with_ranges(
    facts: Mapping[str, SingerFacts], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, SingerFacts]:
    """The facts, and ranges that were measured (Hz) where a csv gives none."""
    found = dict(facts)
    for singer, (low, high) in ranges.items():
        known = found.get(singer, SingerFacts())
        if known.low_hz is None:
            found[singer] = replace(known, low_hz=low, high_hz=high, measured=True)
    return found


def _facts(row: dict[str, str], where: str) -> SingerFacts:
    sex, low, high = (row.get(name, "") for name in COLUMNS[1:])
    if not low and not high:
        return SingerFacts(sex)
    least, most = AUDIBLE_HZ
    try:
        range_hz = float(low), float(high)
    except ValueError:
        range_hz = math.nan, math.nan
    if not least <= range_hz[0] < range_hz[1] <= most:
        raise UserError(
            f"{where}: a vocal range is low_hz < high_hz, both numbers within {least:g} and "
            f"{most:g}, not '{low}' and '{high}'"
        )
    return SingerFacts(sex, *range_hz)
