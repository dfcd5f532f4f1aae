"""Names in several forms, text files of several kinds, and csv that comes back as it was."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.errors import UserError
from embedder.text import (
    files_alike,
    inert,
    name_problem,
    plain,
    read_csv,
    read_text,
    spelled_alike,
    to_csv,
)

CELLS = st.text(st.one_of(st.sampled_from("'=+-@\t\r,\"\n 01e.a"), st.characters(codec="utf-8")))


@given(CELLS)
def test_an_inert_cell_comes_back_as_it_was(cell: str) -> None:
    assert plain(inert(cell)) == cell


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_csv_on_disk_comes_back_as_it_was(tmp_path: Path, mark: bytes) -> None:
    rows = [
        ["ordinary", "'Til Tuesday", 'a, "b"', "Sigur R\u00f3s", " space "],
        ["=1+1", "+44", "-M-", "@x", "\tx", "\rx", "'=x", "''-x", "-1.5", "-2e-05", "one\ntwo"],
    ]
    path = tmp_path / "x.csv"
    path.write_bytes(mark + to_csv(rows).encode())
    assert [cells for _, cells in read_csv(path)] == rows


def test_no_cell_is_a_formula_and_ordinary_ones_stay_as_they_are() -> None:
    odd = ["=1+1", "+44", "-M-", "@x", "\tx", "\rx"]
    assert [cell[0] for cell in map(inert, odd)] == ["'"] * len(odd)
    for cell in ("a", "a=b", "0001", "-1.5", "'Til", "", "\u2212"):
        assert inert(cell) == cell
    assert to_csv([["a", 1, -0.5, "-0.5", "-M-"]]) == "a,1,-0.5,-0.5,'-M-\n"


def test_spaces_before_quotes_are_skipped_where_that_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('1, "a"\n', encoding="utf-8")
    assert read_csv(path, skip_spaces=True) == [(1, ["1", "a"])]
    path.write_text('1,a\n2,"b', encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.csv, line 2: "):
        read_csv(path)


@pytest.mark.parametrize(
    ("data", "line"), [("1\n2\n".encode("utf-16"), 1), (b"1,a\n2,Bj\xf6rk\n", 2)]
)
def test_what_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, data: bytes, line: int) -> None:
    (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(UserError, match=rf"x\.txt is not UTF-8 text in line {line}"):
        read_text(tmp_path / "x.txt")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(codecs.BOM_UTF8 + b"a\r\n")
    assert read_text(tmp_path / "x.txt") == "a\r\n"


@pytest.mark.parametrize("name", ["", " ", "\u3000", "a/b", "a\nb", "a\x85", "a\u2028", "\udcff"])
def test_names_that_nobody_can_bear(name: str) -> None:
    assert name_problem(name)


@pytest.mark.parametrize("name", ["a", " a", "=x", "..", "\u200d", "\U0001f3a4", "e\u0301"])
def test_names_that_anybody_can_bear(name: str) -> None:
    assert name_problem(name) == ""


def test_names_that_hardly_differ_are_grouped_and_nothing_is_merged() -> None:
    names = ["Abba", "ABBA", "abba ", "\uff21BBA", "other", "Stra\u00dfe", "STRASSE", "ABBA"]
    assert spelled_alike(names) == [
        ("ABBA", "Abba", "abba ", "\uff21BBA"),
        ("STRASSE", "Stra\u00dfe"),
    ]
    assert spelled_alike(["a", "b", "a"]) == []


def test_files_are_found_in_whatever_form_the_disk_has(tmp_path: Path) -> None:
    taken_apart = tmp_path / "Beyonce\u0301" / "B\u00e9" / "e\u0301.wav"
    other = tmp_path / "Beyonc\u00e9" / "x.wav"
    for file in (taken_apart, other):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    assert list(files_alike(tmp_path, "Beyonc\u00e9/Be\u0301/\u00e9.wav")) == [taken_apart]
    assert list(files_alike(tmp_path, "Beyonce\u0301/x.wav")) == [other]
    assert list(files_alike(tmp_path, "Beyonce\u0301")) == []
    assert list(files_alike(tmp_path, "\u00e9" * 300 + "/x")) == []
