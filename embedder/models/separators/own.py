"""The project's own separator on disk: `model.safetensors` and `config.json` in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from embedder.artifact import read_json, write_json
from embedder.catalogue import read_catalogue
from embedder.config import SAMPLE_RATE, SeparatorConfig
from embedder.errors import Command, UserError
from embedder.models.separators.song_separator import SongSeparator
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.models.weights import load_weights, read_weights, save_weights, tensors_of
from embedder.run import FORMAT, Run

AGAIN = Command("train-separator", before="train it again", overwrite=True)
CHUNK_S = 30.0
OVERLAP_S = 1.0


def save_vocal_separator(run: Run, separator: VocalSeparator, about: dict[str, Any]) -> None:
    """Write the run's separator. `about` joins `config.json`: how the training went."""
    config = run.separator / "config.json"
    described = {"format": FORMAT, "config": separator.config.model_dump(), "about": about}
    write_json(config, described)
    save_weights(run.separator_weights, tensors_of(separator), [config])


def load_vocal_separator(run: Run, device: torch.device | None = None) -> VocalSeparator:
    """Read the run's separator, strictly: frozen, in eval mode.

    Raises:
        UserError: none is trained, its files are of another format or do not belong together, or it
            was trained on songs that the catalogue has kept apart since.
    """
    if not run.separator_weights.is_file():
        raise UserError(
            f"{run.root} has no separator of its own; train one with: {Command('train-separator')}"
        )
    separator = read_vocal_separator(run.separator_weights, device)
    learnt_from = set(read_json(run.separator / "config.json", AGAIN)["about"]["songs"])
    songs = read_catalogue(run.catalogue).songs
    apart = [song for song in songs if song.id in learnt_from and song.split != "train"]
    if apart:
        raise UserError(
            f"{run.separator} was trained on {len(apart)} songs that are for validation or test "
            f"now, {apart[0].id} for one; {AGAIN}"
        )
    return separator


def read_vocal_separator(weights: Path, device: torch.device | None = None) -> VocalSeparator:
    """The separator whose weights and `config.json` lie in one folder; raises as the above."""
    path = weights.with_name("config.json")
    tensors = read_weights(weights, "separator", [path], AGAIN)
    described = read_json(path, AGAIN)["config"]
    names = list(SeparatorConfig.model_fields)
    if sorted(described) != sorted(names):
        raise UserError(f"{path} has the settings {', '.join(described)}, not {', '.join(names)}")
    try:
        separator = VocalSeparator(SeparatorConfig.model_validate(described))
    except ValidationError as error:
        raise UserError(f"{path} holds illegal settings ({error}); {AGAIN}") from None
    load_weights(separator, tensors, weights, "its own config", AGAIN)
    return separator.to(device or torch.device("cpu"))


def load_own(run: Run, weights: Path | None, device: torch.device) -> SongSeparator:
    """The run's separator, or another run's whose `model.safetensors` is `weights`, for songs.

    Raises:
        UserError: none is trained, or the files are of another format or not of one training.
    """
    if weights is None:
        separator, path = load_vocal_separator(run, device), run.separator_weights
    else:
        path = weights / "model.safetensors" if weights.is_dir() else weights
        separator = read_vocal_separator(path, device)

    def split(wave: Tensor) -> tuple[Tensor, None]:
        return separator.refined(wave.to(device)[None])[0], None

    return SongSeparator("own", (path,), SAMPLE_RATE, split, CHUNK_S, OVERLAP_S)
