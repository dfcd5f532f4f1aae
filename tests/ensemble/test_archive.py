"""The same files give the same bytes, and what is not as it was packed is refused."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedder.errors import UserError
from ensemble.archive import FORMAT, MANIFEST, filling, opened, read_manifest, write_manifest

FILES = {"b.txt": b"second", "a/deep/x.bin": bytes(range(256)) * 300, "a/é.txt": "é".encode()}


def make(output: Path, files: dict[str, bytes] = FILES, overwrite: bool = False) -> Path:
    with filling(output, overwrite) as folder:
        for name, data in reversed(files.items()):  # the order of writing says nothing
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            os.utime(folder / name, (1, hash(output) % 10**9))
        write_manifest(folder, {"who": "tests"})
    return output


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(params=["bundle", "bundle.zip"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(tmp_path / "there" / request.param)


def test_what_is_packed_comes_out_again(archive: Path) -> None:
    with opened(archive) as folder:
        found = contents(folder)
        manifest = read_manifest(folder)
        assert json.loads(found.pop(MANIFEST)) == manifest
        assert found == FILES
        unpacked = folder
    assert manifest == {
        "format": FORMAT,
        "who": "tests",
        "files": {n: hashlib.sha256(d).hexdigest() for n, d in sorted(FILES.items())},
    }
    assert unpacked.exists() == archive.is_dir()  # what was unpacked is taken away
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1" / "a.zip"), make(tmp_path / "2" / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as file:
        entries = file.infolist()
    assert [entry.filename for entry in entries] == sorted([*FILES, MANIFEST])
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.create_system for entry in entries} == {3}
    assert {entry.external_attr >> 16 for entry in entries} == {stat.S_IFREG | 0o644}
    assert contents(make(tmp_path / "3" / "c")) == contents(make(tmp_path / "4" / "d"))
    more = make(tmp_path / "5" / "a.zip", FILES | {"b.txt": b"Second"})
    assert more.read_bytes() != first.read_bytes()


def test_nothing_is_replaced_unless_it_is_asked_for_and_ours(archive: Path, tmp_path: Path) -> None:
    before = contents(archive) if archive.is_dir() else archive.read_bytes()
    with pytest.raises(UserError, match=r"is there already; --overwrite replaces a bundle$"):
        make(archive)
    assert (contents(archive) if archive.is_dir() else archive.read_bytes()) == before
    make(archive, {"only.txt": b"new"}, overwrite=True)
    with opened(archive) as folder:
        assert set(contents(folder)) == {"only.txt", MANIFEST}
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("one", encoding="utf-8")
    (tmp_path / "thesis.zip").write_bytes(b"chapter one")
    for path in (foreign, tmp_path / "thesis.zip", foreign / "chapter.txt"):
        with pytest.raises(UserError, match=r"is there already and is no bundle; choose another"):
            make(path, overwrite=True)
    assert (foreign / "chapter.txt").read_text(encoding="utf-8") == "one"
    (tmp_path / "x.zip").mkdir()
    with pytest.raises(UserError, match=r"is a folder; a name in \.zip must be a file"):
        make(tmp_path / "x.zip")
    (tmp_path / "empty").mkdir()
    assert set(contents(make(tmp_path / "empty"))) == {*FILES, MANIFEST}


@pytest.mark.parametrize("name", ["new", "new.zip"])
def test_a_packing_that_fails_leaves_nothing(name: str, tmp_path: Path) -> None:
    def fail() -> None:
        with filling(tmp_path / name, False) as folder:
            (folder / "half.txt").write_text("half", encoding="utf-8")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


def rezip(path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Path:
    """The same zip with other contents."""
    with zipfile.ZipFile(path) as file:
        found = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, data in change(found).items():
            file.writestr(name, data)
    return path


def manifest_with(**changes: Any) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def change(found: dict[str, bytes]) -> dict[str, bytes]:
        return found | {MANIFEST: json.dumps(json.loads(found[MANIFEST]) | changes).encode()}

    return change


DAMAGES: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "changed": (lambda f: f | {"b.txt": b"Second"}, r"b\.txt in .* is not what was packed; pack"),
    "missing": (lambda f: {n: d for n, d in f.items() if n != "b.txt"}, r"lacks b\.txt; pack it"),
    "no manifest": (lambda f: {n: d for n, d in f.items() if n != MANIFEST}, r"holds no bundle\."),
    "no list": (lambda f: f | {MANIFEST: b"[]"}, r"its bundle\.json lists no files; pack it"),
    "no JSON": (lambda f: f | {MANIFEST: b"{"}, r"bundle\.json is not JSON"),
    "format": (manifest_with(format=FORMAT + 1), rf"of format {FORMAT + 1}, this program reads"),
    "slip": (manifest_with(files={"../b.txt": "0"}), r"lists '\.\./b\.txt', which no bundle"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_as_it_was_packed_is_refused(archive: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    if archive.is_dir():
        found = change(contents(archive))
        for name in contents(archive):
            (archive / name).unlink()
        for name, data in found.items():
            (archive / name).write_bytes(data)
    else:
        rezip(archive, change)
    with pytest.raises(UserError, match=message), opened(archive):
        pass


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:\\evil.txt", "..\\evil.txt"]
)
def test_a_zip_that_leads_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    path = rezip(make(tmp_path / "a.zip"), lambda found: found | {name: b"evil"})
    with pytest.raises(UserError, match=r"holds '.*evil\.txt', which no bundle"), opened(path):
        pass
    assert not list(tmp_path.parent.glob("evil*"))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="holds 'link', which no bundle of ours does"), opened(path):
        pass


def test_other_files_beside_do_not_matter(archive: Path) -> None:
    if archive.is_dir():
        (archive / "a" / "cache.pyc").write_bytes(b"python's own")
    else:
        rezip(archive, lambda found: found | {"__MACOSX/a": b"a system's own"})
    with opened(archive) as folder:
        assert set(FILES) <= set(contents(folder))
        assert not (folder / "__MACOSX").exists()


def test_what_is_no_archive_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no bundle at .*none; make one with: python app\.py bun"):
        opened(tmp_path / "none").__enter__()
    (tmp_path / "text.zip").write_text("no zip", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.zip is damaged or no zip .*pack it again"):
        opened(tmp_path / "text.zip").__enter__()
    whole = make(tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.zip is damaged or no zip"):
        opened(tmp_path / "cut.zip").__enter__()
    for place in range(40, len(whole), 97):  # no flipped byte goes unnoticed, or harms
        flipped = bytearray(whole)
        flipped[place] ^= 0x55
        (tmp_path / "flipped.zip").write_bytes(flipped)
        try:
            with opened(tmp_path / "flipped.zip") as folder:
                assert FILES.items() <= contents(folder).items()
        except UserError:
            pass
