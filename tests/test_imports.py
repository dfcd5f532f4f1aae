"""Imports only go down, and nobody waits for a library that they do not use."""

from __future__ import annotations

import importlib.util
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("embedder", "ensemble", "analysis")


def python(code: str, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the contracts in a folder's `pyproject.toml`."""
    code = (
        "import sys; from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(no_cache=True, no_logo=True))"
    )
    return python(code, folder=folder)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of the program, to be built on wrongly."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    for name in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_imports_only_go_down() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


WRONG = [
    (
        "embedder/errors.py",
        "import embedder.config",
        "Inside the embedder an import only goes down",
    ),
    ("embedder/models/network.py", "import embedder.data.audio", "Inside the embedder an import"),
    ("ensemble/fusion/fit.py", "import torch", "Ensemble and analysis import no torch"),
    ("analysis/page.py", "import embedder.models.network", "Ensemble and analysis import no torch"),
    (
        "embedder/inference/store.py",
        "import ensemble.fusion.knn",
        "The embedder knows neither the ensemble",
    ),
    ("ensemble/fusion/knn.py", "import analysis.page", "the ensemble knows no"),
    ("embedder/inference/embed.py", "import lightning", "Prediction imports nothing"),
]


def test_every_import_that_goes_up_breaks_its_contract(program: Path) -> None:
    for path, line, _ in WRONG:
        file = program / path
        file.write_text(f"{file.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    done = lint(program)
    assert done.returncode == 1, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    for path, line, contract in WRONG:
        above, below = path.removesuffix(".py").replace("/", "."), line.removeprefix("import ")
        assert f"{above} -> {below}" in said
        assert contract in said
    assert " 0 kept" in said


def imported_by(code: str, *arguments: str) -> set[str]:
    """Top-level names of the modules that are loaded after some code has run."""
    report = (
        "\nimport json, sys\n"
        "print('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = python(code + report, *arguments)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def modules_of(package: str) -> list[str]:
    found = pkgutil.iter_modules([str(ROOT / package)])
    return [f"{package}.{module.name}" for module in found]


@pytest.mark.parametrize("package", ["ensemble", "analysis"])
def test_fusion_and_pages_start_without_torch(package: str) -> None:
    modules = modules_of(package)
    assert len(modules) >= 5
    loaded = imported_by(f"import {', '.join(modules)}")
    assert {package, "embedder", "numpy"} <= loaded
    assert not loaded & {"torch", "torchaudio", "lightning", "pytorch_metric_learning"}
    # Drawing and fitting are loaded where they are used, not before.
    assert not loaded & {"sklearn", "plotly", "openTSNE", "audiomentations"}


def test_help_waits_for_neither_torch_nor_numpy() -> None:
    code = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_path('app.py', run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert not done.code\n"
    )
    loaded = imported_by(code, "--help")
    assert {"typer", "embedder"} <= loaded
    assert not loaded & {"torch", "numpy", "scipy", "sklearn", "soundfile", "faiss", "sqlite3"}
    assert not loaded & {"analysis.page", "lightning", "plotly"}


PREDICTION = [
    "embedder.inference.checkpoint",
    "embedder.inference.embed",
    "ensemble.identifier",
    "embedder.inference.separate",
    "ensemble.fusion.pipeline",
    "ensemble.fusion.knn",
    "ensemble.fusion.calibration",
    "ensemble.fusion.fit",
    "ensemble.scoring",
    "ensemble.enrollment",
    "ensemble.predictions",
]
NOT_TO_PREDICT = {
    "lightning",
    "pytorch_metric_learning",
    "audiomentations",
    "plotly",
    "openTSNE",
    "sklearn",
    "pandas",
    "matplotlib",
}


def test_prediction_loads_nothing_that_only_training_or_drawing_needs() -> None:
    loaded = imported_by(f"import {', '.join(PREDICTION)}")
    assert {"torch", "torchaudio", "faiss", "soundfile", "safetensors"} <= loaded
    assert not loaded & NOT_TO_PREDICT


def test_the_libraries_that_are_watched_for_are_installed() -> None:
    """A misspelt or missing library would never be seen, and the tests above pass for nothing."""
    for name in (NOT_TO_PREDICT - {"pandas", "matplotlib"}) | {"torch", "torchaudio", "scipy"}:
        assert importlib.util.find_spec(name) is not None, name
