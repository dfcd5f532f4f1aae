"""Where everything of a run lies on disk, and how it is written so that nothing is ever half there.

Enters: a run folder. Leaves: the path of each artifact (`Run`), atomic writers, and fingerprints.
This is the only file that spells a path inside a run folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedder.errors import Command, UserError, current_run_dir
from embedder.text import read_text

FORMAT = 1  # version of everything written into a run folder; readers refuse any other

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

UMASK = os.umask(0)  # asked for once: asking sets it for a moment, for all threads
os.umask(UMASK)

SPLITS = ("train", "validation", "test")
# Options of `prepare` that `run.json` keeps.
PREPARED_BY = (
    "data_dir",
    "split",
    "stems_dir",
    "lists_dir",
    "keep_duplicates",
    "keep_duets",
    "seed",
)


class InUse(UserError):
    """Another process is at work on what a command would write."""


@dataclass(frozen=True)
class Run:
    """The paths inside one run folder. Nothing is created or read here."""

    root: Path
    shared_cache: Path | None = None  # decoded audio that several runs of a benchmark share
    shelf: str = "members"  # folder of what is trained: members, or networks without singers
    fused: str = "fusion"  # folder of the fusion, or of one that is still being written

    @property
    def info(self) -> Path:
        return self.root / "run.json"

    @property
    def catalogue(self) -> Path:
        return self.root / "catalogue.csv"

    def song_list(self, split: str) -> Path:
        return self.root / f"{split}.txt"

    @property
    def cache(self) -> Path:
        return self.shared_cache or self.root / "cache"

    def decoded(self, key: str) -> Path:
        """The samples of one decoded file."""
        return self.cache / f"{key}.npy"

    @property
    def stems(self) -> Path:
        return self.root / "stems.json"

    @property
    def members(self) -> Path:
        return self.root / self.shelf

    @property
    def kind(self) -> str:
        """What one thing on the shelf is called."""
        return "member" if self.shelf == "members" else "network"

    @property
    def maker(self) -> str:
        """The command that fills the shelf."""
        return "train-embedder" if self.shelf == "members" else "pretrain"

    @property
    def pretrained(self) -> Run:
        """The same run, its networks trained without singers in the place of its members."""
        return replace(self, shelf="pretrained")

    def member(self, name: str) -> Path:
        return self.members / name

    def weights(self, name: str) -> Path:
        return self.member(name) / "model.safetensors"

    def resume(self, name: str) -> Path:
        return self.member(name) / "resume"

    def log(self, name: str) -> Path:
        return self.member(name) / "log.csv"

    def store(self, name: str, split: str) -> Path:
        return self.member(name) / "stores" / f"{split}.npz"

    @property
    def detector(self) -> Path:
        return self.root / "detector"

    @property
    def detector_weights(self) -> Path:
        return self.detector / "model.safetensors"

    @property
    def separator(self) -> Path:
        return self.root / "separator"

    @property
    def separator_weights(self) -> Path:
        return self.separator / "model.safetensors"

    @property
    def fusion_folder(self) -> Path:
        """All that `fuse` writes; its files are only valid together."""
        return self.root / self.fused

    @property
    def fusion(self) -> Path:
        return self.fusion_folder / "fusion.json"

    @property
    def verification(self) -> Path:
        return self.fusion_folder / "verification.json"

    @property
    def index_table(self) -> Path:
        return self.fusion_folder / "index.sqlite"

    @property
    def predictions(self) -> Path:
        return self.fusion_folder / "predictions"

    @property
    def pages(self) -> Path:
        return self.root / "pages"

    def measure(self, file: str) -> Path:
        """What `measure` found out for the pages: robustness, voices, spectrograms."""
        return self.root / "measures" / file

    def map(self, member: str, level: str) -> Path:
        """A finished map of the pages at "song" or "segment" level; member "" is all together."""
        maps = self.root / "maps"
        return maps / level / f"{member}.npz" if member else maps / f"{level}.npz"

    @property
    def page_audio(self) -> Path:
        return self.pages / "audio"

    @property
    def singer_facts(self) -> Path:
        return self.root / "singers.csv"

    @property
    def benchmark_rows(self) -> Path:
        return self.root / "benchmark" / "rows"

    @property
    def exports(self) -> Path:
        return self.root / "export"

    @property
    def locks(self) -> Path:
        return self.root / ".locks"

    def member_names(self) -> list[str]:
        """Names of the finished members, sorted."""
        if not self.members.is_dir():
            return []
        found = (p for p in self.members.iterdir() if self.weights(p.name).is_file())
        return sorted(p.name for p in found)


def vectors_of(table: Path, member: str, stamp: str) -> Path:
    """The FAISS file of a member's segments beside a song table; `stamp` hashes what it holds."""
    return table.with_name(f"{member}.segments.{stamp}.faiss")


def create_run(root: Path) -> Run:
    """Make the run folder if it is not there; raise `UserError` if another version made it."""
    run = Run(root)
    if run.info.is_file():
        return open_run(root)
    if root.is_dir() and any(root.iterdir()):
        raise UserError(
            f"{root} is not empty and is no run folder (no run.json); choose another --run_dir"
        )
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file; --run_dir must be a folder")
    root.mkdir(parents=True, exist_ok=True)
    write_json(run.info, {"format": FORMAT})
    return run


def abandon_run(run: Run) -> None:
    """Take away a run folder that holds nothing yet but its own mark."""
    if {entry.name for entry in run.root.iterdir()} <= {run.info.name, run.locks.name}:
        shutil.rmtree(run.root, ignore_errors=True)


def open_run(root: Path, after: str = "") -> Run:
    """Open an existing run folder that has come as far as a command needs.

    Args:
        root: The folder.
        after: The step that must be done: "prepare", "train-embedder" or "fuse"; "" asks for none.

    Raises:
        UserError: It is missing, of another version, or not that far; the message names the first
            step that is missing.
    """
    run = Run(root)
    if not run.info.is_file():
        taken = root.exists() and not (root.is_dir() and not any(root.iterdir()))
        raise UserError(
            f"no run folder at {root}"
            + (", which is something else; give another --run_dir, or" if taken else ";")
            + " make one with: "
            f"{Command('prepare', data_dir='SONGS', run_dir='NEW' if taken else root)}"
        )
    found = read_json(run.info).get("format")
    if found != FORMAT:
        raise UserError(
            f"{root} was written in format {found}, this program reads format {FORMAT}; "
            "prepare a new run folder or use the program's version that wrote it"
        )
    if _is_cut_off(run.fusion_folder):
        with locked(run, "fusion", wait_s=10):  # or it is being replaced at this moment
            if _is_cut_off(run.fusion_folder):
                _old(run.fusion_folder).rename(run.fusion_folder)
    _check_steps(run, after)
    return run


def _check_steps(run: Run, after: str) -> None:
    """Raise `UserError` naming the first missing step, unless the step `after` is done."""
    steps = {
        "prepare": (run.catalogue.is_file(), f"no songs are prepared in {run.root}"),
        "train-embedder": (bool(run.member_names()), f"no member is trained in {run.members}"),
        "fuse": (run.fusion.is_file(), f"the members of {run.root} are not fused yet"),
    }
    if not after or steps[after][0]:  # a run that came in a bundle is fused, but has no songs
        return
    step, problem = next((name, said) for name, (done, said) in steps.items() if not done)
    first = prepare_again() if step == "prepare" else Command(step)
    raise UserError(f"{problem}; first run: {first}")


def prepare_again(before: str = "", **changes: object) -> Command:
    """The command that prepared the running command's run, with some options changed.

    Where the run does not say how it was prepared, the folder of its songs is `SONGS`.
    """
    found: dict[str, Any] = {}
    with suppress(UserError, AttributeError):
        found = read_json(Run(current_run_dir()).info).get("prepared") or {}
    usual = {"split": "course", "seed": 0}
    options = {name: found.get(name) for name in PREPARED_BY if found.get(name) != usual.get(name)}
    options["data_dir"] = options.get("data_dir") or "SONGS"
    return Command("prepare", before=before, **options | changes)


@contextmanager
def locked(run: Run, what: str, wait_s: float = 0) -> Iterator[None]:
    """Keep other processes from the same work on a run folder while the block runs.

    The system releases the lock when the process ends, however it ends. Blocks of one thread may
    lie in each other.

    Args:
        run: the run folder, which must be there.
        what: the artifact that is written, such as "fusion" or "members/ecapa-aam".
        wait_s: how long another process may still take, s.

    Raises:
        InUse: another process holds the lock; it is named by its id.
    """
    from filelock import FileLock, Timeout

    path = run.locks / f"{what.replace('/', '.')}.lock"
    holder = path.with_suffix(".pid")  # beside it: on Windows nobody else may read a locked file
    path.parent.mkdir(exist_ok=True)
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        pid = holder.read_text(encoding="ascii") if holder.is_file() else ""
        raise InUse(
            f"{f'process {pid}' if pid else 'another process'} is at work on {what} in {run.root}; "
            "run this command again when that has ended"
        ) from None
    try:
        holder.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        lock.release()


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


def _is_cut_off(folder: Path) -> bool:
    """Whether replacing a folder was cut off, with the old one aside and no other in its place."""
    return not folder.exists() and _old(folder).is_dir()


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


def write_json(path: Path, value: Any) -> None:
    """Write JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, again: Command | None = None) -> Any:
    """Read JSON; raise `UserError` naming the file, and `again`, if it is missing or no JSON."""
    mends = f"; {again}" if again else ""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
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
