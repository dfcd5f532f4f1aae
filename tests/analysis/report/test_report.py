"""The files that are handed in: their slides, their numbers, the same bytes each time."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.report import report
from analysis.report.charts import draw_confusion, draw_estimates
from analysis.report.deck import Author, Bullets, Column, Figure, LeftOut, Slide, Table, Text, Tiles
from analysis.report.facts import Facts
from analysis.report.layout import arrange
from analysis.report.numbers import legible, numbers_of, with_interval
from analysis.report.pdf import write_pdf
from analysis.report.pptx import write_pptx
from analysis.report.report import write_report
from analysis.report.result_slides import ablation_slide, confusion_slide, singers_slide
from analysis.run_data import RunData, read_run_data
from embedder.metrics import summarise
from embedder.run import Run
from embedder.statistics import Estimate

ROOT = Path(__file__).parents[3]
TITLES = [
    "Who sings?",
    "Method",
    "What is different here",
    "Data and split",
    "Training and validation curves",
    "Results on test songs",
    "Ablation: each expert, and all fused",
    "What fusing adds",
    "Who is taken for whom",
    "Results by singer",
    "Map of the songs (t-SNE)",
    "Calibration: is it as sure as it is right?",
    "Album effect: production or voice?",
    "Questions",
    "Limitations",
    "Conclusion",
    "How to make this again",
]
ABLATION = TITLES.index("Ablation: each expert, and all fused")


@pytest.fixture(scope="module")
def reported(answered: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with the deck of a run, and what was said of slides that are left out."""
    folder, said = tmp_path_factory.mktemp("reported"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedder.statistics.RESAMPLES", 20)
        author = Author("Ada Lovelace", "R 12$34$")
        write_report(answered, author, folder=folder, say=said.append)
    return folder, said


@pytest.fixture(scope="module")
def shown(reported: tuple[Path, list[str]]) -> Any:
    from pptx import Presentation

    return Presentation(str(reported[0] / "report.pptx"))


@pytest.fixture(scope="module")
def run_data(answered: Run) -> RunData:
    return legible(read_run_data(answered))


def pages_text(pdf: Path) -> list[str]:
    """The text of each page, by poppler."""
    program = shutil.which("pdftotext")
    if not program:
        pytest.skip("poppler is not installed")
    done = subprocess.run([program, "-layout", pdf, "-"], capture_output=True, check=True)
    return done.stdout.decode().split("\f")[:-1]


def test_pdf_has_wide_pages_and_its_fonts(reported: tuple[Path, list[str]]) -> None:
    data = (reported[0] / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", data)) == len(TITLES)
    assert re.search(rb"/MediaBox \[ 0 0 959.976 540 \]", data)
    assert b"/FontFile2" in data


def test_pdf_and_slides_have_the_same_titles_in_order(
    shown: Any, reported: tuple[Path, list[str]]
) -> None:
    assert [slide.shapes.title.text_frame.text for slide in shown.slides] == TITLES
    texts = [one.text_frame.text for one in shown.slides[0].shapes if one.has_text_frame]
    assert {"Ada Lovelace", "Student ID R 12$34$"} <= set(texts)
    pages = pages_text(reported[0] / "report.pdf")
    for page, title in zip(pages, TITLES, strict=True):
        assert title in page
    assert "Student ID R 12$34$" in pages[0]


@pytest.mark.slow
def test_an_office_suite_shows_the_slides_with_all_their_text(
    shown: Any, reported: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """LibreOffice's own rendering has every word that the slides have."""
    office = shutil.which("soffice")
    if not office:
        pytest.skip("LibreOffice is not installed")
    where = [f"-env:UserInstallation=file://{tmp_path}/office", "--outdir", tmp_path]
    command = [office, "--headless", "--convert-to", "pdf", *where, reported[0] / "report.pptx"]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    pages = pages_text(tmp_path / "report.pdf")
    for page, slide in zip(pages, shown.slides, strict=True):
        words = {
            word
            for shape in slide.shapes
            if shape.has_text_frame
            for word in shape.text_frame.text.split()
        }
        assert not {word for word in words if word not in page}


def test_what_was_not_measured_is_left_out_and_said_with_its_command(
    shown: Any, reported: tuple[Path, list[str]]
) -> None:
    said = "\n".join(reported[1])
    for what in ("spectrograms", "voices", "robustness"):
        assert f"to add it: python app.py measure --what {what} && python app.py report" in said
    assert "singers.csv with the columns singer and sex" in said
    for slide in shown.slides:
        kinds = [shape.has_text_frame and shape.text_frame.text for shape in slide.shapes]
        assert "" not in [shape.text_frame.text for shape in slide.placeholders]
        assert len(kinds) > 3


@pytest.mark.usefixtures("cheap")
def test_what_was_measured_has_its_slides(build_run_data: Callable[..., RunData]) -> None:
    data = build_run_data(("Ada", "Bo", "Cem"), measured=True)
    slides, left_out = report.slides_of(data, Facts((), None, None, None), Author())
    titles = [slide.title for slide in slides]
    assert "Three seconds of each singer" in titles
    assert "Robustness" in titles
    assert all(isinstance(one, LeftOut) for one in left_out)
    assert not {"spectrograms of the singers", "robustness"} & {one.what for one in left_out}


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
    found = cells(shown.slides[ABLATION])
    assert found[0] == ["answers of", "split", "top-1", "top-3", "score", "macro F1"]
    rows = {(row[0], row[1].rstrip("*")): row for row in found[1:]}
    for table in run_data.predicted:
        fused = {"fused": table.probabilities, **table.experts}
        assert {name for name, split in rows if split == table.split} == set(fused)
        for name, probabilities in fused.items():
            summary = summarise(table.truth, np.log(probabilities))
            row = rows[name, table.split]
            expected = (summary.top_1, summary.top_3, summary.score, summary.macro_f1)
            assert [cell.split()[0] for cell in row[2:]] == [f"{one.value:.3f}" for one in expected]
            assert row[1].endswith("*") == (table.split == "validation")


def test_intervals_are_those_of_the_fusion(shown: Any, run_data: RunData) -> None:
    assert run_data.fusion
    rows = {row[0]: row for row in cells(shown.slides[ABLATION]) if row[1] == "validation*"}
    assert len(rows) == len(run_data.fusion.report.results)
    for one in run_data.fusion.report.results:
        found = (one.metrics.top_1, one.metrics.top_3, one.metrics.score, one.metrics.macro_f1)
        assert rows[one.expert][2:] == [with_interval(estimate) for estimate in found]


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
    build_run_data: Callable[..., RunData],
) -> None:
    predicted = build_run_data(("A", "B", "C")).predicted[0]
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
    build_run_data: Callable[..., RunData],
) -> None:
    numbers = numbers_of(build_run_data(("A", "B", "C"), experts=24))
    slide = ablation_slide(numbers, Facts((), None, None, None))
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


@pytest.mark.usefixtures("cheap")
def test_letters_without_a_font_are_told_once(
    answered: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slides = [Slide("Cover 前", "", (Column((Text("名"),)),), cover=True)]
    monkeypatch.setattr(report, "installed", lambda: [])
    monkeypatch.setattr(report, "slides_of", lambda *_: (slides, []))
    said: list[str] = []
    write_report(answered, Author("名"), folder=tmp_path, warn=said.append)
    assert len(said) == 1
    assert "no font on this machine has 2 of the letters" in said[0]
    from pptx import Presentation

    (first,) = Presentation(str(tmp_path / "report.pptx")).slides
    texts = [shape.text_frame.text for shape in first.shapes if shape.has_text_frame]
    assert {"Cover 前", "名"} <= set(texts)


def every_block() -> list[Slide]:
    """Slides with every kind of block."""
    tiles = Tiles((("top-1", "99.0%", "of 100 songs"),) * 3)
    rows = [("member/head", Estimate(0.9, 0.8, 1.0)), ("fused", Estimate(1, 1, 1))]
    counts = np.array([[3, 1], [0, 4]])
    charts = (
        Figure(lambda figure: draw_estimates(figure, rows, "right"), "shares"),
        Figure(lambda figure: draw_confusion(figure, counts, ("Ada", "名")), "matrix"),
    )
    table = Table(("singer", "songs"), (("Ada", "1"), ("Bo", "2")), (1,), (0,))
    blocks = (Text("A paragraph − with α"), Bullets(("one", "two")), table)
    return [
        Slide("Cover", "message", (Column((Text("name"),)),), cover=True),
        Slide("Title", "message", (Column((tiles, *blocks)), Column(charts)), "note"),
    ]


def write_both(folder: Path) -> None:
    """The slides of `every_block` in both formats."""
    pages = [arrange(slide, number) for number, slide in enumerate(every_block(), 1)]
    write_pdf(folder / "report.pdf", pages, "title")
    write_pptx(folder / "report.pptx", pages, "title")


def test_the_same_slides_give_the_same_bytes_under_any_hash(tmp_path: Path) -> None:
    """Written here and in another process, whose strings have other hashes, elsewhere."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    write_both(here)
    program = (
        "import sys, importlib.util; from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"spec = importlib.util.spec_from_file_location('again', {__file__!r})\n"
        "again = importlib.util.module_from_spec(spec); spec.loader.exec_module(again)\n"
        "again.write_both(Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Taipei"}
    subprocess.run([sys.executable, "-c", program, there], check=True, env=environment)
    for file in ("report.pdf", "report.pptx"):
        assert (here / file).read_bytes() == (there / file).read_bytes()


def test_what_goes_wrong_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(b"old")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    (page,) = [arrange(every_block()[0], 1)]
    page[0].flowable.drawOn = broken
    with pytest.raises(OSError, match="disk full"):
        write_pdf(path, [page], "title")
    with pytest.raises(AttributeError):
        write_pptx(tmp_path / "report.pptx", [[None]], "title")  # type: ignore[list-item]
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("report.pdf", b"old")]
