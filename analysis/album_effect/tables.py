"""The tables of the albums page.

Enters: what was found in each embedding, and gaps between splits. Leaves: HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.album_effect.effect import AlbumEffect, Neighbourhood, Probe
from analysis.album_effect.split_gap import Gap
from analysis.page import escape, table
from analysis.wording import points
from embedder.errors import Command
from embedder.metrics import Estimate


@dataclass(frozen=True, eq=False)
class Embedding:
    """What was found in one member's embedding, or in that of all together."""

    name: str
    near: Neighbourhood
    effect: AlbumEffect
    probe: Probe | None


def neighbour_table(found: Sequence[Embedding]) -> str:
    """A row for each embedding: the nearest song against chance."""
    head = (
        "embedding", "songs", "same album", "by chance", "by voice alone", "production",
        "singer right", "own album left out", "lost",
    )  # fmt: skip
    rows = [
        (
            one.name,
            f"{one.effect.songs:,}",
            _share(one.effect.album),
            f"{one.effect.album_chance:.1%}",
            f"{one.effect.voice_chance:.1%}",
            _share(one.effect.production),
            _share(one.effect.singer),
            _share(one.effect.singer_apart),
            _points(one.effect.lost),
        )
        for one in found
    ]
    return table(head, rows, range(1, len(head)))


def probe_table(found: Sequence[Embedding]) -> str:
    """A row for each embedding: how well albums are told, against chance."""
    head = (
        "embedding", "songs", "albums", "album right", "by chance",
        "among the singer's own", "by chance",
    )  # fmt: skip
    rows = [
        (
            one.name,
            f"{one.probe.songs:,}",
            f"{one.probe.albums:,}",
            _share(one.probe.right),
            f"{one.probe.chance:.1%}",
            _share(one.probe.own),
            f"{one.probe.own_chance:.1%}",
        )
        for one in found
        if one.probe
    ]
    return table(head, rows, range(1, len(head)))


def gap_finding(gaps: Sequence[Gap]) -> str:
    """What the album split costs the member that loses most, and one in the middle."""
    worst = gaps[0]
    kind = f"{worst.member}, segments of {worst.segment_s:g} s, seed {worst.seed}"
    mean = sum(gap.lost.value for gap in gaps) / len(gaps)
    rest = (
        f"; the mean over {len(gaps)} pairs of runs is {100 * mean:+.1f} points".replace("-", "−")
        if len(gaps) > 1
        else ""
    )
    return (
        f"By song split {worst.song.value:.1%} of {worst.songs[0]:,} songs are right, by album "
        f"split {worst.album.value:.1%} of {worst.songs[1]:,} ({kind}, {worst.measured_on} songs): "
        f"{points(worst.lost)}{rest}."
    )


def gap_section(gaps: Sequence[Gap], folder: Path) -> str:
    """What the album split costs, or the command that measures it into `folder`."""
    heading = "<h2>Song split against album split</h2>"
    if not gaps:
        both = Command("benchmark", data_dir="SONGS", splits="song,album", run_dir=folder)
        said = (
            f"No benchmark in this run measured the same member under both rules; to do so: {both}"
        )
        return f"{heading}<p>{escape(said)}</p>"
    head = ("member", "segment", "seed", "song split", "album split", "lost")
    rows = [
        (
            gap.member,
            f"{gap.segment_s:g} s",
            str(gap.seed),
            f"{_share(gap.song)}, {gap.songs[0]:,} songs",
            f"{_share(gap.album)}, {gap.songs[1]:,} songs",
            _points(gap.lost),
        )
        for gap in gaps
    ]
    return f"{heading}<p>{escape(gap_finding(gaps))}</p>" + table(head, rows, range(1, len(head)))


def _share(one: Estimate) -> str:
    if np.isnan(one.value):
        return ""
    return f"{one.value:.1%}\n{one.low:.1%} to {one.high:.1%}"


def _points(one: Estimate) -> str:
    return points(one).replace(", 95% interval ", "\n")
