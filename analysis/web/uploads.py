"""Uploaded files: read into memory, unpacked from a zip, and dropped after a while.

Nothing of them stays on disk, no name becomes a path, and a file that cannot be a recording is
refused with a sentence.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import gradio as gr

from analysis.web.schemas import Limits
from embedder.catalogue import audio_format, is_audio_named, of_the_system
from embedder.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

import secrets
import time
from collections.abc import Callable

MOST_MEMBERS = 1000
ENTRY = b"PK\x01\x02"  # begins each entry of a zip's list of contents
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that can be unpacked bit by bit


@dataclass(frozen=True)
class Recording:
    """A file in memory. `name` is only shown."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Refused:
    """A file that is no recording, and why."""

    name: str
    why: str


def take(
    payloads: Sequence[Mapping[str, Any]], folder: Path, still_s: float = 0.0
) -> list[Recording]:
    """Read uploaded files into memory and remove them, also when that fails.

    `payloads`: what the browser says of each file: `path` where the server put it, and `orig_name`.
    `still_s`: how long they stay for what has begun to read them. Only files inside `folder` are
    touched, wherever a path points. Raises `UserError` for a file that is not there.
    """
    found: dict[str, bytes] = {}
    paths = [Path(str(one.get("path") or "")) for one in payloads]
    try:
        for path in paths:
            if not path.is_file() or not is_inside(path, folder):
                raise UserError("the file did not arrive; please send it again")
            found[str(path)] = path.read_bytes()
    finally:
        mine = [path for path in paths if is_inside(path, folder)]
        if still_s:
            later = threading.Timer(still_s, _remove, [mine, folder])
            later.daemon = True  # the folder goes with the server
            later.start()
        else:
            _remove(mine, folder)
    return [
        Recording(shown_name(str(one.get("orig_name") or path.name)), found[str(path)])
        for one, path in zip(payloads, paths, strict=True)
    ]


def recordings(files: Iterable[Recording], limits: Limits) -> tuple[list[Recording], list[Refused]]:
    """Files as they are, zips as what is in them; all together at most `limits.max_mb`.

    Raises `UserError` if there is more, or nothing.
    """
    good: list[Recording] = []
    bad: list[Refused] = []
    room = int(limits.max_mb * 1e6)
    for file in files:
        if not zipfile.is_zipfile(io.BytesIO(file.data)):
            good.append(file)
            room -= len(file.data)
        else:
            inside, refused = unzipped(file, room, limits)
            good += inside
            bad += refused
            room -= sum(len(one.data) for one in inside)
        if room < 0:
            raise _too_large(limits)
    if not good and not bad:
        raise UserError("there is no file in what was sent")
    return good, bad


def unzipped(file: Recording, room: int, limits: Limits) -> tuple[list[Recording], list[Refused]]:
    """What a zip holds, of at most `room` bytes unpacked, counted while it is unpacked.

    Raises `UserError` if it holds more, or too many files, or cannot be read.
    """
    if file.data.count(ENTRY) > MOST_MEMBERS:
        raise UserError(f"{file.name} holds more than {MOST_MEMBERS:,} files, the most at once")
    good: list[Recording] = []
    bad: list[Refused] = []
    try:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            for info in archive.infolist():
                name = shown_name(info.filename)
                if info.is_dir() or _of_the_system(name):
                    continue
                why = _refusal(info, name)
                if why:
                    bad.append(Refused(name, why))
                    continue
                with archive.open(info) as member:
                    data = member.read(room + 1)
                room -= len(data)
                if room < 0:
                    raise _too_large(limits)
                if is_audio_named(name) or audio_format(io.BytesIO(data)):
                    good.append(Recording(name, data))
                else:
                    bad.append(Refused(name, "not a recording: it holds no audio"))
    except (
        zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError
    ) as error:  # fmt: skip
        raise UserError(f"{file.name} is a zip that cannot be read: it is damaged") from error
    return good, bad


def shown_name(name: str) -> str:
    """A name from outside as it may be shown: no way up, no root, no drive, all printable."""
    text = "".join(letter if letter.isprintable() else "�" for letter in name.replace("\\", "/"))
    parts = [part for part in text.split("/") if part not in ("", ".", "..") and part[-1] != ":"]
    return "/".join(parts)[-200:] or "recording"


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, with its links followed, is below a folder."""
    resolved = path.resolve()
    return resolved != folder.resolve() and resolved.is_relative_to(folder.resolve())


def _refusal(info: zipfile.ZipInfo, name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".zip":
        return "a zip inside a zip is not opened"
    if info.flag_bits & 1:
        return "it is encrypted"
    if info.compress_type not in PACKED:
        return "it is packed in a way that is not unpacked here; use an ordinary zip"
    return ""


def _of_the_system(name: str) -> bool:
    """What systems put into zips beside the files: `__MACOSX/…`, `.DS_Store`."""
    return any(map(of_the_system, name.split("/")))


def _too_large(limits: Limits) -> UserError:
    return UserError(
        f"all recordings together are larger than {limits.max_mb:g} MB, the most at once"
    )


def _remove(paths: Sequence[Path], folder: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        if path.parent != folder:
            with suppress(OSError):  # another upload of the same content uses it
                path.parent.rmdir()


IN_MEMORY = Path("/dev/shm")  # Linux keeps it in memory


def upload_folder(room: int, memory: Path = IN_MEMORY) -> Path:
    """A new folder that nobody else may read; in memory, if twice `room` bytes are free there."""
    there = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= 2 * room
    return Path(tempfile.mkdtemp(prefix="listening-", dir=memory if there else None)).resolve()


def take_only_uploads(page: gr.Blocks, folder: Path) -> None:
    """No request may name a file of this machine, or an address, in place of an upload.

    gradio checks paths only of pages that it has launched itself, not of mounted ones, and copies
    what a path names into its folder; an address it would fetch. Uploads lie there already.
    """

    async def stay(path: str | Path | None) -> str | None:
        if path is None:
            return None
        if not is_inside(Path(path), folder):
            raise gr.Error("That is no upload.", print_exception=False)
        return str(path)

    page.has_launched = True
    for component in page.blocks.values():
        component.async_move_resource_to_block_cache = stay  # type: ignore


def remove_at_the_end(app: FastAPI, folder: Path) -> None:
    """The upload folder goes when the server stops, or with an application that never ran."""
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[Any]:
        async with before(running) as state:
            yield state
        shutil.rmtree(folder, ignore_errors=True)

    app.router.lifespan_context = lifespan
    weakref.finalize(app, shutil.rmtree, folder, ignore_errors=True)


IDLE_S = 1800.0  # what nobody has asked for so long is dropped


@dataclass
class _Item:
    value: Any
    size: int
    used_s: float


class Recent:
    """At most `room` bytes; when more is put in, what was unused for longest goes first."""

    def __init__(
        self, room: int, idle_s: float = IDLE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._room, self._idle_s, self._clock = room, idle_s, clock
        self._items: dict[str, _Item] = {}  # in order of their last use
        self._lock = threading.Lock()

    def put(self, value: Any, size: int) -> str:
        """Keep `value`, which weighs `size` bytes; returns its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._items[token] = _Item(value, size, self._clock())
            self._drop_old()
        return token

    def get(self, token: str | None) -> Any | None:
        """What was kept under a token; `None` if it is there no more."""
        with self._lock:
            self._drop_old()
            item = self._items.pop(token or "", None)
            if item is None:
                return None
            item.used_s = self._clock()
            self._items[str(token)] = item
            return item.value

    def drop(self, token: str | None) -> None:
        """Forget one; a token that is not known is no error."""
        with self._lock:
            self._items.pop(token or "", None)

    def size(self) -> int:
        """Bytes kept now."""
        with self._lock:
            self._drop_old()
            return sum(item.size for item in self._items.values())

    def _drop_old(self) -> None:
        now = self._clock()
        total = sum(item.size for item in self._items.values())
        for token, item in list(self._items.items()):
            if total <= self._room and now - item.used_s < self._idle_s:
                break
            total -= item.size
            del self._items[token]
