"""The commands of a run: they lead to the same settings again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from analysis.report.reproduction import fuse_command, prepare_command
from embedder.errors import Command
from embedder.inference.config import InferenceConfig
from embedder.presets import PRESETS
from embedder.settings import build_config, member_name, train_command
from ensemble.fusion.fitted import Fusion
from ensemble.fusion.fusers import Pooling


def parsed(command: Command) -> tuple[dict[str, str], dict[str, str]]:
    """(options, settings) of a command line."""
    words = shlex.split(str(command))
    assert words[:2] == ["python", "app.py"]
    pairs = list(zip(words[3::2], words[4::2], strict=True))
    options = {name.removeprefix("--"): value for name, value in pairs if name != "--set"}
    return options, dict(value.split("=") for name, value in pairs if name == "--set")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "crnn", "loss": "triplet", "lr": 0.00125, "epochs": 11},
        {"loss": "aam+triplet", "stem": "vocals", "seed": 5, "segment_s": 4.5, "remix": 0.1},
    ],
)
def test_a_member_is_trained_with_its_own_settings(preset: str, changes: dict[str, Any]) -> None:
    config = build_config(preset, changes=changes)
    options, settings = parsed(train_command("mine", config))
    assert options.pop("name") == "mine"
    again = build_config(options.pop("preset", "laptop"), changes={**settings, **options})
    assert again == config


def test_the_usual_name_is_not_given() -> None:
    config = build_config()
    assert "--name" not in str(train_command(member_name(config), config))
    assert str(train_command("a b", None)).endswith("--name 'a b'")


def test_prepare_names_folders_without_their_place() -> None:
    told = {
        "data_dir": "/home/ada/my songs", "split": "album", "seed": 3, "stems_dir": "/x/stems",
        "lists_dir": None, "keep_duplicates": True, "keep_duets": True,
    }  # fmt: skip
    assert str(prepare_command(told)) == (
        "python app.py prepare --data_dir 'my songs' --split album --stems_dir stems "
        "--keep_duplicates --keep_duets --seed 3"
    )
    assert str(prepare_command(None)) == "python app.py prepare --data_dir DATA"


def test_fuse() -> None:
    experts = {"a/head": 1.0, "b/head": 1.0}
    made = {"a": "x", "b": "y"}
    plain = Fusion(("s",), "probability", experts, Pooling("mean", experts), {}, made, {})
    assert str(fuse_command(plain)) == "python app.py fuse --members a,b --method mean"
    other = Fusion(
        ("s",), "vote", experts, Pooling("stack", experts), {}, made, {}, "as_norm",
        InferenceConfig(4.0, 1.5, 7),
    )  # fmt: skip
    options, _ = parsed(fuse_command(other))
    assert options == {
        "members": "a,b", "method": "stack", "aggregate": "vote", "score_norm": "as_norm",
        "segment_s": "4", "hop_s": "1.5", "tta": "7",
    }  # fmt: skip
