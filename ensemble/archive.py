"""A folder or a zip that knows its own files: the same ones give the same bytes.

Input: a folder that is filled, or what somebody sent. Output: a folder or a zip with a manifest,
`bundle.json`, in which the SHA-256 of each other file stands; or a folder whose files are those of
its manifest.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from embedder.artifact import flush, flush_folder, read_json, replacing, write_json
from embedder.errors import Command, UserError, typed_with

MANIFEST = "bundle.json"
FORMAT = 1
BEGINNING = (1980, 1, 1, 0, 0, 0)  # of a zip's time; the hour of packing would change the bytes
AGAIN = Command("bundle", before="pack it again", output="NEW.zip", run_dir="RUN")


@contextmanager
def filling(output: Path, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder; what lies in it when the block ends becomes `output`.

    A name in .zip makes a zip, any other a folder. It appears whole or not at all: on any error
    what stood there stays. Raises `UserError` if that is not to be replaced.
    """
    check_output(output, overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        folder = Path(scratch, "new")
        folder.mkdir()
        yield folder
        if output.suffix == ".zip":
            with replacing(output) as temporary:
                _write_zip(folder, temporary)
            return
        flush_folder(folder)
        if output.exists():
            output.rename(Path(scratch, "old"))
        folder.rename(output)
        flush(output.parent)


def write_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what is said of a folder, and the SHA-256 of each file that lies in it."""
    files = {name: _sha256(folder / name) for name in _names(folder)}
    write_json(folder / MANIFEST, {"format": FORMAT, **about, "files": files})


def check_output(output: Path, overwrite: bool) -> None:
    """Raise `UserError` if something is at `output` that may not be replaced."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        if output.suffix == ".zip" and output.is_dir():
            raise UserError(f"--output {output} is a folder; a name in .zip must be a file")
        return
    if not overwrite:
        raise UserError(
            f"--output {output} is there already",
            f"--overwrite replaces a bundle{typed_with('overwrite')}",
        )
    try:
        with opened(output, check=False):
            pass
    except UserError:
        raise UserError(
            f"--output {output} is there already and is no bundle; choose another name"
        ) from None


@contextmanager
def opened(path: Path, check: bool = True) -> Iterator[Path]:
    """Yield the folder of an archive; what was unpacked for it is taken away when the block ends.

    With `check` all files of the manifest are there as they were packed; others do not matter.
    Raises `UserError` if the archive is missing, damaged, or not of ours.
    """
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            raise UserError(f"{path} is no bundle: it holds no {MANIFEST}; {AGAIN}")
        manifest = _manifest(read_json(path / MANIFEST), path)
        if check:
            for name, digest in manifest.items():
                _check(path / name, digest, name, path)
        yield path
        return
    if not path.is_file():
        raise UserError(
            f"there is no bundle at {path}; make one with: {Command('bundle', output='NEW.zip')}"
        )
    with tempfile.TemporaryDirectory(prefix="bundle-", ignore_cleanup_errors=True) as scratch:
        try:
            with zipfile.ZipFile(path) as file:
                _unpack(file, Path(scratch), path, check)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise UserError(f"{path} is damaged or no zip ({error}); {AGAIN}") from None
        yield Path(scratch)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that `opened` gave."""
    found: dict[str, Any] = read_json(folder / MANIFEST)
    return found


def _unpack(file: zipfile.ZipFile, folder: Path, path: Path, check: bool) -> None:
    """The manifest and what it lists; a name that leads out of the folder is refused."""
    entries = {}
    for entry in file.infolist():
        if not _is_inside(entry.filename) or stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(f"{path} holds {entry.filename!r}, which no bundle of ours does")
        entries[entry.filename] = entry
    if MANIFEST not in entries:
        raise UserError(f"{path} is no bundle: it holds no {MANIFEST}; {AGAIN}")
    text = file.read(entries[MANIFEST])
    (folder / MANIFEST).write_bytes(text)
    manifest = _manifest(read_json(folder / MANIFEST), path)
    for name, digest in manifest.items() if check else ():
        if name not in entries:
            raise UserError(f"{path} lacks {name}; {AGAIN}")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open(entries[name]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        _check(target, digest, name, path)


def _manifest(found: Any, path: Path) -> dict[str, str]:
    """The files of a manifest; `UserError` if it is of another format or leads elsewhere."""
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise UserError(f"{path} is no bundle: its {MANIFEST} lists no files; {AGAIN}")
    if found.get("format") != FORMAT:
        raise UserError(
            f"{path} is a bundle of format {found.get('format')}, this program reads format "
            f"{FORMAT}; use the program that is packed in it, or {AGAIN}"
        )
    for name in found["files"]:
        if not _is_inside(name):
            raise UserError(f"{path} lists {name!r}, which no bundle of ours does")
    files: dict[str, str] = found["files"]
    return files


def _is_inside(name: str) -> bool:
    """Whether a name of a zip or manifest stays below the folder that it is put into, anywhere."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not (
        name.startswith("/") or ".." in parts or any(sign in name for sign in "\\:\0")
    )


def _check(file: Path, digest: str, name: str, path: Path) -> None:
    if not file.is_file():
        raise UserError(f"{path} lacks {name}; {AGAIN}")
    if _sha256(file) != digest:
        raise UserError(f"{name} in {path} is not what was packed; {AGAIN}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(folder: Path) -> list[str]:
    """Posix paths of all files below a folder, sorted."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def _write_zip(folder: Path, target: Path) -> None:
    """All files by name, without anything that tells when or on what system."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
        for name in _names(folder):
            entry = zipfile.ZipInfo(name, BEGINNING)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = (folder / name).stat().st_size  # decides on the format of large files
            entry.create_system = 3  # as on Unix, so that the mode below is read
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with (folder / name).open("rb") as source, file.open(entry, "w") as copy:
                shutil.copyfileobj(source, copy)
