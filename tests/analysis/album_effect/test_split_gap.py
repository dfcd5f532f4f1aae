"""The gap between splits: pairs of rows of the same kind, and none of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.album_effect.split_gap import split_gaps
from embedder.errors import UserError


def write(folder: Path, member: str, split: str, right: float, **more: Any) -> None:
    row = {
        "member": member, "split": split, "segment_s": 3.0, "seed": 0, "measured_on": "validation",
        "song": {"accuracy": right, "low": right - 0.1, "high": right + 0.1, "count": 40},
    } | more  # fmt: skip
    name = f"{len(list(folder.iterdir()))}.json"
    (folder / name).write_text(json.dumps(row), encoding="utf-8")


def test_rows_of_both_rules_make_a_pair(tmp_path: Path) -> None:
    write(tmp_path, "a", "song", 0.9)
    write(tmp_path, "a", "album", 0.7, measured_on="test")
    write(tmp_path, "b", "album", 0.4)
    write(tmp_path, "b", "song", 0.8)
    write(tmp_path, "a", "song", 0.5, segment_s=5.0)  # nobody else heard 5 s
    write(tmp_path, "b", "song", 0.5, seed=1)
    write(tmp_path, "a", "course", 0.1)
    found = split_gaps(tmp_path)
    assert [(gap.member, gap.measured_on) for gap in found] == [("b", "validation"), ("a", "test")]
    assert [gap.lost.value for gap in found] == pytest.approx([-0.4, -0.2])  # largest loss first
    worst = found[0]
    assert (worst.song.value, worst.album.value, worst.songs) == (0.8, 0.4, (40, 40))
    # Both intervals are 0.1 to each side: the difference's is their root of the sum of squares.
    assert worst.lost.high - worst.lost.value == pytest.approx(0.02**0.5)
    assert worst.lost.value - worst.lost.low == pytest.approx(0.02**0.5)


def test_no_folder_has_no_gaps(tmp_path: Path) -> None:
    assert split_gaps(tmp_path / "none") == []


@pytest.mark.parametrize("row", [{"split": "song"}, {}])
def test_what_is_no_row_is_named(row: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.json is no row of a benchmark .*; delete it"):
        split_gaps(tmp_path)
