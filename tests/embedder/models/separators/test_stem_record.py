"""What is known about a run's stems, for as long as it is true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedder.artifact import read_json, write_json
from embedder.catalogue import Catalogue, Song
from embedder.errors import UserError
from embedder.models.separators.stem_record import StemRecord, read_record, write_record
from embedder.run import Run

SONGS = (
    Song("a/A/1.wav", "", "a", "A", "1", "train", vocals="v1", backing="b1"),
    Song("b/B/2.wav", "", "b", "B", "2", "validation"),
)
RECORD = StemRecord("umx", "0123", "/x", {"a/A/1.wav": ["v1", "b1"], "b/B/2.wav": ["", ""]})


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert read_record(run, Catalogue(SONGS)) is None
    write_record(run, RECORD)
    assert read_record(run, Catalogue(SONGS)) == RECORD


@pytest.mark.parametrize(
    "songs",
    [
        SONGS[:1],
        (*SONGS, replace(SONGS[0], id="c/C/3.wav")),
        (replace(SONGS[0], vocals="other"), SONGS[1]),
        (replace(SONGS[0], backing=""), SONGS[1]),
    ],
)
def test_stems_from_elsewhere_have_no_record(songs: tuple[Song, ...], tmp_path: Path) -> None:
    write_record(Run(tmp_path), RECORD)
    assert read_record(Run(tmp_path), Catalogue(songs)) is None


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write_record(run, RECORD)
    whole = read_json(run.stems)
    for broken in (whole | {"format": 99}, whole | {"more": 1}, {"format": 1}, {}, [whole]):
        write_json(run.stems, broken)
        with pytest.raises(UserError, match=r"stems\.json is .* run again: .* separate "):
            read_record(run, Catalogue(SONGS))
    run.stems.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"stems\.json is not a readable record"):
        read_record(run, Catalogue(SONGS))


def test_a_record_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot write .*stems\.json"):
        write_record(Run(tmp_path / "file"), RECORD)
