"""What a csv says of the singers: read as written, refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.singer_facts import SingerFacts, read_singer_facts, with_ranges
from embedder.errors import UserError

SINGERS = ("Ada", "Ben & Co", "Cem")


def write(folder: Path, text: str) -> Path:
    path = folder / "singers.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_become_facts(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "\ufeffsinger, sex, low_hz, high_hz\nBen & Co,male,98,392.5\n\nAda , female,,\nZoe,x,5,3\n",
    )
    assert read_singer_facts(path, SINGERS) == {
        "Ben & Co": SingerFacts("male", 98.0, 392.5),
        "Ada": SingerFacts("female"),
    }


def test_columns_may_be_missing_and_come_in_any_order(tmp_path: Path) -> None:
    path = write(tmp_path, "low_hz,high_hz,singer\n100,200,Cem\n")
    assert read_singer_facts(path, SINGERS) == {"Cem": SingerFacts("", 100.0, 200.0)}
    assert read_singer_facts(write(tmp_path, "singer\nAda\n"), SINGERS) == {"Ada": SingerFacts()}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has the columns nothing; legal are singer, sex, low_hz, high_hz"),
        ("name,sex\nAda,f\n", "has the columns name, sex; legal are singer"),
        ("singer,sex,sex\nAda,f,f\n", "has the columns singer, sex, sex"),
        ("singer,sex\nAda,f\nAda,f\n", "line 3: a second row of Ada"),
        ("singer,sex\nAda,f,1\n", "line 2: more fields than columns"),
        ("singer,sex\nZoe,f\n", "names none of the run's singers; one is Ada"),
        (
            "singer,low_hz,high_hz\nAda,high,9\n",
            "low_hz < high_hz, both numbers within 20 and 5000",
        ),
        ("singer,low_hz,high_hz\nAda,300,200\n", "not '300' and '200'"),
        ("singer,low_hz,high_hz\nAda,,200\n", "not '' and '200'"),
        ("singer,low_hz,high_hz\nAda,100,9000\n", "line 2: a vocal range is"),
        ("singer,low_hz,high_hz\nAda,nan,200\n", "not 'nan' and '200'"),
    ],
)
def test_what_is_no_such_table_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"singers\.csv") as caught:
        read_singer_facts(write(tmp_path, text), SINGERS)
    assert problem in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv is missing; it is a csv of singer, sex"):
        read_singer_facts(tmp_path / "none.csv", SINGERS)
    with pytest.raises(UserError, match="cannot be read"):
        read_singer_facts(tmp_path, SINGERS)
    (tmp_path / "bytes.csv").write_bytes(b"singer\n\xff\xfe\n")
    with pytest.raises(UserError, match="is not UTF-8 text in line 2"):
        read_singer_facts(tmp_path / "bytes.csv", SINGERS)


def test_measured_ranges_fill_in_what_no_csv_gives() -> None:
    facts = {"Ada": SingerFacts("f", 200.0, 800.0), "Ben": SingerFacts("m"), "Cem": SingerFacts()}
    ranges = {"Ada": (190.0, 700.0), "Ben": (90.0, 300.0), "Eve": (210.0, 600.0)}
    assert with_ranges(facts, ranges) == {
        "Ada": SingerFacts("f", 200.0, 800.0),
        "Ben": SingerFacts("m", 90.0, 300.0, measured=True),
        "Cem": SingerFacts(),
        "Eve": SingerFacts("", 210.0, 600.0, measured=True),
    }
    assert facts["Ben"] == SingerFacts("m")


def test_names_may_be_in_another_unicode_form_or_quoted_after_a_space(tmp_path: Path) -> None:
    path = write(tmp_path, 'singer,sex\nBeyonce\u0301, "female"\n')
    for singer in ("Beyonc\u00e9", "Beyonce\u0301"):
        assert read_singer_facts(path, [singer]) == {singer: SingerFacts("female")}
