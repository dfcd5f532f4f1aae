"""The pages' scripts: node's own test runner tries their functions; their lines stay readable."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.page import ASSETS

NODE = shutil.which("node")
TESTS = sorted((Path(__file__).parent / "assets").glob("*.test.mjs"))
SCRIPTS = sorted([*ASSETS.parent.rglob("*.js"), *ASSETS.parent.rglob("*.css")])


@pytest.mark.skipif(NODE is None, reason="no node on this machine")
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_functions(path: Path) -> None:
    done = subprocess.run([str(NODE), "--test", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_lines_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > 100] == []
    assert path.suffix == ".css" or lines[0] == '"use strict";'
