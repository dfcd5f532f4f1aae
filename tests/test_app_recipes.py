"""`recipe` and `benchmark`: the commands that call the others, on synthesised songs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import app
from embedder.recipes import Recipe
from embedder.run import Run
from embedder.training.speed import Speed

Command = Callable[..., Any]
Refused = Callable[..., str]
TINY = {
    "channels": 16, "mfa_channels": 32, "embedding_dim": 16, "attention_channels": 8, "epochs": 1,
    "crops_per_song": 2, "batch_singers": 3, "batch_crops": 2, "segment_s": 1.0,
    "eval_segment_s": 2.0, "eval_hop_s": 2.0,
}  # fmt: skip


@pytest.fixture
def tiny_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of tiny members under the real names, and a machine of known speed."""
    monkeypatch.setattr("embedder.training.speed.measure_speed", lambda *_: Speed(100.0, 400.0))
    members = {"first": TINY, "second": {**TINY, "loss": "triplet"}}
    recipes = {
        "laptop": Recipe("two tiny members", members),
        "best": Recipe("needs stems", members, stems="needed"),
        "nostems": Recipe("mixtures", {"first": TINY}, stems="unused"),
    }
    monkeypatch.setattr(app, "RECIPES", recipes)


@pytest.mark.usefixtures("tiny_recipes")
def test_a_recipe_goes_from_songs_to_pages(
    command: Command, synthesised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    words = ("recipe", "laptop", "--data_dir", synthesised / "mix", "--stems_dir", synthesised)
    words += ("--split", "album", "--run_dir", run.root)
    outcome = command(*words)
    assert outcome.code == 0, outcome.err
    plan = outcome.out[: outcome.out.index("min: prepare")]
    for step in ("prepare", "first: 1 epoch", "second: 1 epoch", "fuse", "analyze"):
        assert step in plan
    assert "minutes on this machine" in plan
    assert run.member_names() == ["first", "second"]
    assert "input: mixtures, 75% of them remixed from 4 songs' stems" in outcome.out
    assert (run.pages / "index.html").is_file()
    assert run.fusion.is_file()

    monkeypatch.setattr("embedder.data.prepare.prepare", None)  # neither again
    monkeypatch.setattr("lightning.Trainer.fit", None)
    before = run.fusion.read_bytes()
    outcome = command(*words)
    assert outcome.code == 0, outcome.err
    assert "first is already trained with these settings" in outcome.out
    assert run.fusion.read_bytes() == before


@pytest.mark.usefixtures("tiny_recipes")
def test_nostems_leaves_stems_alone(command: Command, synthesised: Path, tmp_path: Path) -> None:
    words = ("--data_dir", synthesised / "mix", "--stems_dir", synthesised, "--split", "album")
    outcome = command("recipe", "nostems", *words, "--run_dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "80% of them under another song's opening or ending" in outcome.out
    assert "stems: vocals of" not in outcome.out


@pytest.mark.usefixtures("tiny_recipes")
def test_a_recipe_that_needs_stems_says_so(
    refused: Refused, synthesised: Path, tmp_path: Path
) -> None:
    words = ("--data_dir", synthesised / "mix", "--run_dir", tmp_path / "run")
    assert refused("recipe", "best", *words) == (
        "recipe best needs stems: give them with --stems_dir, or make them first with prepare and "
        "separate; recipe nostems does without"
    )
    assert not (tmp_path / "run").exists()


def test_recipes_by_another_name_are_refused(refused: Refused, tmp_path: Path) -> None:
    message = refused("recipe", "worst", "--data_dir", tmp_path, "--run_dir", tmp_path / "run")
    assert message == "there is no recipe 'worst'; recipes are: laptop | best | nostems"


def test_a_benchmark_is_a_table_of_all_conditions(
    command: Command, synthesised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = tmp_path / "members.json"
    members.write_text(json.dumps({"a": TINY, "b": {**TINY, "loss": "triplet"}}), encoding="utf-8")
    words = ["benchmark", "--data_dir", synthesised / "mix", "--list", members]
    words += ["--splits", "album,song", "--segments", "1", "--run_dir", tmp_path / "bench"]
    outcome = command(*words, "--members", "a")
    assert outcome.code == 0, outcome.err
    outcome = command(*words)
    assert outcome.code == 0, outcome.err
    with (tmp_path / "bench/benchmark.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["member"], row["split"]) for row in csv.DictReader(file)]
    assert rows == [("a", "album"), ("a", "song"), ("b", "album"), ("b", "song")]
    for form in ("md", "html"):
        text = (tmp_path / f"bench/benchmark.{form}").read_text(encoding="utf-8")
        assert text.count("0.00 M") == 4 or text.count("0.01 M") == 4

    monkeypatch.setattr("lightning.Trainer.fit", None)  # all rows are there
    again = command(*words)
    assert again.code == 0, again.err


def test_a_benchmark_without_songs_leaves_nothing_behind(refused: Refused, tmp_path: Path) -> None:
    there = tmp_path / "bench"
    line = refused("benchmark", "--data_dir", tmp_path / "nowhere", "--run_dir", there)
    assert "nowhere does not exist" in line
    assert not there.exists()


def test_a_benchmark_s_wrong_words_are_refused(refused: Refused, tmp_path: Path) -> None:
    words = ("benchmark", "--data_dir", tmp_path, "--run_dir", tmp_path / "bench")
    assert refused(*words, "--members", "nobody").startswith(
        "the list has no member 'nobody'; it has: crnn-plain, "
    )
    assert refused(*words, "--splits", "artist") == (
        "--splits artist is unknown; choose from course, album, song, files"
    )
    assert refused(*words, "--seeds", "0.5") == (
        "--seeds takes whole numbers from 0 with commas, not '0.5'"
    )
    assert not (tmp_path / "bench").exists()
