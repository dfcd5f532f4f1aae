"""`analyze --place`: files are heard as `predict` hears them, and lie on the finished map."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from embedder.catalogue import read_catalogue
from embedder.errors import UserError
from embedder.run import Run
from ensemble.cli.predict import files_at, place_files

Command = Callable[..., Any]


@pytest.fixture
def new(trained: Run, tmp_path: Path) -> Path:
    """A folder with a copy of a training song, below another folder, and a file of noise."""
    song = read_catalogue(trained.catalogue).of("train")[0]
    wave, rate = soundfile.read(song.path)
    folder = tmp_path / "new"
    (folder / "live").mkdir(parents=True)
    soundfile.write(folder / "live" / "copy <1>.wav", wave, rate)
    noise = np.random.default_rng(0).normal(0, 0.1, 32000)
    soundfile.write(folder / "noise.wav", noise, 16000)
    return folder


def test_files_are_found_and_named(new: Path) -> None:
    copy, noise = new / "live" / "copy <1>.wav", new / "noise.wav"
    assert files_at(new) == [(copy, "live/copy <1>"), (noise, "noise")]
    assert files_at(noise) == [(noise, "noise")]
    with pytest.raises(UserError, match=r"--place .*gone\.wav does not exist; give audio files"):
        files_at(new / "gone.wav")
    (new / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no audio file"):
        files_at(new / "empty")


def test_files_are_answered_as_predict_answers_them(
    new: Path, trained: Run, command: Command, tmp_path: Path
) -> None:
    noise = new / "noise.wav"
    placed = place_files(trained.root, None, [new, noise], "cpu")  # one of them twice
    assert placed.names == ("live/copy <1>", "noise", "noise")
    assert placed.paths == (new / "live" / "copy <1>.wav", noise, noise)
    np.testing.assert_allclose(placed.probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(placed.probabilities[1], placed.probabilities[2], atol=1e-6)
    done = command(
        "predict", "--test_dir", new, "--output", tmp_path / "p.csv", "--run_dir", trained.root
    )
    assert done.code == 0, done
    with (tmp_path / "p.csv").open(encoding="utf-8") as file:
        first = [row[1] for row in csv.reader(file)]
    best = [placed.singers[one] for one in placed.probabilities.argmax(axis=1)]
    assert first == best[:2]
    for member in ("aam", "triplet"):
        stores, files = placed.stores(member)
        assert files.tolist() == [0, 1, 2]
        assert {store.member for store in stores} == {member}


def test_a_copy_lies_where_its_original_does(
    new: Path, trained: Run, command: Command, tmp_path: Path
) -> None:
    finished = [trained.map(member, "song") for member in ("", "aam", "triplet")]
    options = ("--pages", "tsne", "--run_dir", trained.root)
    assert command("analyze", *options).code == 0
    before = [path.read_bytes() for path in finished]
    csv_of = tmp_path / "singers.csv"
    songs = read_catalogue(trained.catalogue).songs
    csv_of.write_text(f"singer,sex\n{songs[0].singer},f\n", encoding="utf-8")
    done = command(
        "analyze", "--place", new / "live" / "copy <1>.wav", new / "noise.wav",
        "--with_audio", "--singers_csv", csv_of, *options,
    )  # fmt: skip
    assert done.code == 0, done
    assert [path.read_bytes() for path in finished] == before  # the map stays as it was
    text = (trained.pages / "tsne.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    data = json.loads(found[1])
    assert data["files"]["title"] == ["copy <1>", "noise"]
    assert all((trained.pages / source).is_file() for source, _ in data["files"]["audio"])
    assert all((trained.pages / source).is_file() for source, _ in data["songs"]["audio"])
    assert "sex" in data["modes"]
    original = read_catalogue(trained.catalogue).of("train")[0].title
    row = data["songs"]["title"].index(original)
    for view in data["views"]:
        assert set(view["new"]["file"]) == {0, 1}
        if view["level"] != "song":
            continue
        place = view["first"]
        points = np.stack([view["x"][place], view["y"][place]], axis=1)
        copy = np.array([view["new"]["x"][place][0], view["new"]["y"][place][0]])
        gaps = np.linalg.norm(points - copy, axis=1)
        own = view["song"].index(row)
        assert gaps[own] < 0.15 * np.ptp(points, axis=0).max()
        assert gaps[own] < np.median(gaps)


def test_what_cannot_be_placed_is_refused(
    new: Path, trained: Run, refused: Callable[..., str]
) -> None:
    there = ("--run_dir", trained.root)
    (new / "text.wav").write_text("no audio", encoding="utf-8")
    said = refused("analyze", "--place", new / "text.wav", *there)
    assert "text.wav" in said
    assert "does not exist" in refused("analyze", "--place", new / "gone", *there)
    assert "new files go on the map with --place" in refused("analyze", new / "noise.wav", *there)
    wrong = ("--place", new / "gone", "--pages", "maps")
    assert "--pages maps is unknown" in refused("analyze", *wrong, *there)
    assert not trained.pages.exists()
