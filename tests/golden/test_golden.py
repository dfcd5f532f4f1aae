"""Every number that leaves the program, frozen: whole runs from `prepare` to a bundle's answers.

The runs go through the command line and look only at what users see: csv, npz and JSON files and
printed tables. What they gave lies beside this file, `demo.json` of synthetic singers and
`voices.json` of real ones. Names and their order must be the same, numbers within 1e-3.

Where a change is meant to change numbers, write the files again, read the diff, and give the reason
in the commit:

    python -m pytest tests/golden --renew

The second run is slow, and needs the real voices beside the project. Training is as short as can
be, in float32, on one thread, and at so low a learning rate that another processor's rounding moves
no answer by 1e-3: what is trained on shows in the losses of each epoch. Detector and separator
learn at their own rate, so they come last, and what is measured of them is compared within 0.1.
Where two choices are all but equal, another processor may still take the other one.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
VOICES = ROOT.parent / "shared" / "voices"
NUMBER = re.compile(r"(?<![\w.-])[+-]?\d+(?:\.\d+)?(?![\w.]*\w)")
DIGEST = re.compile(r"[0-9a-f]{12,}|[\w+/]{40,}=*")  # of files, and arrays in base64
LEARNT = ("train the detector:", "train the separator:")  # differ from processor to processor
Steps = Sequence[tuple[str, str]]  # name, words of the command line

TRAIN = (
    "train-embedder --run_dir run --set channels=16 --set mfa_channels=32 --set embedding_dim=16 "
    "--set attention_channels=8 --set crops_per_song=2 --set batch_singers=4 --set batch_crops=2 "
    "--set segment_s=1 --set eval_segment_s=2 --set eval_hop_s=1 --set precision=fp32 "
    "--set lr=0.00001 --epochs 2 --device cpu"
)
HERE = "--run_dir run --device cpu"
PREDICT = f"predict {HERE} --test_dir test/mix --output out/predict"
OF_BUNDLE = PREDICT.replace("--run_dir run", "--bundle bundle")
ALONE: Steps = (  # what needs no vocals
    ("fuse alone", f"fuse {HERE} --members aam"),
    ("enroll", f"enroll {HERE} --singer New --audio_dir new"),
    ("predict enrolled", f"{PREDICT}_enrolled.csv"),
    ("unenroll", "unenroll --run_dir run --singer New"),
    ("predict unenrolled", f"{PREDICT}_unenrolled.csv"),
    ("undo the unenroll", "unenroll --run_dir run --undo"),
    ("predict undone", f"{PREDICT}_undone.csv"),
    ("undo the enroll", "enroll --run_dir run --undo"),
)
FUSE_AND_PREDICT: Steps = (
    ("fuse", f"fuse {HERE}"),
    ("predict", f"{PREDICT}.csv --stems_dir test"),
)
FUSED: Steps = (
    *FUSE_AND_PREDICT,
    ("predict mixtures", f"{PREDICT}_mixtures.csv"),
    ("predict unknown", f"{PREDICT}_unknown.csv --stems_dir test --unknown"),
    ("verify one singer", f"verify {HERE} --json test/mix/01.flac test/mix/02.wav"),
    ("verify two singers", f"verify {HERE} --json test/mix/01.flac test/mix/04.flac"),
    ("similar", f"similar {HERE} --json --top 5 test/mix/03.mp3"),
    ("evaluate", "evaluate --prediction out/predict.csv --truth truth.csv"),
    ("evaluate verification", "evaluate --verification --run_dir run"),
    ("bundle", "bundle --run_dir run --output bundle"),
    ("predict bundle", f"{OF_BUNDLE}_bundle.csv --stems_dir test"),
)


# Running -----------------------------------------------------------------------------------------

DRIVER = """
import contextlib, io, json, sys
import app

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = app.main(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def run(steps: Steps, folder: Path, threads: int = 1) -> dict[str, Any]:
    """Run the steps in one process of their own, in `folder`; all they gave, by name, rounded."""
    environment = {
        **os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": str(threads), "PYTHONIOENCODING": "utf-8",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], cwd=folder, env=environment, encoding="utf-8",
        input="".join(json.dumps(words.split()) + "\n" for _, words in steps), capture_output=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == len(steps), done.stderr
    found: dict[str, Any] = {}
    for (name, _), line in zip(steps, lines, strict=True):
        code, out, err = json.loads(line)
        if code:
            found[f"{name}: exit code {code}"] = err.strip()
        for key, item in leaves(json.loads(out)) if out.startswith("{") else tables(out):
            key, times = f"{name}: {key.removeprefix(' / ')}", 1
            while key in found:
                times += 1
                key = f"{key.removesuffix(f' ({times - 1})')} ({times})"
            found[key] = item
    return rounded(found | in_files(folder))


# Reading what came of it --------------------------------------------------------------------------


def numbers(text: str) -> tuple[str, list[str]]:
    """A text with `#` in place of its numbers, and the numbers as they are printed."""
    return NUMBER.sub("#", text), NUMBER.findall(text)


def tables(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each row of the printed tables, under its title and first cell; the header comes first."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("┏"):
            title, counts = numbers(lines[number - 1].strip())
            title = re.split("[,;]", title)[0]
            header = [cell.strip() for cell in lines[number + 1].split("┃")[1:-1]]
            yield title, [*counts, *header]
        elif line.startswith("│"):
            first, *rest = (cell.strip() for cell in line.split("│")[1:-1])
            name, found = numbers(first)
            for cell in rest:
                frame, inside = numbers(cell)
                found += inside if inside else [frame]
            yield f"{title} / {name}", found


def leaves(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What is in a JSON value, by path: lists of plain values whole, no digests or tables."""
    if isinstance(found, dict):
        for key in found.keys() - {"results", "methods"}:  # `fuse` prints them
            yield from leaves(found[key], f"{path} / {key}")
    elif isinstance(found, list) and any(isinstance(part, (dict, list)) for part in found):
        for number, part in enumerate(found):
            yield from leaves(part, f"{path} / {number}")
    elif not isinstance(found, str):
        yield path, found
    elif not DIGEST.fullmatch(found):
        yield path, DIGEST.sub("#", found)


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows of a csv, under their first cells; no column of speeds."""
    with path.open(encoding="utf-8", newline="") as file:
        first, *rows = list(csv.reader(file))
    slow = {number for number, name in enumerate(first) if name.endswith("_per_s")}
    for row in [first, *rows]:
        yield f" / {row[0]}", [cell for number, cell in enumerate(row) if number not in slow][1:]


def arrays(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """The arrays of an npz a row at a time, logarithms of probabilities as probabilities."""
    with np.load(path) as file:
        for name in file.files:
            array = file[name]
            if "log_prob" in name:
                name, array = name.replace("log_", ""), np.exp(array)
            rows = array.reshape(len(array), -1) if array.ndim > 1 else array[None]
            for number, row in enumerate(rows):
                yield f" / {name} / {number}", row.ravel().tolist()


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".csv": csv_rows,
    ".json": lambda path: leaves(json.loads(path.read_text(encoding="utf-8"))),
    ".npz": arrays,
    ".txt": lambda path: iter([("", path.read_text(encoding="utf-8").splitlines())]),
}


def in_files(folder: Path) -> dict[str, Any]:
    """What is in the files that users see. Of two that hold the same, the second only says so."""
    patterns = ("out/*.*", "run/*.txt", "run/members/*/log.csv", "run/fusion/*.json")
    found: dict[str, Any] = {}
    seen: dict[str, str] = {}  # what a file holds, and its name
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        name, rows = path.relative_to(folder).as_posix(), dict(READERS[path.suffix](path))
        other = seen.setdefault(json.dumps(rounded(rows)), name)
        if other == name:
            found |= {f"{name}{key}": item for key, item in rows.items()}
        else:
            found[name] = f"the same as {other}"
    return found


def rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: rounded(item) for key, item in found.items()}
    if isinstance(found, list):
        return [rounded(item) for item in found]
    return round(found, 4) + 0.0 if isinstance(found, float) else found


# Comparing ----------------------------------------------------------------------------------------


def same(old: Any, new: Any, tolerance: float) -> bool:
    """Whether two values agree; printed numbers may differ by one in their last digit."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(
            same(*pair, tolerance) for pair in zip(old, new, strict=True)
        )
    try:
        one, other = float(old), float(new)
    except (TypeError, ValueError):
        return bool(old == new)
    decimals = len(old.partition(".")[2]) if isinstance(old, str) else 0
    if decimals in (1, 2):
        tolerance = max(tolerance, 10.0**-decimals)
    return math.isclose(one, other, rel_tol=1e-3, abs_tol=1.001 * tolerance) or old == new


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line for each value that is gone, was added or is another one."""
    gone = [f"gone:  {key}: {old[key]}" for key in old if key not in new]
    added = [f"added: {key}: {new[key]}" for key in new if key not in old]
    changed = [
        f"other: {key}:\n    was {old[key]}\n    is  {new[key]}"
        for key in old
        if key in new and not same(old[key], new[key], 0.1 if key.startswith(LEARNT) else 1e-3)
    ]
    return [*gone, *added, *changed]


def compare(name: str, new: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """Hold what a run gave against its file, or write the file."""
    file = Path(__file__).with_name(f"{name}.json")
    if request.config.getoption("--renew", default=False):
        lines = [f"{json.dumps(key)}: {json.dumps(new[key])}" for key in sorted(new)]
        file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    found = differences(json.loads(file.read_text(encoding="utf-8")), new)
    if found:
        pytest.fail(
            f"{len(found)} values are not those of {file.name}:\n" + "\n".join(found), False
        )


# The runs -----------------------------------------------------------------------------------------

DEMO: Steps = (
    ("prepare", "prepare --run_dir run --data_dir songs/mix --stems_dir songs --split album"),
    ("train aam", f"{TRAIN} --name aam --loss aam"),
    ("train triplet", f"{TRAIN} --name triplet --loss triplet --stem vocals"),
    *ALONE,
    *FUSED,
)
REAL: Steps = (
    *DEMO,
    ("train the detector", f"train-detector {HERE} --epochs 1"),
    ("train the separator", f"train-separator {HERE} --epochs 1"),
)
SINGERS = ("ada", "ben", "cleo", "dan", "eve")
UNSEEN = {"01.flac": 0, "02.wav": 0, "03.mp3": 1, "04.flac": 2, "05.ogg": 3, "06.flac": 4}
Put = Callable[[Path, str, int, int, int], None]  # folder, name, and which singer, album, song
Demo = tuple[Path, dict[str, Any]]


def answered(folder: Path, put: Put, steps: Steps) -> dict[str, Any]:
    """All that a run on four singers of four albums gives; the fifth singer is enrolled."""
    for singer, album, song in itertools.product(range(4), range(4), range(2)):
        name = f"{SINGERS[singer]}/album {album}/song {song}.flac"
        put(folder / "songs", name, singer, album, song)
    for album in range(2):
        put(folder / "fifth", f"album {album}/song.flac", 4, album, 0)
    shutil.copytree(folder / "fifth" / "mix", folder / "new")
    truth = ["ID,singer"]
    for song, (name, singer) in enumerate(UNSEEN.items()):
        put(folder / "test", name, singer, 4, song % 5)
        truth.append(f"{song + 1},{SINGERS[singer]}")
    (folder / "truth.csv").write_text("\n".join(truth) + "\n", encoding="utf-8")
    return run(steps, folder)


@pytest.fixture(scope="module")
def demo(sing: Put, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The folder of a run on synthetic singers, and all that it gave."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, answered(folder, sing, DEMO)


def test_synthetic_singers(demo: Demo, request: pytest.FixtureRequest) -> None:
    compare("demo", demo[1], request)


def test_another_number_of_threads_gives_the_same(demo: Demo, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo[0], tmp_path / "demo"))
    shutil.rmtree(folder / "out")
    for stores in (folder / "run").rglob("stores"):
        shutil.rmtree(stores)
    new = run(FUSE_AND_PREDICT, folder, threads=2)
    old = {
        key: value for key, value in demo[1].items() if key.startswith(("fuse:", "out/predict."))
    }
    assert len(old) > 50
    assert differences(old, {key: new[key] for key in new if key in old}) == []


@pytest.mark.slow
@pytest.mark.skipif(not VOICES.is_dir(), reason="the real-voice set is not beside the project")
def test_real_voices(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    def put(folder: Path, name: str, singer: int, album: int, song: int) -> None:
        for stem in ("mix", "vocals", "backing"):
            source = VOICES / stem
            for number in (singer, album, song):
                source = sorted(source.iterdir())[number]
            target = folder / stem / name
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, *soundfile.read(source))

    compare("voices", answered(tmp_path, put, REAL), request)
