"""How large the program is, and how many of its files a command runs through.

    python docs/measure_structure.py [RUN_DIR AUDIO_FOLDER]

Without arguments: source files, lines, and files in each folder. With a fused run and a folder of
recordings also the project files whose functions are called by `predict` of one file, by `predict`
of a `SingerIdentifier` that is loaded, and by `fuse`; class bodies and module bodies do not count.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("embedder", "ensemble", "analysis")
sys.path.insert(0, str(ROOT))


def sources(suffix: str) -> list[Path]:
    """Files of the program with this suffix."""
    found = [ROOT / "app.py"] if suffix == ".py" else []
    return found + [p for name in PACKAGES for p in sorted((ROOT / name).rglob(f"*{suffix}"))]


def lines(files: list[Path]) -> int:
    """Their lines, all together."""
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def called_by(work: Callable[[], Any]) -> list[str]:
    """Project files whose functions `work` calls, in any thread."""
    found: set[str] = set()

    def see(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        function = frame.f_code.co_flags & 0x2  # CO_NEWLOCALS: a function, no class or module body
        if event == "call" and function and frame.f_code.co_name != "<module>":
            with contextlib.suppress(ValueError):
                place = Path(name).relative_to(ROOT)
                if place.parts[0] in (*PACKAGES, "app.py") and "__qualname__" not in frame.f_locals:
                    found.add(place.as_posix())

    threading.setprofile(see)
    sys.setprofile(see)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return sorted(found)


def print_size() -> None:
    """Files and lines, and folders by their files."""
    python, script = sources(".py"), sources(".js")
    tests = sorted((ROOT / "tests").rglob("*.py"))
    print(f"source files: {len(python)}, lines of Python: {lines(python)}")
    print(f"JavaScript files: {len(script)}, lines: {lines(script)}")
    print(f"test files: {len(tests)}, lines: {lines(tests)}")
    small = [file for file in python if len(file.read_text("utf-8").splitlines()) <= 60]
    print(f"source files of 60 lines or fewer, without __init__.py: "
          f"{sum(file.name != '__init__.py' for file in small)}")  # fmt: skip
    folders = Counter(file.parent.relative_to(ROOT).as_posix() for file in python)
    print("files in a folder: " + ", ".join(f"{name} {n}" for name, n in folders.most_common()))


def print_calls(run_dir: Path, songs: Path) -> None:
    """Files run through by predict and fuse, in a copy of the run."""
    import app
    from ensemble import SingerIdentifier

    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch, "run")
        shutil.copytree(run_dir, run)
        one = Path(scratch, "one")
        one.mkdir()
        first = sorted(p for p in songs.rglob("*") if p.suffix in (".wav", ".flac", ".mp3"))[0]
        shutil.copy(first, one)
        os.chdir(scratch)
        predict = ["predict", "--test_dir", str(one), "--run_dir", str(run), "--device", "cpu"]
        fuse = ["fuse", "--run_dir", str(run), "--device", "cpu"]
        identifier = SingerIdentifier.load(run, device="cpu")
        identifier.predict(one)
        for what, work in (
            ("predict of one file", lambda: app.main(predict)),
            ("SingerIdentifier.predict, loaded", lambda: identifier.predict(one)),
            ("fuse", lambda: app.main(fuse)),
        ):
            found = called_by(work)
            print(f"files run through by {what}: {len(found)}")
            print("  " + ", ".join(found))


if __name__ == "__main__":
    print_size()
    if len(sys.argv) == 3:
        print_calls(Path(sys.argv[1]), Path(sys.argv[2]))
