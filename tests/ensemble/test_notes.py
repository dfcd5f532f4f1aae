"""What stands beside a prediction, and when nothing does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ensemble.notes import notes_on, write_notes


def test_only_answers_with_something_to_be_known_have_notes() -> None:
    names = ["a", "b", "c", "d"]
    silent = [(), ("vox",), ("vox", "low"), ()]
    found = notes_on(names, silent, np.array([False, False, True, True]), 3)
    alone = "no voice was found: heard as a whole"
    assert found == {
        "b": ["answered by 2 of 3 members: no vocals for vox"],
        "c": ["answered by 1 of 3 members: no vocals for vox and low", alone],
        "d": [alone],
    }
    assert notes_on(names, [()] * 4, np.zeros(4, bool), 3) == {}


def test_notes_are_written_by_id_and_go_when_there_are_none(tmp_path: Path) -> None:
    output = tmp_path / "new" / "p.json"
    path = write_notes(output, {"x, y": ["one"], "0010": ["two", "three"], "9": ["four"]})
    assert path == tmp_path / "new" / "p.json.notes.csv"
    assert path.read_bytes() == b'ID,note\n9,four\n10,two\n10,three\n"x, y",one\n'
    assert write_notes(output, {"a": []}) is None
    assert not path.exists()
    assert write_notes(output, {}) is None
