"""A run folder: where everything of it lies, how far it has come, and who is at work in it.

This is the only file that spells a path inside a run folder. How its files are written and read is
in `embedder/artifact.py`.
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from embedder.artifact import Artifact, is_cut_off, put_back
from embedder.errors import Command, UserError, current_run_dir

P = ParamSpec("P")
R = TypeVar("R")

SAMPLE_RATE = 16000  # Hz; everything is decoded to it once, so it is no setting of a member
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


class _Inside:
    """A path inside the folder of a `Run`, given by its parts."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts

    def __get__(self, run: Run, _: type[Run]) -> Path:
        return run.root.joinpath(*self.parts)


@dataclass(frozen=True)
class Run:
    """The paths inside one run folder. Nothing is created or read here.

    Args:
        root: The folder.
        shared_cache: Decoded audio that several runs of a benchmark share.
        networks: Folder of the trained networks that `member` and its like speak of: "members", or
            "pretrained" for those that were trained without singers.
        fused: Folder of the fusion, or of one that is still being written.
    """

    root: Path
    shared_cache: Path | None = None
    networks: str = "members"
    fused: str = "fusion"

    info = _Inside("run.json")
    catalogue = _Inside("catalogue.csv")
    stems = _Inside("stems.json")
    detector = _Inside("detector")
    detector_weights = _Inside("detector", "model.safetensors")
    separator = _Inside("separator")
    separator_weights = _Inside("separator", "model.safetensors")
    pages = _Inside("pages")
    page_audio = _Inside("pages", "audio")
    singer_facts = _Inside("singers.csv")
    benchmark_rows = _Inside("benchmark", "rows")
    exports = _Inside("export")
    locks = _Inside(".locks")

    @property
    def cache(self) -> Path:
        return self.shared_cache or self.root / "cache"

    def decoded(self, key: str) -> Path:
        """The samples of one decoded file."""
        return self.cache / f"{key}.npy"

    def song_list(self, split: str) -> Path:
        return self.root / f"{split}.txt"

    @property
    def pretrained(self) -> Run:
        """The same run, its networks trained without singers in the place of its members."""
        return replace(self, networks="pretrained")

    @property
    def network_kind(self) -> str:
        """What a user calls one of the trained networks."""
        return "member" if self.networks == "members" else "network"

    @property
    def training_command(self) -> str:
        """The command that trains one of them."""
        return "train-embedder" if self.networks == "members" else "pretrain"

    @property
    def members(self) -> Path:
        return self.root / self.networks

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

    def measure(self, file: str) -> Path:
        """What `measure` found out for the pages: robustness, voices, spectrograms."""
        return self.root / "measures" / file

    def map(self, member: str, level: str) -> Path:
        """A finished map of the pages at "song" or "segment" level; member "" is all together."""
        maps = self.root / "maps"
        return maps / level / f"{member}.npz" if member else maps / f"{level}.npz"

    def member_names(self) -> list[str]:
        """Names of the finished members, sorted."""
        if not self.members.is_dir():
            return []
        found = (p for p in self.members.iterdir() if self.weights(p.name).is_file())
        return sorted(p.name for p in found)


def vectors_of(table: Path, member: str, stamp: str) -> Path:
    """The FAISS file of a member's segments beside a song table; `stamp` hashes what it holds."""
    return table.with_name(f"{member}.segments.{stamp}.faiss")


@dataclass(frozen=True)
class RunInfo:
    """What `run.json` says of a run folder."""

    prepared: dict[str, Any] | None = None  # how and from what, once `prepare` is done


INFO = Artifact(
    "run folder",
    1,
    RunInfo,
    Command("prepare", before="prepare a new one", data_dir="SONGS", run_dir="NEW"),
)


def preparation(run: Run) -> dict[str, Any]:
    """How a run was prepared and from what, by option; empty where it does not say."""
    return INFO.read(run.info).prepared or {}


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
    INFO.write(run.info, RunInfo())
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
    INFO.read(run.info)
    if is_cut_off(run.fusion_folder):
        with locked(run, "fusion", wait_s=10):  # or it is being replaced at this moment
            if is_cut_off(run.fusion_folder):
                put_back(run.fusion_folder)
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
    with suppress(UserError):
        found = preparation(Run(current_run_dir()))
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


def exclusive(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for functions that write one artifact of their argument `run`: `locked` in them.

    Args:
        what: the artifact as for `locked`; arguments of the function may stand in braces, as in
            "members/{name}".
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def alone(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs).arguments
            with locked(given["run"], what.format(**given)):
                return function(*args, **kwargs)

        return alone

    return decorated
