"""Files of a run: never half-written, and never taken for what they are not.

`replacing` and `replace_folder` make every write atomic and durable. An `Artifact` is one kind of
file with a header (kind, format, and often `made_from`, the fingerprints of all that could change
it). Its reader says in one sentence what is wrong with a file that is missing, damaged, of another
format or of another kind, and which command writes it again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from embedder.errors import Command, UserError
from embedder.text import read_text

if TYPE_CHECKING:
    import numpy as np

# What the system says of a write where there is no room: on the disk, in a quota, in a file.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What numpy, torch, SQLite and libsndfile say instead, who keep the system's error to themselves.
NOT_WRITTEN = (
    " requested and ",
    "unexpected pos",
    "PytorchStreamWriter",
    "disk is full",
    "System err",
)

# What reading JSON or an npz raises where its bytes are none.
UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile),
    *(zlib.error, struct.error, NotImplementedError, RecursionError, MemoryError, RuntimeError),
)

# pydantic's types of errors, in words
PROBLEMS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "unexpected_keyword_argument": "is unknown",
}
HEADER = ("kind", "format")  # keys of a file beside the fields of its content
UMASK = os.umask(0)  # asked for once: asking sets it for a moment, for all threads
os.umask(UMASK)

Content = TypeVar("Content")


# One kind of file --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Artifact(Generic[Content]):
    """One kind of file in a run folder, declared once beside the dataclass that it holds.

        STORE = Artifact("store", 2, Store, Command("fuse", before="run again"))
        STORE.write(path, store)
        store = STORE.read(path)

    The dataclass may hold texts, numbers, arrays, and mappings, sequences and dataclasses of these.
    A `.json` file holds no arrays. In a `.npz`, `head` is the JSON and each array stands under its
    path in the dataclass, such as `labels` or `probes/ecapa-aam/weights`. Fields are validated by
    their annotations on reading; what they cannot say (shapes, ranges, what belongs together) is
    checked in the dataclass's `__post_init__` by raising `ValueError`.

    Args:
        name: What a user calls it; also the header's `kind`. Files without one are accepted.
        version: Of the format; the reader refuses any other.
        content: The dataclass.
        again: The command that writes the file again.
        compressed: Whether an npz is compressed.
        finite: Whether all numbers outside arrays must be.
    """

    name: str
    version: int
    content: type[Content]
    again: Command
    compressed: bool = False
    finite: bool = True

    def write(self, path: Path, content: Content) -> None:
        """Write the file, atomically and durably. Equal content gives equal bytes.

        Raises:
            ValueError: A number outside arrays is not finite, or an array stands where none can.
        """
        import numpy as np  # here, so that `--help` does without

        arrays: dict[str, np.ndarray[Any, Any]] = {}
        head = {"kind": self.name, "format": self.version, **_plain(content, (), arrays)}
        if path.suffix != ".npz":
            if arrays:
                raise ValueError(f"{path} cannot hold the arrays {', '.join(arrays)}")
            write_json(path, head, allow_nan=not self.finite)
            return
        # JSON bytes: fixed-width numpy text would pad every path to the longest.
        text = np.frombuffer(json.dumps(head, allow_nan=not self.finite).encode(), dtype=np.uint8)
        save = np.savez_compressed if self.compressed else np.savez
        with replacing(path) as temporary, temporary.open("wb") as file:
            save(file, head=text, **arrays)  # type: ignore[arg-type]

    def read(self, path: Path, again: Command | None = None) -> Content:
        """Read and validate the file.

        Args:
            path: What `write` wrote.
            again: The command that writes it again, where it is not the usual one.

        Raises:
            UserError: It is missing, damaged, of another format or kind, or holds illegal values.
        """
        again = again or self.again
        with reading(path, self.name, again):
            head = _read_npz(path) if path.suffix == ".npz" else json.loads(read_text(path))
        check_header(head, path, self.name, self.version, again)
        content = {key: value for key, value in head.items() if key not in HEADER}
        return self.parse(content, path, again)

    def parse(self, found: Any, path: Path, again: Command | None = None) -> Content:
        """The content from what a file held; raises `UserError` as `read` does."""
        from pydantic import ValidationError

        try:
            content: Content = self._adapter.validate_python((found,))[0]
            return content
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            said = PROBLEMS.get(first["type"])
            if where:
                reason = f"{where} {said}" if said else f"{where}: {first['msg']}"
            else:
                reason = first["msg"].removeprefix("Value error, ")
            raise UserError(
                f"{path} is not a readable {self.name} ({reason}); {again or self.again}"
            ) from None

    @cached_property
    def _adapter(self) -> Any:
        from pydantic import ConfigDict, TypeAdapter  # only where a file is read

        config = ConfigDict(
            arbitrary_types_allowed=True, extra="forbid", allow_inf_nan=not self.finite
        )
        # A tuple around it: pydantic takes no configuration for a bare dataclass.
        return TypeAdapter(tuple[self.content], config=config)  # type: ignore[name-defined]


@contextmanager
def reading(path: Path, name: str, again: Command) -> Iterator[None]:
    """Say in one sentence what is wrong where the block cannot read a file.

    Args:
        path: The file.
        name: What a user calls it.
        again: The command that writes it again.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {again}") from None
    except UserError as error:
        raise UserError(f"{error}; {again}") from None
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable {name} ({error}); {again}") from None


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an npz by name; to be called within `reading`."""
    import numpy as np

    with path.open("rb") as handle:
        if not zipfile.is_zipfile(handle):  # numpy would take it for a pickle
            raise ValueError("it is no npz")
        handle.seek(0)
        with np.load(handle, allow_pickle=False) as file:
            return dict(file)


def check_header(found: Any, path: Path, name: str, version: int, again: Command) -> None:
    """Raise `UserError` unless a file's header is that of this kind and version.

    Args:
        found: What the file holds, or its header alone: `kind` and `format`.
        path: The file.
        name: The kind that it must be of; files written without a kind are accepted.
        version: The format that it must be of.
        again: The command that writes it again.
    """
    if not isinstance(found, Mapping):
        raise UserError(f"{path} is not a readable {name} (it holds no header); {again}")
    if (kind := found.get("kind", name)) != name:
        raise UserError(f"{path} is a {kind}, not a {name}; {again}")
    if (held := found.get("format", "unknown")) != version:
        newer = isinstance(held, int) and held > version
        raise UserError(
            f"{path} is a {name} of format {held}, this program reads format {version}; "
            + ("use the newer program that wrote it, or " if newer else "")
            + str(again)
        )


def _plain(value: Any, path: tuple[str, ...], arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """The value as JSON takes it; arrays are left out and put into `arrays` by their path."""
    import numpy as np

    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif hasattr(value, "model_dump"):  # a pydantic model
        value = value.model_dump()
    if isinstance(value, Mapping):
        plain = {}
        for key, item in value.items():
            if isinstance(item, np.ndarray):
                arrays["/".join((*path, key))] = item
            else:
                plain[key] = _plain(item, (*path, str(key)), arrays)
        return plain
    if isinstance(value, np.ndarray):
        raise ValueError(f"an array stands in a sequence: {'/'.join(path)}")
    if isinstance(value, (list, tuple)):
        return [_plain(item, path, arrays) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _read_npz(path: Path) -> Any:
    """The JSON head of an npz with its arrays put back in their places."""
    arrays = read_arrays(path)
    head = json.loads(arrays.pop("head").tobytes())
    if not isinstance(head, dict):
        raise ValueError("its head is no header")
    for key, array in arrays.items():
        *parents, name = key.split("/")
        place = head
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ValueError(f"array {key} has no place")
        place[name] = array
    return head


# Writing -----------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without error.

    The file appears whole or not at all, even if the power fails: its content is on the disk before
    its name is. On any error the temporary file is removed and what stood at `path` stays. If the
    disk takes no more, `OSError` says so and names `path`, whichever library was writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~UMASK)  # mkstemp makes files private; artifacts are shared
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except Exception as error:
        if code := _disk_full(error):
            raise OSError(code, os.strerror(code), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _disk_full(error: Exception) -> int:
    """The number of the system's error if it is that the disk takes no more; else 0."""
    if isinstance(error, UserError):
        return 0
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return error.errno
    text = str(error)
    if any(words in text for words in NOT_WRITTEN):
        return errno.ENOSPC
    return next((code for code in DISK_FULL if os.strerror(code) in text), 0)


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder `new`, which lies beside `target`, in its place; the old one is removed.

    No system renames a folder over one that holds files. The old one steps aside first, and where a
    kill leaves it there, `open_run` puts it back: at every moment one of the two is found whole.
    """
    flush_folder(new)
    old = _old(target)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            shutil.rmtree(target, ignore_errors=True)
            old.rename(target)
        raise
    flush(target.parent)
    if old.exists():  # under another name first: half of it must not be put back
        gone = target.with_name(f".{target.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        old.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def is_cut_off(folder: Path) -> bool:
    """Whether replacing a folder was cut off, with the old one aside and no other in its place."""
    return not folder.exists() and _old(folder).is_dir()


def put_back(folder: Path) -> None:
    """Put the old folder back in its place after replacing it was cut off."""
    _old(folder).rename(folder)


def flush_folder(folder: Path) -> None:
    """Bring all that is in a folder to the disk."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


def flush(path: Path) -> None:
    """Bring a file or the names in a folder to the disk; Windows flushes no folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems flush no folders
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with newline line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, allow_nan: bool = True) -> None:
    """Write JSON, atomically; `ValueError` for a number that is not finite unless `allow_nan`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=allow_nan)
    write_text(path, text + "\n")


def read_json(path: Path, again: Command | None = None) -> Any:
    """Read JSON; raise `UserError` naming the file, and `again`, if it is missing or no JSON."""
    mends = f"; {again}" if again else ""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}{mends}") from None
    except UserError as error:
        raise UserError(f"{error}{mends}") from None


def fingerprint(*parts: bytes | str) -> str:
    """16 hexadecimal digits of SHA-256 over the parts, each framed by its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """16 hexadecimal digits of SHA-256 over a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
