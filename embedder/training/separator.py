"""Training of a run's own separator of vocals, on its training songs' stems.

Killed at any moment and started again, it resumes after the last whole epoch. The last epoch is
what is kept: nothing is chosen on the validation songs, so their numbers are those of new songs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from embedder.artifact import fingerprint
from embedder.catalogue import Catalogue
from embedder.config import SeparatorConfig, SeparatorTrainConfig, TrainConfig
from embedder.data.cache import AudioCache, Progress, Source, decode_files, no_progress
from embedder.data.datasets import Mixtures
from embedder.data.loaders import PrefetchLoader
from embedder.data.prepare import with_stems
from embedder.data.samplers import EpochItems
from embedder.data.stems import find_stems
from embedder.errors import Command, UserError
from embedder.models.network import count_parameters, default_device
from embedder.models.separators.own import load_vocal_separator, save_vocal_separator
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.run import Run, exclusive
from embedder.text import counted
from embedder.training.checkpoint_callback import EpochResult, Say, Schedule
from embedder.training.folder import TrainingFolder
from embedder.training.runner import adamw, choose_precision, fit
from embedder.training.separator_quality import (
    QuickCheck,
    measure_separation,
    read_quality,
    write_quality,
)

RECIPE = 2  # raised whenever the same settings would train another separator
TAU = 1e-3  # a distortion 30 dB below the mixture is as good as none
EMPTY = 1e-8  # mean square of a mixture that is silent


@dataclass(frozen=True, eq=False)
class TrainedSeparator:
    """A run's separator and the `summary` of its quality."""

    separator: VocalSeparator
    quality: dict[str, dict[str, Any]]


def snr_loss(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Distortion to mixture, dB, mean over the batch: 10 log10(|s − ŝ|² / |x|² + τ).

    Args:
        estimate: `(batch, samples)`, the separated vocals ŝ.
        target: Likewise, the vocals s.
        mixture: Likewise, x.

    Source:
        The negative signal-to-noise ratio with a soft threshold τ: Wisdom et al., Unsupervised
        sound separation using mixture invariant training, NeurIPS 2020. Measured against the
        mixture, so that crops may be silent: Wisdom et al., What's all the FUSS about free
        universal sound separation data?, ICASSP 2021.
    """
    distortion = (target - estimate).square().mean(dim=1)
    power = mixture.square().mean(dim=1) + EMPTY
    return (10 * torch.log10(distortion / power + TAU)).mean()


class SeparatorModule(lightning.LightningModule):
    """AdamW on `snr_loss`; batches are `(mixture, vocals)`, `(batch, samples)` each."""

    def __init__(self, shape: SeparatorConfig, config: SeparatorTrainConfig, steps: int) -> None:
        super().__init__()
        self.config = config
        self.steps = steps
        self.separator = VocalSeparator(shape)

    def configure_optimizers(self) -> Any:
        config = self.config
        rate = TrainConfig(
            lr=config.lr, lr_warmup=config.lr_warmup, weight_decay=config.weight_decay
        )
        return adamw([{"params": list(self.parameters())}], rate, self.steps)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        mixture, vocals = batch
        return snr_loss(self.separator(mixture), vocals, mixture)


@exclusive("separator")
def train_separator(
    run: Run,
    catalogue: Catalogue,
    shape: SeparatorConfig | None = None,
    config: SeparatorTrainConfig | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    show_bar: bool = False,
    say: Say = print,
    progress: Progress = no_progress,
) -> TrainedSeparator:
    """Train the run's separator, or resume a training that was cut off.

    Only songs with both stems take part: those of the training split to learn from, those of the
    validation split for the numbers.

    Args:
        run: The prepared run folder.
        catalogue: Its songs, or the same songs with other stems.
        shape: Of the network.
        config: Of the training.
        device: "auto", "cpu", "cuda" or "mps".
        overwrite: Replace a separator that is there.
        show_bar: Show a progress bar.
        say: Gets a line for each epoch, and one before.
        progress: Shows how far the measuring is.

    Raises:
        UserError: No training song has both stems, or a separator of other songs or settings is
            there (unless `overwrite`).
    """
    shape, config = shape or SeparatorConfig(), config or SeparatorTrainConfig()
    train, validation = (catalogue.with_both_stems(split) for split in ("train", "validation"))
    if not train:
        raise UserError(
            f"no training song in {run.catalogue} has both a vocal and a backing stem, and a "
            f"separator learns from them: {Command('train-separator', stems_dir='STEMS')}"
        )
    stems = (part for s in (*train, *validation) for part in (s.id, s.vocals, s.backing))
    songs = fingerprint(str(len(train)), *stems)
    folder = TrainingFolder(run.separator, run.separator)
    if folder.open(
        {"recipe": RECIPE, "songs": songs, **shape.model_dump(), **config.model_dump()},
        lambda _: (
            f"{run.separator} holds a separator of other songs or settings; --overwrite trains "
            "it again"
        ),
        overwrite=overwrite,
    ):
        say("the separator is already trained with these settings; --overwrite trains it again")
        return TrainedSeparator(load_vocal_separator(run), read_quality(run))
    torch.manual_seed(config.seed)
    steps = max(1, config.crops // config.batch)
    module = SeparatorModule(shape, config, steps * config.epochs)
    cache, target = AudioCache(run.cache), default_device(device)
    precision = choose_precision("auto", target)
    epoch_s = steps * config.batch * config.crop_s
    say(
        f"separator: {count_parameters(module) / 1e6:.2f} M parameters, {precision} on "
        f"{target.type}; {counted(config.epochs, 'epoch')} of {epoch_s:.0f} s of "
        f"mixtures made of {len(train)} songs' stems"
    )
    check = QuickCheck(validation, cache)

    def evaluate() -> EpochResult:
        gain = check.gain(module.separator)
        return EpochResult({"gain_db": gain}, f" dB  SI-SDR of validation vocals {gain:+.2f} dB")

    fit(
        module,
        PrefetchLoader(
            Mixtures(train, run.cache, config),
            batch_size=config.batch,
            sampler=EpochItems(steps * config.batch),
        ),
        folder,
        Schedule(config.epochs, config.seed, config.clip_norm, epoch_s),
        evaluate,
        device=target,
        precision=precision,
        say=say,
        show_bar=show_bar,
    )
    separator = module.separator.eval().requires_grad_(False).to(target)
    rows = measure_separation(separator, validation, cache, config.seed, progress)
    quality = write_quality(run, rows, config.seed)
    about = {
        "training": config.model_dump(),
        "parameters": sum(p.numel() for p in separator.parameters()),
        "songs": [song.id for song in train],
    }
    save_vocal_separator(run, separator, about)
    folder.clear()
    return TrainedSeparator(load_vocal_separator(run), quality)


def catalogue_with_stems(
    run: Run, catalogue: Catalogue, stems_dir: Path, progress: Progress = no_progress
) -> Catalogue:
    """The catalogue with the stems of `stems_dir` in the place of its own; nothing is written but
    the decoded audio in the cache.

    Raises:
        UserError: There are no stems of these songs.
    """
    stems = find_stems(stems_dir, [song.id for song in catalogue.songs])
    files: list[Source] = [file for found in stems.values() for file in found.values()]
    decoded = decode_files(files, AudioCache(run.cache), progress=progress)
    songs, _ = with_stems(catalogue.songs, stems, decoded)
    return Catalogue(tuple(songs))
