"""Training of a run's own separator on its training songs' stems.

Enters: a run folder, its catalogue, a `SeparatorTrainConfig`. Leaves: `separator/`, with the SI-SDR
before and after on validation songs. Killed at any moment and started again, it goes on from the
last whole epoch. The last epoch is what is kept: nothing is chosen on the validation songs, so
their numbers are those of unheard songs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from embedder.artifact import fingerprint, read_json, write_json
from embedder.catalogue import Catalogue, Song
from embedder.config import MemberConfig, SeparatorConfig, SeparatorTrainConfig
from embedder.data.ahead import Ahead
from embedder.data.cache import AudioCache, Progress, Source, decode_files, no_progress
from embedder.data.epoch_items import EpochItems
from embedder.data.mixtures import Mixtures
from embedder.data.prepare import with_stems
from embedder.data.stems import find_stems
from embedder.errors import Command, UserError
from embedder.fitting import fitting, open_trainer, precision
from embedder.models.network import count_parameters, default_device
from embedder.models.separators.own import load_vocal_separator, save_vocal_separator
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.run import Run
from embedder.separation.loop import SeparatorKeeper, SeparatorTraining
from embedder.separation.quality import measure, read_quality, write_quality

RECIPE = 2  # raised whenever the same settings would train another separator


@dataclass(frozen=True, eq=False)
class Trained:
    """A run's separator and what `separator_quality.summary` says of it."""

    separator: VocalSeparator
    quality: dict[str, dict[str, Any]]


def train_separator(
    run: Run,
    catalogue: Catalogue,
    shape: SeparatorConfig | None = None,
    config: SeparatorTrainConfig | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    show_bar: bool = False,
    say: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> Trained:
    """Train the run's separator, or go on with a training that was cut off.

    Only songs with both stems take part, of the training split; those of the validation split are
    for the numbers.

    Raises:
        UserError: no training song has both stems, or a separator of other songs or settings is
            there (unless `overwrite`, which takes the old one away).
    """
    shape, config = shape or SeparatorConfig(), config or SeparatorTrainConfig()
    train, validation = (_with_stems(catalogue.of(split)) for split in ("train", "validation"))
    if not train:
        raise UserError(
            f"no training song in {run.catalogue} has both a vocal and a backing stem, and a "
            f"separator learns from them: {Command('train-separator', stems_dir='STEMS')}"
        )
    if _open_folder(run, (*train, *validation), len(train), shape, config, overwrite):
        say("the separator is already trained with these settings; --overwrite trains it anew")
        return Trained(load_vocal_separator(run), read_quality(run))
    torch.manual_seed(config.seed)
    steps = max(1, config.crops // config.batch)
    training = SeparatorTraining(shape, config, steps * config.epochs)
    cache = AudioCache(run.cache)
    keeper = SeparatorKeeper(run, config, validation, cache, say)
    target = default_device(device)
    # The separator's own arithmetic is the members': bf16 where the device has it.
    arithmetic = precision(MemberConfig(), target)
    say(
        f"separator: {count_parameters(training) / 1e6:.2f} M parameters, {arithmetic} on "
        f"{target.type}; {config.epochs} epochs of {steps * config.batch * config.crop_s:.0f} s of "
        f"mixtures made of {len(train)} songs' stems"
    )
    trainer = open_trainer(target, arithmetic, config.epochs, config.clip_norm, keeper, show_bar)
    loader: DataLoader[Any] = Ahead(
        Mixtures(train, run.cache, config),
        batch_size=config.batch,
        sampler=EpochItems(steps * config.batch),
    )
    checkpoint = keeper.state if keeper.state.is_file() else None
    with fitting():
        trainer.fit(training, loader, ckpt_path=checkpoint, weights_only=True)
    if trainer.current_epoch < config.epochs:  # Lightning returns quietly from Ctrl-C
        raise KeyboardInterrupt
    separator = training.separator.eval().requires_grad_(False).to(target)
    quality = write_quality(
        run, measure(separator, validation, cache, config.seed, progress), config.seed
    )
    about = {
        "training": asdict(config),
        "parameters": sum(p.numel() for p in separator.parameters()),
        "songs": [song.id for song in train],
    }
    save_vocal_separator(run, separator, about)
    for file in (*run.separator.glob(".*"), keeper.state):  # only an unfinished training needs them
        file.unlink(missing_ok=True)
    return Trained(load_vocal_separator(run), quality)


def catalogue_with_stems(
    run: Run, catalogue: Catalogue, stems_dir: Path, progress: Progress = no_progress
) -> Catalogue:
    """The catalogue with the stems of `stems_dir` in the place of its own; nothing is written but
    the decoded audio in the cache.

    Raises:
        UserError: there are no stems of these songs.
    """
    stems = find_stems(stems_dir, [song.id for song in catalogue.songs])
    files: list[Source] = [files for found in stems.values() for files in found.values()]
    decoded = decode_files(files, AudioCache(run.cache), progress=progress)
    songs, _ = with_stems(catalogue.songs, stems, decoded)
    return Catalogue(tuple(songs))


def _with_stems(songs: tuple[Song, ...]) -> tuple[Song, ...]:
    return tuple(song for song in songs if song.vocals and song.backing)


def _open_folder(
    run: Run,
    songs: tuple[Song, ...],
    train: int,
    shape: SeparatorConfig,
    config: SeparatorTrainConfig,
    overwrite: bool,
) -> bool:
    """Make the folder ready to begin or to go on; return whether the separator is there already.

    `songs`: the first `train` of them to learn from, the rest to measure the separator on.
    """
    settings = run.separator / "settings.json"
    parts = (part for song in songs for part in (song.id, song.vocals, song.backing))
    wanted = {
        "recipe": RECIPE,
        "songs": fingerprint(str(train), *parts),
        **asdict(shape),
        **asdict(config),
    }
    finished = run.separator_weights.is_file()
    if run.separator.is_dir():
        same = settings.is_file() and read_json(settings) == wanted
        if finished and same and not overwrite:
            return True
        if finished and not overwrite:
            raise UserError(
                f"{run.separator} holds a separator of other songs or settings; --overwrite trains "
                "it anew"
            )
        if finished or not same:
            shutil.rmtree(run.separator)
    write_json(settings, wanted)
    return False
