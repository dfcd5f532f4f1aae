"""The snippets of docs/python-api.md run one after the other, in one interpreter, on a tiny run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import embedder
from embedder import Embedder
from embedder.catalogue import read_catalogue
from embedder.errors import UserError
from embedder.inference.store import read_store
from embedder.run import Run
from ensemble import SingerIdentifier

PAGE = Path(__file__).parents[1] / "docs" / "python-api.md"


@pytest.fixture
def notebook(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `runs`, `song.flac` and `other.flac`, where the code is run."""
    songs = read_catalogue(trained.catalogue).of("test")
    for name, song in zip(("song", "other"), songs, strict=False):
        shutil.copy(song.path, tmp_path / f"{name}.flac")
    trained.root.rename(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_snippets_run(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) >= 6
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, names)
    lines = capsys.readouterr().out.splitlines()
    singers = SingerIdentifier.load(notebook / "runs").singers
    assert lines[0] in singers
    assert "Ann" in lines
    assert lines[-1].startswith("(2, 16) (")
    assert "Ann" not in singers


@pytest.mark.usefixtures("notebook")
def test_whatever_a_recording_is_given_as_it_has_the_same_answer() -> None:
    wave = embedder.decode(Path("song.flac")).samples
    with SingerIdentifier.load("runs") as identifier:
        path, data = identifier.predict([Path("song.flac"), Path("song.flac").read_bytes()])
        assert path.top == data.top
        assert (path.name, data.name) == ("song", "recording 2")
        (array,) = identifier.predict(wave)
        (floats,) = identifier.predict((wave / 32768).astype(np.float32))
        assert array.top == floats.top == path.top
        assert identifier.predict("song.flac").rows()[0]["singer_1"] == path.singer
        with pytest.raises(UserError, match="recording 1: too short"):
            identifier.predict(np.zeros(100, np.int16))
        with pytest.raises(ValueError, match="mono"):
            identifier.predict(np.zeros((2, 16000), np.int16))


def test_a_member_is_loaded_from_its_folder_or_from_the_run(notebook: Path) -> None:
    one, other = Embedder.load("runs", "aam"), Embedder.load("runs/members/aam")
    store = one.embed("song.flac")
    assert np.array_equal(store.embeddings, other.embed("song.flac").embeddings)
    written = read_store(Run(notebook / "runs").store("aam", "test"))
    assert np.array_equal(store.embeddings[0], written.embeddings[0])
    assert store.singers == one.singers == written.singers
    with pytest.raises(UserError, match="2 members; name one: aam, triplet"):
        Embedder.load("runs")
    with pytest.raises(UserError, match="there is no trained member 'x'"):
        Embedder.load("runs", "x")


def test_importing_the_packages_loads_nothing_heavy() -> None:
    code = (
        "import sys, embedder, ensemble\n"
        "heavy = {'torch', 'numpy', 'faiss', 'pydantic', 'sklearn'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PAGE.parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
