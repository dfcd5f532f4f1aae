"""Nothing is half-written, no file is taken for what it is not, and fingerprints tell apart."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedder.artifact import (
    DISK_FULL,
    Artifact,
    file_fingerprint,
    fingerprint,
    read_json,
    replacing,
    write_json,
    write_text,
)
from embedder.errors import Command, UserError


def test_a_failure_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old\n")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            assert path.read_text(encoding="utf-8") == "old\n"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    write_text(path, "new\n")
    assert path.read_text(encoding="utf-8") == "new\n"


def test_the_temporary_file_keeps_the_suffix_and_is_hidden(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.npz") as temporary:  # numpy appends a suffix that is not there
        assert temporary.suffix == ".npz"
        assert temporary.name.startswith(".")
        assert temporary.parent == tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_artifacts_are_as_readable_as_the_umask_allows(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from embedder.artifact import write_text; "
        "write_text(pathlib.Path(sys.argv[1]), '')"
    )
    modes = []
    for umask in (0o027, 0o002):
        path = tmp_path / f"{umask}"
        command = [sys.executable, "-c", program, str(path)]
        subprocess.run(command, check=True, umask=umask, cwd=Path(__file__).parents[2])
        modes.append(stat.S_IMODE(path.stat().st_mode))
    assert modes == [0o640, 0o664]


def test_text_has_newlines_on_every_system_and_json_keeps_names(tmp_path: Path) -> None:
    write_text(tmp_path / "t", "a\nü\n")
    assert (tmp_path / "t").read_bytes() == b"a\n\xc3\xbc\n"
    value = {"singer": "初音ミク", "x": [1, 2.5, None]}
    write_json(tmp_path / "j", value)
    assert "初音ミク" in (tmp_path / "j").read_text(encoding="utf-8")
    assert read_json(tmp_path / "j") == value == json.loads((tmp_path / "j").read_bytes())


def test_json_that_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.json is missing"):
        read_json(tmp_path / "x.json")
    for content in (b"{", b"\xff\xfe"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.json is not (JSON|UTF-8)"):
            read_json(tmp_path / "x.json")


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_fingerprints_are_equal_only_for_equal_parts(first: list[str], second: list[str]) -> None:
    assert (fingerprint(*first) == fingerprint(*second)) == (first == second)


def test_fingerprints_frame_their_parts_by_length(tmp_path: Path) -> None:
    framed = b"".join(len(p).to_bytes(8, "little") + p for p in (b"ab", "é".encode()))
    expected = hashlib.sha256(framed).hexdigest()[:16]
    assert fingerprint("ab", "é") == fingerprint(b"ab", "é".encode()) == expected
    data = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(data)
    assert file_fingerprint(tmp_path / "f") == hashlib.sha256(data).hexdigest()[:16]


def test_a_file_is_on_the_disk_before_its_name_and_then_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[int, bool]] = []  # inode, and whether the name was there

    def flush(handle: int) -> None:
        flushed.append((os.fstat(handle).st_ino, (tmp_path / "a.json").exists()))

    monkeypatch.setattr(os, "fsync", flush)
    write_json(tmp_path / "a.json", {})
    file, folder = (path.stat().st_ino for path in (tmp_path / "a.json", tmp_path))
    assert flushed == [(file, False), *([(folder, True)] if os.name != "nt" else [])]


def test_where_folders_cannot_be_flushed_files_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path.stat().st_ino

    def flush(handle: int) -> None:
        if os.fstat(handle).st_ino == folder:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", flush)
    write_json(tmp_path / "a.json", {})
    assert read_json(tmp_path / "a.json") == {}


def _torch(path: Path, values: Any) -> None:
    import torch

    torch.save({"values": torch.from_numpy(values)}, path)


def _safetensors(path: Path, values: Any) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"values": torch.from_numpy(values)}, path)


def _npz(path: Path, values: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, values=values)


def _npy(path: Path, values: Any) -> None:
    with path.open("wb") as file:
        np.save(file, values)


def _audio(path: Path, values: Any) -> None:
    import soundfile

    soundfile.write(path, values / 10, 16000, subtype="PCM_16")


WRITERS = {
    "x.txt": lambda path, values: path.write_text(str(values.tolist())),
    "x.npy": _npy,
    "x.npz": _npz,
    "x.pt": _torch,
    "x.safetensors": _safetensors,
    "x.wav": _audio,
    "x.flac": _audio,
}


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 60,000 bytes: what a full disk says, but for its number."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("name", WRITERS)
def test_where_there_is_no_room_the_error_names_the_file_and_the_old_one_stays(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"old")
    values = np.random.default_rng(0).standard_normal(100_000)
    with (
        pytest.raises(OSError, match=r"No space left on device|File too large") as caught,
        replacing(tmp_path / name) as temporary,
    ):
        WRITERS[name](temporary, values)
    assert caught.value.errno in DISK_FULL
    assert caught.value.filename == str(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"old"


def test_other_errors_pass_through_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a defect"), replacing(tmp_path / "x"):
        raise ValueError("a defect")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x"):
        (tmp_path / "none").read_bytes()


@dataclass(frozen=True)
class Inner:
    weights: NDArray[np.float64]
    bias: float


@dataclass(frozen=True)
class Table:
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    probes: dict[str, Inner]
    made_from: dict[str, str]
    optional: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if len(self.names) != len(self.labels):
            raise ValueError(f"{len(self.names)} names for {len(self.labels)} labels")


@dataclass(frozen=True)
class Note:
    text: str
    number: float = 0.0
    pairs: tuple[tuple[str, int], ...] = ()


AGAIN = Command("fuse", before="run again")
TABLE = Artifact("table", 2, Table, AGAIN)
NOTE = Artifact("note", 2, Note, AGAIN)


def test_arrays_and_the_rest_come_back_from_an_npz(tmp_path: Path) -> None:
    inner = Inner(np.arange(6.0).reshape(2, 3), -0.5)
    table = Table(("a", "初音"), np.array([3, 4]), {"x.y-z": inner}, {"checkpoint": "12ab"})
    TABLE.write(tmp_path / "t.npz", table)
    first = (tmp_path / "t.npz").read_bytes()
    found = TABLE.read(tmp_path / "t.npz")
    assert (found.names, found.made_from, found.optional) == (table.names, table.made_from, None)
    assert isinstance(found.probes["x.y-z"], Inner)
    np.testing.assert_array_equal(found.labels, table.labels)
    np.testing.assert_array_equal(found.probes["x.y-z"].weights, inner.weights)
    TABLE.write(tmp_path / "t.npz", found)
    assert (tmp_path / "t.npz").read_bytes() == first
    with pytest.raises(ValueError, match="cannot hold the arrays labels"):
        TABLE.write(tmp_path / "t.json", table)


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers()))
def test_json_comes_back_as_it_was(text: str, number: float, numbers: list[int]) -> None:
    note = Note(text, number, tuple((str(one), one) for one in numbers))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "n.json")
        NOTE.write(path, note)
        assert NOTE.read(path) == note
        assert json.loads(path.read_text(encoding="utf-8"))["kind"] == "note"


def test_a_number_that_is_not_finite_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        NOTE.write(tmp_path / "n.json", Note("", float("nan")))
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "n.json", {"format": 2, "text": "", "number": float("inf")})
    with pytest.raises(UserError, match=r"not a readable note .number: .*finite"):
        NOTE.read(tmp_path / "n.json")


def test_a_kind_of_file_may_hold_numbers_that_are_not_finite(tmp_path: Path) -> None:
    kind = Artifact("note", 2, Note, AGAIN, finite=False)
    kind.write(tmp_path / "n.json", Note("", float("inf")))
    assert kind.read(tmp_path / "n.json").number == float("inf")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 2, "text": "as before kinds were written"}', ""),
        (
            b'{"kind": "note", "format": 1, "text": ""}',
            "note of format 1, this program reads format 2; ",
        ),
        (b'{"kind": "note", "format": 3, "text": ""}', "format 3, .*; use the newer program that"),
        (b'{"kind": "table", "format": 2}', r"n\.json is a table, not a note"),
        (b'{"kind": "note", "format": 2}', r"not a readable note \(text is missing\)"),
        (b'{"kind": "note", "format": 2, "text": 1}', r"not a readable note \(text: .*string"),
        (b'{"kind": "note", "format": "2", "text": ""}', "note of format 2, this program reads"),
        (b'{"kind": "note", "format": 2, "text": "", "x": 1}', r"note \(x is unknown\)"),
        (b'{"text": ""}', "note of format unknown"),
        (b"[1, 2]", r"not a readable note \(it holds no header\)"),
        (b"{", r"not a readable note \("),
        (b"\xff\xfe", r"n\.json is not UTF-8 text in line 1"),
        (None, r"n\.json is missing"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_with_the_command(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "n.json").write_bytes(content)
    if not message:
        assert NOTE.read(tmp_path / "n.json").text.startswith("as before")
        return
    for again in (None, Command("predict", test_dir="X")):
        with pytest.raises(UserError, match=message) as caught:
            NOTE.read(tmp_path / "n.json", again)
        assert str(caught.value).endswith(str(again or AGAIN))


@pytest.mark.parametrize("damage", ["cut", "text", "json", "other arrays", "no head", "pickle"])
def test_a_damaged_npz_is_one_line_with_the_command(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    TABLE.write(path, Table(("a",), np.array([1]), {}, {}))
    with np.load(path) as file:
        held = dict(file)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "text":
        path.write_text("no", encoding="utf-8")
    elif damage == "json":
        np.savez(path, **{**held, "head": np.frombuffer(b"{]", np.uint8)})
    elif damage == "other arrays":
        np.savez(path, **{**held, "labels": np.array([1, 2])})
    elif damage == "no head":
        np.savez(path, labels=held["labels"])
    else:
        np.savez(path, **{**held, "labels": np.array([{}], dtype=object)})
    with pytest.raises(UserError, match=rf"t\.npz is not a readable table \(.*{AGAIN}$"):
        TABLE.read(path)


@given(st.integers(0, 10**6), st.binary(max_size=8), st.booleans())
def test_bytes_that_were_changed_end_in_no_traceback(place: int, put: bytes, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.npz")
        TABLE.write(path, Table(("a",), np.array([1]), {"m": Inner(np.ones((1, 2)), 0)}, {}))
        data = path.read_bytes()
        place %= len(data)
        path.write_bytes(data[:place] + put + (b"" if cut else data[place + len(put) :]))
        with suppress(UserError):
            TABLE.read(path)


def test_json_that_is_nested_too_deep_is_not_readable(tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(UserError, match=r"n\.json is not JSON"):
        read_json(tmp_path / "n.json")
    with pytest.raises(UserError, match="not a readable note"):
        NOTE.read(tmp_path / "n.json")
