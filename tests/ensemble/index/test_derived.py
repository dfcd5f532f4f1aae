"""Derived files: used while they fit what they were made from, built anew in every other case."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.artifacts import vectors_of
from ensemble.index import derived as module
from ensemble.index.derived import derived_vectors, forget_others
from ensemble.index.vectors import build_vectors, write_vectors

Rows = NDArray[np.float32]


def rows(seed: int, count: int = 60) -> Rows:
    drawn = np.random.default_rng(seed).normal(size=(count, 8))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def never() -> Rows:
    raise AssertionError("built, though the file fits")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file made from `rows(0)` and stamped "new"."""
    path = tmp_path / "fusión" / "m.segments.faiss"
    _, made = derived_vectors(path, "new", "flat", lambda: rows(0))
    np.testing.assert_array_equal(made, rows(0))
    return path


def test_a_file_that_fits_is_read_and_left_alone(path: Path) -> None:
    before = path.stat()
    found, made = derived_vectors(path, "new", "flat", never)
    assert made is None
    np.testing.assert_array_equal(found.index.reconstruct_n(0, 60), rows(0))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_what_was_built_is_searched_from_its_file(kind: str, tmp_path: Path) -> None:
    found, _ = derived_vectors(tmp_path / "a.faiss", "s", kind, lambda: rows(0))
    stored = found.index if kind == "flat" else faiss.downcast_index(found.index.storage)
    assert not stored.codes.is_owned  # memory-mapped


def flipped(place: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    return flip


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def inserted(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:500] + b"\0" * 32 + data[500:])


def another_s(path: Path) -> None:
    """A file of other vectors takes its place: of another member, level, table or time."""
    derived_vectors(path.with_name("other"), "old", "flat", lambda: rows(1))
    path.with_name("other").replace(path)


def another_s_body(path: Path) -> None:
    """Another index of the same size, under this file's footer."""
    write_vectors(path.with_name("other"), build_vectors(rows(1)))
    body = path.with_name("other").read_bytes()
    path.write_bytes(body + path.read_bytes()[len(body) :])


def faiss_own(path: Path) -> None:
    write_vectors(path, build_vectors(rows(1)))


def foreign(path: Path) -> None:
    path.write_bytes(b"singerix" * 1000)


def gone(path: Path) -> None:
    path.unlink()


def in_a_folder_s_place(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    "spoil",
    [
        cut, half, empty, longer, inserted, another_s, another_s_body, faiss_own, foreign, gone,
        in_a_folder_s_place, flipped(0), flipped(700), flipped(-1), flipped(-20), flipped(-120),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_built_anew(path: Path, spoil: Callable[[Path], None]) -> None:
    whole = path.read_bytes()
    spoil(path)
    found, made = derived_vectors(path, "new", "flat", lambda: rows(0))
    assert made is not None
    np.testing.assert_array_equal(found.index.reconstruct_n(0, 60), rows(0))
    assert path.read_bytes() == whole


def test_the_sample_reaches_all_over_a_large_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    monkeypatch.setattr(module, "SAMPLES", 4)
    made = derived_vectors(path, "large", "flat", lambda: rows(0, count=3000))[1]
    assert made is not None
    whole = path.read_bytes()
    body = len(whole) - len(whole.rpartition(b'{"stamp"')[2]) - len(b'{"stamp"')
    noticed = []
    for place in (0, body // 3 + 2, 2 * body // 3 + 2, body - 1, body // 2):
        path.write_bytes(whole)
        flipped(place)(path)
        noticed.append(not module._fits(path, "large"))
    assert noticed == [True, True, True, True, False]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found, made = derived_vectors(tmp_path / "file" / "m.faiss", "s", "flat", lambda: rows(0))
    assert made is not None
    np.testing.assert_array_equal(found.index.reconstruct_n(0, 60), rows(0))


def test_what_cannot_be_built_leaves_the_old_file(path: Path) -> None:
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="ivfpq needs at least"):
        derived_vectors(path, "newer", "ivfpq", lambda: rows(0))
    assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_files_of_members_that_left_are_taken_away(tmp_path: Path) -> None:
    table = tmp_path / "index.sqlite"
    kept = [table, tmp_path / "fusion.json", tmp_path / "a.onnx", tmp_path / "old.faiss"]
    kept += [vectors_of(table, "a.b", level) for level in ("songs", "segments")]
    left = [vectors_of(table, name, "songs") for name in ("a", "b")]
    left.append(vectors_of(table, "a", "segments"))
    for file in kept + left:
        file.write_bytes(b"")
    forget_others(table, ["a.b"])
    assert sorted(tmp_path.iterdir()) == sorted(kept)
