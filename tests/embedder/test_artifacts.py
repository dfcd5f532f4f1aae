"""Nothing is half-written, nothing foreign is taken for a run folder, fingerprints tell apart."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.artifacts import (
    DISK_FULL,
    FORMAT,
    Run,
    abandon_run,
    create_run,
    file_fingerprint,
    fingerprint,
    locked,
    open_run,
    read_json,
    replace_folder,
    replacing,
    vectors_of,
    write_json,
    write_text,
)
from embedder.errors import UserError


def test_a_run_folder_is_made_once_and_opened_after(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "runs"
    run = create_run(root)
    assert read_json(run.info) == {"format": FORMAT}
    write_json(run.info, {"format": FORMAT, "prepared": {"seed": 3}})
    assert create_run(root) == open_run(root) == Run(root)
    assert read_json(run.info)["prepared"] == {"seed": 3}  # made again, it loses nothing


def test_an_empty_folder_becomes_a_run_folder_but_a_foreign_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert create_run(tmp_path / "empty").info.is_file()
    with pytest.raises(UserError, match=r"is not empty and is no run folder.*another --run_dir"):
        create_run(tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="is a file; --run_dir must be a folder"):
        create_run(tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "x"


def test_a_missing_run_and_another_format_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run folder at .*python app\.py prepare"):
        open_run(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    write_json(tmp_path / "run.json", {"format": FORMAT + 1})
    for action in (open_run, create_run):
        with pytest.raises(UserError, match=f"format {FORMAT + 1}, this program reads .* {FORMAT}"):
            action(tmp_path)


def test_all_paths_lie_inside_the_run_and_differ() -> None:
    run = Run(Path("r"))
    paths = [run.info, run.catalogue, run.cache, run.fusion, run.predictions, run.pages]
    for name in ("train", "validation", "test"):
        paths += [run.song_list(name), run.store("m", name)]
    paths += [run.member("m"), run.resume("m"), run.log("m"), run.members]
    paths += [run.index_table, vectors_of(run.index_table, "m", "ab")]
    assert len(set(paths)) == len(paths)
    assert all(path.parts[0] == "r" and len(path.parts) > 1 for path in paths)
    assert run.store("m", "train").is_relative_to(run.member("m"))


def test_members_are_those_that_finished(tmp_path: Path) -> None:
    run = create_run(tmp_path / "r")
    assert run.member_names() == []
    for name, done in [("b", True), ("a", True), ("killed", False)]:
        run.resume(name).mkdir(parents=True)
        if done:
            (run.member(name) / "model.safetensors").write_bytes(b"")
    assert run.member_names() == ["a", "b"]


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
        "import sys, pathlib; from embedder.artifacts import write_text; "
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


def test_a_run_is_abandoned_only_while_it_holds_nothing(tmp_path: Path) -> None:
    run = create_run(tmp_path / "new")
    abandon_run(run)
    assert not run.root.exists()
    run = create_run(tmp_path / "used")
    write_text(run.catalogue, "songs")
    abandon_run(run)
    assert sorted(path.name for path in run.root.iterdir()) == ["catalogue.csv", "run.json"]


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


def test_of_a_replaced_folder_nothing_is_left_that_could_come_back(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    for text in ("one", "two", "three"):
        write_text(run.root / "fusion.new" / "fusion.json", text)
        replace_folder(run.root / "fusion.new", run.fusion_folder)
    assert {path.name for path in run.root.iterdir()} == {"fusion", "run.json"}


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_takes_the_place_of_another_or_leaves_it(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(tmp_path / "run")
    new = run.root / "fusion.new"
    if there:
        write_text(run.fusion, "old")
    write_text(new / "fusion.json", "new")

    def fail(self: Path, target: Path) -> Path:
        if self == new:
            raise OSError("in use")
        return rename(self, target)

    rename = Path.rename
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="in use"):
            replace_folder(new, run.fusion_folder)
    assert run.fusion_folder.exists() is there
    assert not there or run.fusion.read_text(encoding="utf-8") == "old"
    replace_folder(new, run.fusion_folder)
    assert run.fusion.read_text(encoding="utf-8") == "new"
    assert {path.name for path in run.root.iterdir()} == {"run.json", "fusion"}


def test_a_fusion_that_a_kill_left_aside_is_put_back(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    write_text(run.root / "fusion.old" / "fusion.json", "old")
    assert open_run(run.root).fusion.read_text(encoding="utf-8") == "old"
    write_text(run.root / "fusion.old" / "fusion.json", "older")  # its removal was cut off
    assert open_run(run.root).fusion.read_text(encoding="utf-8") == "old"


HOLDS = """
import sys, time
from pathlib import Path
from embedder.artifacts import locked, open_run

with locked(open_run(Path(sys.argv[1])), "members/aam"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_process_at_a_time_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(run.root)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with locked(run, "members/triplet"), locked(run, "members/triplet"):
                pass
            with (
                pytest.raises(UserError, match=f"process {other.pid} is at work on members/aam"),
                locked(run, "members/aam"),
            ):
                pass
        finally:
            other.kill()
    with locked(run, "members/aam"):
        pass
    abandon_run(run)
    assert not run.root.exists()


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
