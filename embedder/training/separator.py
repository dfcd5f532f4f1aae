"""Training of a run's own separator on its training songs' stems.

Enters: a run folder, its catalogue, a `SeparatorTrainConfig`. Leaves: `separator/`, with the SI-SDR
before and after on validation songs. Killed at any moment and started again, it goes on from the
last whole epoch. The last epoch is what is kept: nothing is chosen on the validation songs, so
their numbers are those of unheard songs.
"""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from embedder.artifact import fingerprint, read_json, replacing, write_json, write_text
from embedder.catalogue import Catalogue, Song
from embedder.config import MemberConfig, SeparatorConfig, SeparatorTrainConfig, TrainConfig
from embedder.data.cache import AudioCache, Progress, Source, decode_files, no_progress
from embedder.data.datasets import Mixtures
from embedder.data.loaders import Ahead
from embedder.data.prepare import with_stems
from embedder.data.samplers import EpochItems
from embedder.data.stems import find_stems
from embedder.errors import Command, UserError
from embedder.models.network import count_parameters, default_device
from embedder.models.separators.own import load_vocal_separator, save_vocal_separator
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.run import Run
from embedder.training.runner import adamw, clip_gradients, fitting, open_trainer, precision
from embedder.training.separator_quality import Quick, measure, read_quality, write_quality

COLUMNS = ("epoch", "loss", "gain_db", "audio_per_s")
SOFT = 1e-3  # τ: a distortion 30 dB below the mixture is as good as none
EMPTY = 1e-8  # mean square of a mixture that is silent


def snr_loss(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Distortion to mixture, dB, mean over the batch; waves `(batch, samples)` → a number.

    10 log10(|s − ŝ|² / |x|² + τ): the negative signal-to-noise ratio with a soft threshold τ
    (Wisdom et al., Unsupervised sound separation using mixture invariant training, NeurIPS 2020),
    measured against the mixture x, as Wisdom et al. (What's all the FUSS about free universal sound
    separation data?, ICASSP 2021) do for silent targets: crops need not be sung in.
    """
    distortion = (target - estimate).square().mean(dim=1)
    power = mixture.square().mean(dim=1) + EMPTY
    return (10 * torch.log10(distortion / power + SOFT)).mean()


class SeparatorTraining(lightning.LightningModule):
    """AdamW on `snr_loss`; the learning rate grows linearly, then falls by half a cosine."""

    def __init__(self, shape: SeparatorConfig, config: SeparatorTrainConfig, steps: int) -> None:
        super().__init__()
        self.config = config
        self.steps = steps
        self.separator = VocalSeparator(shape)
        self.losses: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        config = self.config
        rate = TrainConfig(
            lr=config.lr, lr_warmup=config.lr_warmup, weight_decay=config.weight_decay
        )
        return adamw([{"params": list(self.parameters())}], rate, self.steps)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        clip_gradients(optimizer, gradient_clip_val)

    def on_train_epoch_start(self) -> None:
        self.losses = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if index == 0:  # dropout's draws belong to the epoch, so that a resumed one has the same
            torch.manual_seed(self.config.seed * 100_003 + self.current_epoch)
        mixture, vocals = batch
        loss = snr_loss(self.separator(mixture), vocals, mixture)
        self.losses.append(loss.detach())
        self.log("loss", loss, prog_bar=True, logger=False)
        return loss


class SeparatorKeeper(Callback):
    """Keeps the state after every whole epoch, the log, and says how far it is."""

    def __init__(
        self,
        run: Run,
        config: SeparatorTrainConfig,
        validation: Sequence[Song],
        cache: AudioCache,
        say: Callable[[str], None],
    ) -> None:
        self.run, self.config, self.say = run, config, say
        self.quick = Quick(validation, cache)
        self.rows: list[dict[str, Any]] = []
        self.started = 0.0

    @property
    def state(self) -> Path:
        return self.run.separator / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.say(f"going on after epoch {len(self.rows)}")

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, SeparatorTraining)
        audio_s = len(pl_module.losses) * self.config.batch * self.config.crop_s
        speed = audio_s / max(1e-9, time.perf_counter() - self.started)
        loss = float(torch.stack(pl_module.losses).mean())
        gain = self.quick.gain(pl_module.separator)
        row = [trainer.current_epoch + 1, round(loss, 4), round(gain, 3), round(speed)]
        self.rows.append(dict(zip(COLUMNS, row, strict=True)))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.run.separator / "log.csv", text.getvalue())
        with replacing(self.state) as temporary:
            trainer.save_checkpoint(temporary)
        self.say(
            f"epoch {row[0]:>3}/{trainer.max_epochs}  loss {loss:7.3f} dB  "
            f"SI-SDR of validation vocals {gain:+.2f} dB  {speed:.0f} s of audio/s"
        )


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
        "training": config.model_dump(),
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
        **shape.model_dump(),
        **config.model_dump(),
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
