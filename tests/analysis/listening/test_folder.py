"""The upload folder: in memory if there is room, closed to others, and gone at the end."""

from __future__ import annotations

import gc
import shutil
import stat
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from analysis.listening.folder import remove_at_the_end, upload_folder


def test_it_lies_in_memory_if_there_is_room(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    inside = upload_folder(free // 4, tmp_path)
    assert inside.parent == tmp_path.resolve()
    assert stat.S_IMODE(inside.stat().st_mode) == 0o700
    for room, place in ((free, tmp_path), (0, tmp_path / "not there")):
        outside = upload_folder(room, place)
        assert not outside.is_relative_to(tmp_path.resolve())
        outside.rmdir()


def test_it_goes_with_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "left.wav").touch()
    app = FastAPI()
    remove_at_the_end(app, folder)
    with TestClient(app):
        assert folder.is_dir()
    assert not folder.exists()


def test_it_goes_with_an_application_that_never_ran(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    app = FastAPI()
    remove_at_the_end(app, folder)
    del app
    gc.collect()
    assert not folder.exists()
