"""Rows on disk: what comes back, what is refused, and what is old."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from embedder.catalogue import Song
from embedder.errors import UserError
from embedder.measures.records import (
    COLUMNS,
    VOICES_FILE,
    VoiceRow,
    fresh_rows,
    made_from,
    read_rows,
    write_rows,
)
from embedder.run import Run

SONG = Song("A/x/1.mp3", "/a", "A", "x", "1", "train", 30.0, "mixkey", "vocalkey", "backkey")
ROW = VoiceRow(
    "A/x/1, the \"first\".mp3", "vocals", 20.0, 0.9, (100.0, 110.0, 123.4, 150.0, 200.0),
    1500.0, -40.5, -6.25, tuple(float(one) for one in range(12)), "origin",
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_rows_come_back(run: Run) -> None:
    silent = VoiceRow("B/y/2.mp3", "mix", 5.0, 0.0, made_from="other")
    path = write_rows(run, [ROW, silent])
    assert path == run.measure(VOICES_FILE)
    found = read_rows(run)
    assert list(found) == [ROW.id, silent.id]
    assert found[ROW.id] == ROW
    back = found[silent.id]
    assert (back.stem, back.voiced, back.made_from) == ("mix", 0.0, "other")
    assert all(math.isnan(one) for one in (*back.f0, back.tilt_db, *back.mfcc))
    head = path.read_text(encoding="utf-8").splitlines()[0]
    assert head == ",".join(COLUMNS)
    assert "f0_5,f0_25,f0_50,f0_75,f0_95" in head


def test_nothing_measured_is_no_rows(run: Run) -> None:
    assert read_rows(run) == {}


@pytest.mark.parametrize(
    "text", ["", "id,stem\n", ",".join(COLUMNS) + "\na,b\n", ",".join(COLUMNS) + "\n" + "a," * 22]
)
def test_another_file_is_refused(run: Run, text: str) -> None:
    run.measure(VOICES_FILE).parent.mkdir()
    run.measure(VOICES_FILE).write_text(text)
    with pytest.raises(UserError, match=r"no csv of voices .* measure --what voices"):
        read_rows(run)


def test_a_row_is_old_when_what_it_was_made_from_has_changed() -> None:
    row = VoiceRow(SONG.id, "vocals", 20.0, 1.0, made_from=made_from(SONG, "ear"))
    rows = {SONG.id: row}
    assert fresh_rows([SONG], rows, "ear") == [row]
    assert fresh_rows([SONG], rows, "another ear") == [row]  # a stem needs no detector
    assert fresh_rows([replace(SONG, vocals="changed")], rows, "ear") == []
    assert fresh_rows([replace(SONG, vocals="")], rows, "ear") == []
    assert fresh_rows([replace(SONG, id="other")], rows, "ear") == []
    bare = replace(SONG, vocals="")
    rows = {SONG.id: replace(row, made_from=made_from(bare, "ear"))}
    assert len(fresh_rows([bare], rows, "ear")) == 1
    assert fresh_rows([bare], rows, "another ear") == []
    assert fresh_rows([replace(bare, audio="changed")], rows, "ear") == []
