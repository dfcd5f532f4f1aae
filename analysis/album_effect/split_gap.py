"""The gap between song split and album split, from the rows of a benchmark.

Enters: a benchmark's folder of rows. Leaves: a `Gap` for each member, segment length and seed that
was measured under both rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedder.artifacts import read_json
from embedder.errors import UserError
from embedder.intervals import difference
from embedder.metrics import Estimate

SPLITS = ("song", "album")


@dataclass(frozen=True)
class Gap:
    """One member's share of songs right under both rules."""

    member: str
    segment_s: float
    seed: int
    measured_on: str  # split of the songs
    songs: tuple[int, int]  # under the song and the album split
    song: Estimate
    album: Estimate
    lost: Estimate  # album − song


def split_gaps(rows: Path) -> list[Gap]:
    """Of all rows that have a partner under the other rule, largest loss first."""
    found: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for path in sorted(rows.glob("*.json")):
        row = read_json(path)
        try:
            if row["split"] in SPLITS:
                key = row["member"], float(row["segment_s"]), int(row["seed"])
                found.setdefault(key, {})[row["split"]] = row
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is no row of a benchmark ({error!r}); delete it") from None
    pairs = [pair for pair in found.values() if len(pair) == len(SPLITS)]
    gaps = [_gap(*(pair[split] for split in SPLITS)) for pair in pairs]
    return sorted(gaps, key=lambda gap: gap.lost.value)


def _gap(by_song: dict[str, Any], by_album: dict[str, Any]) -> Gap:
    song, album = (
        Estimate(float(row["accuracy"]), float(row["low"]), float(row["high"]))
        for row in (by_song["song"], by_album["song"])
    )
    return Gap(
        str(by_song["member"]),
        float(by_song["segment_s"]),
        int(by_song["seed"]),
        str(by_album["measured_on"]),
        (int(by_song["song"]["count"]), int(by_album["song"]["count"])),
        song,
        album,
        difference(album, song),
    )
