"""Commands as text, names that were probably meant, and messages of one line."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from embedder import errors
from embedder.errors import Command, UserError, did_you_mean, working_in


def test_a_command_names_the_run_folder_that_is_worked_in() -> None:
    again = Command("fuse", before="run again")
    assert str(again) == "run again: python app.py fuse"
    with working_in(Path("a  b's")):
        with working_in(Path("inner")):
            assert str(again).endswith("fuse --run_dir inner")
        assert shlex.split(str(again).partition(": ")[2])[-2:] == ["--run_dir", "a  b's"]
        assert "--run_dir" not in str(Command("architectures"))
        assert "--run_dir" not in str(Command("predict", bundle="x.zip", test_dir="SONGS"))
        assert "--run_dir" not in str(Command("evaluate", run_dir=None))
    assert f"{again}".endswith("fuse")


def test_options_as_they_are_typed() -> None:
    made = Command(
        "train-embedder", name="a b", overwrite=True, init=None, segment_s=5.0, set=("lr=1", "x=y")
    )
    assert str(made) == (
        "python app.py train-embedder --name 'a b' --overwrite --segment_s 5 --set lr=1 --set x=y"
    )


def test_windows_has_quotes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Command("fuse", run_dir="C:\\my runs")  # before the system changes under pathlib
    monkeypatch.setattr(errors.os, "name", "nt")
    monkeypatch.setattr(errors, "Path", str)
    assert str(made) == 'python app.py fuse --run_dir "C:\\my runs"'


def test_a_message_is_one_line_and_paths_in_it_stay() -> None:
    assert str(UserError("torch says:\n  no\r\n\tway  in 'a  b'\u2028x")) == (
        "torch says: no way  in 'a  b' x"
    )


@pytest.mark.parametrize(
    ("word", "meant"),
    [("epoch", "epochs"), ("EPOCHS", "epochs"), ("aimee man", "Aimee Mann"), ("zzz", ""), ("", "")],
)
def test_the_nearest_name_is_the_one_that_was_meant(word: str, meant: str) -> None:
    assert did_you_mean(word, ["epochs", "lr", "Aimee Mann"]) == (
        f" (did you mean {meant}?)" if meant else ""
    )
