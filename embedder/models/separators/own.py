"""The project's own separator on disk: `model.safetensors` and `config.json` in one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embedder.artifact import Artifact
from embedder.catalogue import read_catalogue
from embedder.config import SAMPLE_RATE, SeparatorConfig
from embedder.errors import Command, UserError
from embedder.models.separators.song_separator import SongSeparator
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.models.weights import load_weights, read_weights, save_weights, tensors_of
from embedder.run import Run
from embedder.text import counted

AGAIN = Command("train-separator", before="train it again", overwrite=True)
CHUNK_S = 30.0
OVERLAP_S = 1.0


@dataclass(frozen=True)
class SeparatorRecord:
    """What `config.json` says of the separator beside it."""

    config: SeparatorConfig
    about: dict[str, Any]  # how the training went


RECORD = Artifact("description of a separator", 1, SeparatorRecord, AGAIN, finite=False)


def save_vocal_separator(run: Run, separator: VocalSeparator, about: dict[str, Any]) -> None:
    """Write the run's separator. `about` joins `config.json`: how the training went."""
    config = run.separator / "config.json"
    RECORD.write(config, SeparatorRecord(separator.config, about))
    save_weights(run.separator_weights, "separator", tensors_of(separator), [config])


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
    learnt_from = set(RECORD.read(run.separator / "config.json").about.get("songs", ()))
    songs = read_catalogue(run.catalogue).songs
    apart = [song for song in songs if song.id in learnt_from and song.split != "train"]
    if apart:
        raise UserError(
            f"{run.separator} was trained on {counted(len(apart), 'song')} that are for "
            "validation or test "
            f"now, {apart[0].id} for one; {AGAIN}"
        )
    return separator


def read_vocal_separator(weights: Path, device: torch.device | None = None) -> VocalSeparator:
    """The separator whose weights and `config.json` lie in one folder; raises as the above."""
    path = weights.with_name("config.json")
    tensors = read_weights(weights, "separator", [path], AGAIN)
    config = RECORD.read(path).config
    if missing := SeparatorConfig.model_fields.keys() - config.model_fields_set:
        raise UserError(f"{path} lacks the settings {', '.join(sorted(missing))}; {AGAIN}")
    separator = VocalSeparator(config)
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
