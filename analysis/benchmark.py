"""The benchmark's rows as one table, in the papers' form: Markdown, CSV and an HTML page.

Rows are those of `embedder/recipes/benchmark.py`; each line has mean and best over the seeds,
and the papers' own artist20 numbers where the condition is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.page import escape, page, table
from embedder.artifact import write_text
from embedder.text import to_csv

LEVELS = ("segment", "song", "excerpt", "hard", "hard_excerpt")


@dataclass(frozen=True)
class Published:
    """A number of a paper on artist20."""

    backbone: str
    split: str
    macro_f1: str  # song level
    source: str


# Song level. They hold for artist20 only, and for members with the same input as the paper's.
PUBLISHED = (
    Published("crnn", "song", "0.937", "Nasrullah & Zhao 2019, best mean of three runs"),
    Published("crnn", "album", "0.674", "Nasrullah & Zhao 2019, best"),
    Published("fgnl", "album", "0.83-0.86", "Kuo et al. 2021"),
)


def groups(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows that differ in their seed only, in order of first appearance."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["member"], row["split"], row["segment_s"]].append(row)
    return list(found.values())


HEAD = (
    "member", "split", "segment", "seeds", "parameters", "multiply-adds/s", "training",
    "segment accuracy", "segment F1", "song accuracy", "song F1", "5 s accuracy", "5 s F1",
    "hard accuracy", "hard 5 s accuracy",
    "songs", "artist20",
)  # fmt: skip


def lines(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One line of texts for each group, under `HEAD`."""
    return [_line(group) for group in groups(rows)]


def _line(group: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    first = group[0]
    cells = [
        _cell(group, level, metric)
        for level in LEVELS
        for metric in ("accuracy", "macro_f1")
        if metric == "accuracy" or not level.startswith("hard")
    ]
    minutes = sum(row["training_s"] for row in group) / len(group) / 60
    return (
        first["member"],
        first["split"],
        f"{first['segment_s']:g} s",
        str(len(group)),
        f"{first['parameters'] / 1e6:.2f} M",
        f"{first['multiply_adds'] / 1e6:.0f} M",
        f"{minutes:.1f} min",
        *cells,
        f"{first['song']['count']} {first['measured_on']}",
        published(first),
    )


def _cell(group: Sequence[Mapping[str, Any]], level: str, metric: str) -> str:
    """A number of all seeds; the interval of a single run says more than a best of one."""
    found = [row[level] for row in group if level in row]
    if not found:
        return ""
    text = spread([one[metric] for one in found])
    if len(found) == 1 and metric == "accuracy" and level != "segment":
        text += f" [{found[0]['low']:.3f}, {found[0]['high']:.3f}]"
    return text


def spread(values: Sequence[float]) -> str:
    """`mean (best)` of several runs, the value of a single one."""
    mean = sum(values) / len(values)
    return f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} ({max(values):.3f})"


def published(row: Mapping[str, Any]) -> str:
    """The paper's song-level F1 for this architecture and split; empty where there is none."""
    found = [p for p in PUBLISHED if (p.backbone, p.split) == (row["backbone"], row["split"])]
    return found[0].macro_f1 if found and row["stem"] == "mix" else ""


NOTE = (
    "Accuracy and macro F1; mean and, in brackets, best of the seeds, or the value with its "
    "95% interval, bootstrap over albums, for one seed. Where a split has no test albums, numbers "
    "are of the validation songs on which the epoch was chosen. Hard: the songs mixed again with "
    "their vocals 8 dB lower. The last column holds the papers' "
    "song-level F1 on artist20, which can be compared only with results on artist20. "
) + "; ".join(f"{p.backbone}, {p.split} split: {p.macro_f1} ({p.source})" for p in PUBLISHED)


def write_tables(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write the three forms of the table and return their paths."""
    body = lines(rows)
    narrow = [[cell.replace(" [", "\n[") for cell in line] for line in body]
    texts = {
        "benchmark.md": _markdown(body),
        "benchmark.csv": _csv(rows),
        "benchmark.html": page(
            "benchmark.html",
            "Benchmark",
            f"<p>{escape(NOTE)}</p>" + table(HEAD, narrow, range(2, len(HEAD) - 1)),
        ),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def _markdown(body: Sequence[Sequence[str]]) -> str:
    rows = [HEAD, ["---"] * len(HEAD), *body]
    whole = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(whole) + f"\n\n{NOTE}.\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every row by itself, numbers unrounded."""
    plain = [name for name, value in rows[0].items() if not isinstance(value, dict)]
    plain.remove("made_from")
    metrics = list(rows[0]["song"])
    table: list[list[Any]] = [
        [*plain, *(f"{level}_{name}" for level in LEVELS for name in metrics)]
    ]
    for row in rows:
        numbers = [row.get(level, {}).get(name, "") for level in LEVELS for name in metrics]
        table.append([*(row[name] for name in plain), *numbers])
    return to_csv(table)
