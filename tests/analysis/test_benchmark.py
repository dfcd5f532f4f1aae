"""The benchmark's table: means and bests, intervals, and the papers' numbers where they belong."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from analysis.benchmark import HEAD, NOTE, lines, published, spread, write_tables


def row(
    member: str = "crnn", split: str = "album", seed: int = 0, **changes: Any
) -> dict[str, Any]:
    level = {"count": 50, "accuracy": 0.5, "low": 0.4, "high": 0.6, "macro_f1": 0.45}
    song = {**level, "accuracy": 0.6 + 0.1 * seed, "macro_f1": 0.5 + 0.1 * seed}
    return {
        "made_from": "x", "member": member, "split": split, "segment_s": 3.0, "seed": seed,
        "backbone": "crnn", "loss": "aam", "stem": "mix", "parameters": 1234567,
        "multiply_adds": 4.5e7, "measured_on": "test", "training_s": 90.0,
        "segment": {**level, "count": 500}, "song": song, "excerpt": level, "hard": level,
    } | changes  # fmt: skip


def cells(line: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(HEAD, line, strict=True))


def test_one_seed_has_its_interval() -> None:
    (line,) = lines([row()])
    found = cells(line)
    assert found["song accuracy"] == "0.600 [0.400, 0.600]"
    assert found["5 s accuracy"] == "0.500 [0.400, 0.600]"
    assert found["segment accuracy"] == "0.500"
    assert found["hard accuracy"] == "0.500 [0.400, 0.600]"
    assert found["hard 5 s accuracy"] == ""  # not measured
    assert (found["parameters"], found["training"], found["segment"]) == (
        "1.23 M",
        "1.5 min",
        "3 s",
    )
    assert found["songs"] == "50 test"


def test_several_seeds_have_their_mean_and_best() -> None:
    (line,) = lines([row(seed=0), row(seed=1), row(seed=2, training_s=180.0)])
    found = cells(line)
    assert found["song accuracy"] == "0.700 (0.800)"
    assert found["song F1"] == "0.600 (0.700)"
    assert (found["seeds"], found["training"]) == ("3", "2.0 min")


def test_rows_of_other_conditions_stand_apart() -> None:
    rows = [row(), row(split="song"), row(segment_s=5.0), row(member="other"), row(seed=1)]
    assert [line[:4] for line in lines(rows)] == [
        ("crnn", "album", "3 s", "2"),
        ("crnn", "song", "3 s", "1"),
        ("crnn", "album", "5 s", "1"),
        ("other", "album", "3 s", "1"),
    ]


def test_the_papers_numbers_stand_beside_their_own_condition_only() -> None:
    assert published(row(split="album")) == "0.674"
    assert published(row(split="song")) == "0.937"
    assert published(row(backbone="fgnl")) == "0.83-0.86"
    assert published(row(split="course")) == ""
    assert published(row(stem="vocals")) == ""
    assert published(row(backbone="ecapa")) == ""


def test_spread() -> None:
    assert spread([0.25]) == "0.250"
    assert spread([0.25, 0.75]) == "0.500 (0.750)"


def test_three_forms_of_one_table(tmp_path: Path) -> None:
    rows = [row(), row(split="song", member="a|b<i>")]
    paths = write_tables(rows, tmp_path)
    assert [path.name for path in paths] == ["benchmark.md", "benchmark.csv", "benchmark.html"]
    text = paths[0].read_text(encoding="utf-8")
    assert text.startswith("| member | split | segment |")
    assert "| crnn | album | 3 s | 1 | 1.23 M | 45 M | 1.5 min |" in text
    assert NOTE in text
    with paths[1].open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [r["member"] for r in table] == ["crnn", "a|b<i>"]
    assert float(table[0]["song_accuracy"]) == 0.6
    assert float(table[0]["segment_count"]) == 500
    assert float(table[0]["hard_accuracy"]) == 0.5
    assert table[0]["hard_excerpt_accuracy"] == ""
    assert "made_from" not in table[0]
    html = paths[2].read_text(encoding="utf-8")
    assert "<td>a|b&lt;i&gt;</td>" in html
    assert "<nav" not in html
    assert "0.674" in html


def test_a_member_s_name_cannot_break_the_markdown_table(tmp_path: Path) -> None:
    (line,) = [
        line
        for line in write_tables([row(member="a|b")], tmp_path)[0]
        .read_text(encoding="utf-8")
        .splitlines()
        if "1.23 M" in line
    ]
    assert line.replace("\\|", "").count("|") == len(HEAD) + 1
