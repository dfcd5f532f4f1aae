"""A Python that is too old, and packages that are missing or broken: one line, and exit code 2."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import app
import embedder
from embedder.errors import Command

ROOT = Path(__file__).parents[1]


def started(before: str, *words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`python app.py …` in a process in which `before` runs first."""
    program = (
        f"import runpy, sys\nsys.argv = {['app.py', *words]!r}\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n{before}\n"
        f"runpy.run_path({str(ROOT / 'app.py')!r}, run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, encoding="utf-8", cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def line_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


MISSING = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Missing())
"""


def test_a_python_of_2016_can_read_the_whole_of_app_py() -> None:
    source = (ROOT / "app.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    futures = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in futures if node.module == "__future__" for alias in node.names}
    assert "annotations" not in names  # a SyntaxError before 3.7


@pytest.mark.parametrize("version", [(3, 6, 9), (3, 10, 14)])
def test_a_python_that_is_too_old_is_refused(version: tuple[int, int, int]) -> None:
    old = f"sys.version_info = {version!r} + ('final', 0)"
    line = line_of(started(old, "--help"))
    assert "Python 3.11" in line
    assert ".".join(map(str, version)) in line


@pytest.mark.parametrize(
    ("module", "package", "file", "command"),
    [
        ("typer", "typer", "requirements.txt", "--help"),
        ("rich", "rich", "requirements.txt", "--help"),
        ("torch", "torch", "requirements.txt", "architectures"),
        ("gradio", "gradio", "requirements-web.txt", "serve"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    module: str, package: str, file: str, command: str, tmp_path: Path
) -> None:
    before = MISSING.format(name=module)
    if module == "gradio":  # not imported before it is asked for
        before = "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda n: None if "
        before += "n == 'gradio' else find(n)"
    line = line_of(started(before, command))
    assert f"{package} is not installed" in line
    assert line.endswith(f"python -m pip install -r {file}")
    elsewhere = line_of(started(before, command, folder=tmp_path))
    assert elsewhere.endswith(f"python -m pip install -r {ROOT / file}")


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("raise OSError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "does not exist"),
        ("from numpy import no_such_name", "no_such_name"),
        ("import part_of_it_that_is_gone", "part_of_it_that_is_gone is not installed"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named(
    problem: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(problem + "\n", encoding="utf-8")
    line = line_of(started(f"sys.path.insert(0, {str(tmp_path)!r})", "architectures"))
    assert reason in line
    assert "-r requirements.txt" in line
    assert "torch is installed but cannot be loaded" in line or "not installed" in reason


@pytest.mark.parametrize(
    "source", ["1 / 0", "import embedder.no_such_part", "from embedder import no_such_part"]
)
def test_a_fault_of_the_program_itself_is_none_of_the_installation(source: str) -> None:
    with pytest.raises((ZeroDivisionError, ImportError)) as raised:
        exec(source, {"__name__": "embedder.broken"})
    assert app.broken_package(raised.value) == ""


def test_the_installed_script_runs_the_program_and_its_hints_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (name, target), *others = project["project"]["scripts"].items()
    assert not others
    module, function = target.split(":")
    assert getattr(importlib.import_module(module), function) is app.main
    assert str(Command("fuse")) == "python app.py fuse"
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{name}", "fuse"])
    assert str(Command("fuse")) == f"{name} fuse"


def test_what_naming_singers_needs_is_pinned_as_for_the_whole_program() -> None:
    few, all_ = (
        set((ROOT / file).read_text(encoding="utf-8").splitlines()[1:])
        for file in ("requirements-predict.txt", "requirements.txt")
    )
    assert few
    assert few < all_


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "embedder.__version__"}
    newest = next(
        line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("## ")
    )  # fmt: skip
    assert embedder.__version__.removesuffix(".dev0") in newest
