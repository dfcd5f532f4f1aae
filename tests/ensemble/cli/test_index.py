"""`benchmark-index`: a table that adds up, files only where they are asked for, wrong options."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
Refused = Callable[..., str]


def test_it_measures_each_kind(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outcome = command(
        "benchmark-index", "--vectors", 10_000, "--dim", 8, "--queries", 50,
        "--kinds", "hnsw, ivfpq",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    assert "10000 synthetic segments x 8 dim, 50 queries in batches of 1000, " in outcome.out
    cells = [re.split(r"\s*│\s*", line.strip("│ ")) for line in outcome.out.splitlines()]
    rows = {row[0]: [float(cell) for cell in row[1:]] for row in cells if len(row) == 7}
    assert list(rows) == ["ivfpq", "hnsw"] or list(rows) == ["hnsw", "ivfpq"]
    for build_s, build_mb, disk_mb, queries_per_s, query_mb, recall in rows.values():
        assert build_s > 0
        assert build_mb > 10
        assert disk_mb <= 5
        assert queries_per_s > 0
        assert query_mb > 10
        assert 0.8 < recall <= 1
    assert list(tmp_path.iterdir()) == []  # nothing stays


def test_files_stay_in_a_new_folder(command: Command, refused: Refused, tmp_path: Path) -> None:
    folder = tmp_path / "Größe"
    words = ("benchmark-index", "--vectors", 300, "--dim", 8, "--queries", 5, "--kinds", "flat")
    outcome = command(*words, "--output", folder)
    assert outcome.code == 0, outcome
    assert f"wrote {folder}" in outcome.out
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["flat.faiss", "queries.npy", "vectors.npy"]
    said = refused(*words, "--output", folder)
    assert said == f"--output {folder} is there already; it must be a new folder"
    assert "must be a new folder" in refused(*words, "--output", folder / "flat.faiss")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kinds", "flat,tree"), "--kinds tree is unknown; choose from flat, ivfpq, hnsw"),
        (("--kinds", ""), "--kinds '' is unknown; choose from flat, ivfpq, hnsw"),
        (("--vectors", 9983), "--vectors 9983 are too few: ivfpq needs at least 9984"),
        (("--vectors", 0), "'--vectors': Input should be greater than or equal to 1"),
        (("--dim", 1), "'--dim': Input should be greater than or equal to 2"),
        (("--queries", 0), "'--queries': Input should be greater than or equal to 1"),
        (("--seed", -1), "'--seed': Input should be greater than or equal to 0"),
    ],
)
def test_wrong_options_are_one_line(
    options: tuple[object, ...], message: str, refused: Refused
) -> None:
    said = refused("benchmark-index", *options)
    assert said.removeprefix("Invalid value for ").startswith(message)
