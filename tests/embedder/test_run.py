"""A run folder: what is taken for one, how far it has come, and that one works in it at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedder.artifact import (
    replace_folder,
    write_json,
    write_text,
)
from embedder.errors import UserError
from embedder.run import (
    INFO,
    Run,
    RunInfo,
    abandon_run,
    create_run,
    locked,
    open_run,
    preparation,
    vectors_of,
)


def test_a_run_folder_is_made_once_and_opened_after(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "runs"
    run = create_run(root)
    assert preparation(run) == {}
    INFO.write(run.info, RunInfo({"seed": 3}))
    assert create_run(root) == open_run(root) == Run(root)
    assert preparation(run) == {"seed": 3}  # made again, it loses nothing


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
    write_json(tmp_path / "run.json", {"format": INFO.version + 1})
    for action in (open_run, create_run):
        with pytest.raises(
            UserError, match=f"format {INFO.version + 1}, this program reads .* {INFO.version}"
        ):
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


def test_a_run_is_abandoned_only_while_it_holds_nothing(tmp_path: Path) -> None:
    run = create_run(tmp_path / "new")
    abandon_run(run)
    assert not run.root.exists()
    run = create_run(tmp_path / "used")
    write_text(run.catalogue, "songs")
    abandon_run(run)
    assert sorted(path.name for path in run.root.iterdir()) == ["catalogue.csv", "run.json"]


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
from embedder.run import locked, open_run

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
