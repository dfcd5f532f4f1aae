"""The files that are handed in: their pages, their numbers, the same bytes each time."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.report.deck import Author, legible
from analysis.report.details import confusion_slide, results_slide, singers_slide
from analysis.report.findings import numbers_of
from analysis.report.report import write_report
from analysis.report.results import with_interval
from analysis.report.slide import Column, Slide, Table, Text
from analysis.run_data import RunData, read_run_data
from embedder.metrics import summarise
from embedder.run import Run

TITLES = [
    "Who sings?",
    "Novelty: what is different here",
    "Method in one picture",
    "Result on validation songs (cross-fitted)",
    "Findings",
    "Data and split",
    "Three seconds of each singer",
    "Results: each expert, and all fused",
    "Results by singer",
    "Who is taken for whom",
    "Map of the songs (t-SNE)",
    "Calibration: is it as sure as it is right?",
    "What the ensemble adds",
    "Robustness",
    "All findings, in sentences made from the numbers",
    "How to make this again",
]


@pytest.fixture(scope="module")
def reported(answered: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the deck of a run."""
    folder = tmp_path_factory.mktemp("reported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedder.metrics.RESAMPLES", 20)
        write_report(answered, Author("Ada Lovelace", "R 12$34$"), folder=folder)
    return folder


@pytest.fixture(scope="module")
def shown(reported: Path) -> Any:
    from pptx import Presentation

    return Presentation(str(reported / "report.pptx"))


@pytest.fixture(scope="module")
def run_data(answered: Run) -> RunData:
    return legible(read_run_data(answered))


def streams(pdf: bytes) -> list[bytes]:
    """The streams of a PDF, unpacked where they are packed."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    unpacked = []
    for one in found:
        try:
            unpacked.append(zlib.decompress(one))
        except zlib.error:
            unpacked.append(one)
    return unpacked


def test_pdf_has_the_pages_in_order_and_no_date(reported: Path) -> None:
    data = (reported / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", data)) == len(TITLES)
    assert b"/MediaBox [ 0 0 959.976 540 ]" in data
    for word in (b"Date", b"matplotlib"):
        assert word not in data
    assert b"/FontFile2" in data
    assert b"/Type3" not in data
    program = shutil.which("pdftotext")
    if program:
        text = subprocess.run(
            [program, "-layout", reported / "report.pdf", "-"], capture_output=True, check=True
        ).stdout.decode()
        for page, title in zip(text.split("\f"), TITLES, strict=False):
            assert title in page


def test_slides_have_the_same_titles_and_texts(shown: Any) -> None:
    assert [slide.shapes.title.text_frame.text for slide in shown.slides] == TITLES
    assert (shown.slide_width, shown.slide_height) == (12191695, 6858000)
    texts = [
        shape.text_frame.text
        for shape in shown.slides[0].shapes
        if shape.has_text_frame
    ]  # fmt: skip
    assert "Ada Lovelace" in texts
    assert "Student ID R 12$34$" in texts
    missing = "\n".join(s.text_frame.text for s in shown.slides[6].shapes if s.has_text_frame)
    assert "python app.py measure --what spectrograms" in missing
    missing = "\n".join(s.text_frame.text for s in shown.slides[13].shapes if s.has_text_frame)
    assert "python app.py measure --what robustness" in missing


def test_nothing_leaves_a_slide_and_pictures_are_fine(shown: Any) -> None:
    from PIL import Image

    pictures = 0
    for slide in shown.slides:
        for shape in slide.shapes:
            assert shape.left >= 0
            assert shape.top >= 0
            assert shape.left + shape.width <= shown.slide_width
            assert shape.top + shape.height <= shown.slide_height
            if shape.shape_type == 13:
                pictures += 1
                width = Image.open(io.BytesIO(shape.image.blob)).size[0]
                assert width / (shape.width / 914400) >= 200
                assert shape._element.nvPicPr.cNvPr.get("descr")
    assert pictures >= 8


def cells(slide: Any) -> list[list[str]]:
    table = next(shape.table for shape in slide.shapes if shape.has_table)
    return [[cell.text_frame.text for cell in row.cells] for row in table.rows]


def test_tables_are_real_and_hold_recomputed_numbers(shown: Any, run_data: RunData) -> None:
    found = cells(shown.slides[7])
    assert found[0] == ["answers of", "split", "songs", "top-1", "top-3", "score", "macro F1"]
    rows = {(row[0], row[1].rstrip("*")): row for row in found[1:]}
    for table in run_data.predicted:
        fused = {"fused": table.probabilities, **table.experts}
        assert {name for name, split in rows if split == table.split} == set(fused)
        for name, probabilities in fused.items():
            summary = summarise(table.truth, np.log(probabilities))
            row = rows[name, table.split]
            expected = (summary.top_1, summary.top_3, summary.score, summary.macro_f1)
            assert [cell.split()[0] for cell in row[3:]] == [f"{one.value:.3f}" for one in expected]
            assert row[1].endswith("*") == (table.split == "validation")


def test_intervals_are_those_of_the_fusion(shown: Any, run_data: RunData) -> None:
    assert run_data.fusion
    rows = {row[0]: row for row in cells(shown.slides[7]) if row[1] == "validation*"}
    assert len(rows) == len(run_data.fusion.results)
    for one in run_data.fusion.results:
        found = (one.metrics.top_1, one.metrics.top_3, one.metrics.score, one.metrics.macro_f1)
        assert rows[one.expert][3:] == [with_interval(estimate) for estimate in found]


def only_table(slide: Any) -> Table:
    return next(
        block for column in slide.columns for block in column.blocks if isinstance(block, Table)
    )


def test_singers_are_counted_one_by_one(run_data: RunData) -> None:
    predicted = run_data.predicted[0]
    named = predicted.probabilities.argmax(axis=1)
    table = only_table(singers_slide(predicted))
    assert len(table.rows) == len(predicted.singers)
    for name, right, recall, precision, f1 in table.rows:
        singer = predicted.singers.index(name)
        hits = int(((predicted.truth == singer) & (named == singer)).sum())
        songs, given = (predicted.truth == singer).sum(), (named == singer).sum()
        assert right == f"{hits} of {songs}"
        assert recall == f"{hits / songs:.3f}"
        assert precision == (f"{hits / given:.3f}" if given else "–")
        r, p = hits / songs, hits / given if given else 0.0
        assert f1 == f"{2 * r * p / (r + p) if hits else 0:.3f}"


def test_mistakes_are_those_of_the_matrix(
    build_material: Callable[..., RunData],
) -> None:
    predicted = build_material(("A", "B", "C")).predicted[0]
    named = predicted.probabilities.argmax(axis=1)
    table = only_table(confusion_slide(predicted, 0))
    wrong = named != predicted.truth
    assert sum(int(row[2].split()[0]) for row in table.rows) == wrong.sum()
    for true, taken, count in table.rows:
        both = (predicted.truth == predicted.singers.index(true)) & (
            named == predicted.singers.index(taken)
        )
        assert int(count.split()[0]) == both.sum()


@pytest.mark.usefixtures("cheap")
def test_of_many_experts_the_best_are_shown_and_the_cut_is_told(
    build_material: Callable[..., RunData],
) -> None:
    slide = results_slide(numbers_of(build_material(("A", "B", "C"), experts=24)))
    table = only_table(slide)
    assert len(table.rows) == 20
    assert "The 19 rows of experts with the highest score, of 24." in slide.message
    assert table.rows[table.bold[0]][0] == "fused"


def test_refusals(
    answered: Run, refused: Callable[..., str], tmp_path: Path
) -> None:  # fmt: skip
    file = tmp_path / "file"
    file.write_text("x")
    there = ("--run_dir", answered.root)
    assert refused("report", "--output", file, *there).endswith("it must be a folder")
    assert "no member nobody" in refused("report", "--members", "nobody", *there)
    assert "no run folder" in refused("report", "--run_dir", tmp_path / "none")
    assert "--name is longer" in refused("report", "--name", "x" * 121, *there)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_letters_without_a_font_are_told_once(
    answered: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slides = [Slide("Cover 前", "", (Column((Text("名"),)),), cover=True)]
    monkeypatch.setattr("analysis.report.report.installed", lambda: [])
    monkeypatch.setattr("analysis.report.report.slides_of", lambda *_: slides)
    said: list[str] = []
    write_report(answered, Author("名"), folder=tmp_path, warn=said.append)
    assert len(said) == 1
    assert "no font on this machine has 2 of the letters" in said[0]
    from pptx import Presentation

    (first,) = Presentation(str(tmp_path / "report.pptx")).slides
    assert [shape.text_frame.text for shape in first.shapes if shape.has_text_frame][-1] == "名"
