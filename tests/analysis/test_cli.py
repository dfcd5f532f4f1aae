"""The commands of the pages where there are no pages: a copy of the program without `analysis/`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["analyze", "report", "serve"])
def test_a_copy_without_pages_says_so(name: str, tmp_path: Path) -> None:
    for part in ("app.py", "embedder", "ensemble"):
        (tmp_path / part).symlink_to(ROOT / part)
    code = f"import sys; sys.path[0] = {str(tmp_path)!r}; import app; sys.exit(app.main())"
    given = [name, "--run_dir", "runs", "--unknown", "1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *given],
        cwd=tmp_path, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: analysis is not part of this copy; this command needs")
