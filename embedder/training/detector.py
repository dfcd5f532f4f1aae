"""Training of a run's voice detector on its songs' stems.

Enters: a run folder and its catalogue. Leaves: `detector/`, with the accuracy on validation songs.
Killed at any moment and started again, it goes on from the last whole epoch. The last epoch is what
is kept: nothing is chosen on the validation songs, so their numbers are those of unheard songs.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from embedder.artifact import fingerprint, read_json, replacing, write_json
from embedder.catalogue import Catalogue, Song
from embedder.config import SAMPLE_RATE, MemberConfig, TrainConfig
from embedder.data.cache import AudioCache, Progress, no_progress
from embedder.data.datasets import FRAMES, VoicedRemixes
from embedder.data.loaders import Ahead
from embedder.data.samplers import EpochItems
from embedder.data.voice_activity import FRAME
from embedder.errors import UserError
from embedder.inference.detector import save_detector
from embedder.models.detector import VoiceDetector
from embedder.models.network import count_parameters, default_device
from embedder.run import Run, prepare_again
from embedder.training.checkpoint_callback import Say
from embedder.training.detector_accuracy import Accuracy, measure, rows_of
from embedder.training.runner import adamw, clip_gradients, fitting, open_trainer, precision

BATCH = 16  # remixes
SCHEDULE = TrainConfig(lr=0.003, lr_warmup=0.05)
RECIPE = 2  # raised whenever the same settings would train another detector


@dataclass(frozen=True)
class Plan:
    """How long to train."""

    epochs: int = 6
    steps: int = 100  # batches in an epoch: 16 remixes of 6 s each
    seed: int = 0


class DetectorTraining(lightning.LightningModule):
    """Binary cross-entropy of every frame."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.network = VoiceDetector()
        self.losses: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        steps = self.plan.epochs * self.plan.steps
        return adamw([{"params": list(self.parameters())}], SCHEDULE, steps)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        """By norm; Lightning's own way refuses fused optimisers."""
        clip_gradients(optimizer, gradient_clip_val)

    def on_train_epoch_start(self) -> None:
        self.losses = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if index == 0:  # dropout's draws belong to the epoch, so that a resumed one has the same
            torch.manual_seed(self.plan.seed * 100_003 + self.current_epoch)
        wave, labels = batch
        loss = functional.binary_cross_entropy_with_logits(self.network(wave), labels)
        self.losses.append(loss.detach())
        return loss


class _Epochs(Callback):
    """Keeps the state after every whole epoch, and says how far it is."""

    def __init__(self, run: Run, say: Say) -> None:
        self.run, self.say = run, say

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, DetectorTraining)
        with replacing(_state(self.run)) as temporary:
            trainer.save_checkpoint(temporary)
        loss = float(torch.stack(pl_module.losses).mean())
        self.say(f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  loss {loss:.3f}")


def train_detector(
    run: Run,
    catalogue: Catalogue,
    plan: Plan | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    show_bar: bool = False,
    say: Say = print,
    progress: Progress = no_progress,
) -> list[Accuracy]:
    """Train the run's voice detector, or go on with a training that was cut off.

    Returns its accuracy on the validation songs that have both stems, none if none has; and nothing
    new where the detector is there already.

    Raises:
        UserError: no training song has both stems, or a detector of other songs or settings is
            there (unless `overwrite`, which takes the old one away).
    """
    plan = plan or Plan()
    train, validation = (_with_stems(catalogue.of(split)) for split in ("train", "validation"))
    if not train:
        raise UserError(
            f"no training song in {run.catalogue} has both a vocal and a backing stem; a voice "
            f"detector learns from them: {prepare_again(stems_dir='STEMS')}"
        )
    if _open_folder(run, train, validation, plan, overwrite):
        say("the voice detector is already trained with these settings; --overwrite trains it anew")
        return []
    torch.manual_seed(plan.seed)
    training = DetectorTraining(plan)
    state = _state(run)
    resumable = state.is_file()
    target = default_device(device)
    epoch_s = plan.steps * BATCH * FRAMES * FRAME / SAMPLE_RATE
    say(
        f"voice detector: {count_parameters(training) / 1e3:.0f} k parameters, on {target.type}; "
        f"hears {epoch_s:.0f} s of remixes of {len(train)} songs in each of {plan.epochs} epochs"
    )
    trainer = open_trainer(
        target,
        precision(MemberConfig(), target),
        plan.epochs,
        SCHEDULE.clip_norm,
        _Epochs(run, say),
        show_bar,
    )
    remixes = VoicedRemixes(train, run.cache, plan.seed)
    loader: DataLoader[Any] = Ahead(
        remixes, batch_size=BATCH, sampler=EpochItems(plan.steps * BATCH)
    )
    checkpoint = state if resumable else None
    with fitting():
        trainer.fit(training, loader, ckpt_path=checkpoint, weights_only=True)
    if trainer.current_epoch < plan.epochs:  # Lightning returns quietly from Ctrl-C
        raise KeyboardInterrupt
    network = training.network.eval().requires_grad_(False)
    accuracies = measure(network, validation, AudioCache(run.cache), progress)
    about = {
        "catalogue": catalogue.fingerprint(),
        "training_songs": len(train),
        "epochs": plan.epochs,
        "steps": plan.steps,
        "seed": plan.seed,
        "parameters": count_parameters(training.network),
    }
    save_detector(run, network, about, rows_of(accuracies))
    for file in (*run.detector.glob(".*"), state):  # what only an unfinished training needs
        file.unlink(missing_ok=True)
    return accuracies


def _with_stems(songs: tuple[Song, ...]) -> tuple[Song, ...]:
    return tuple(song for song in songs if song.vocals and song.backing)


def _state(run: Run) -> Path:
    return run.detector / "last.ckpt"


def _open_folder(
    run: Run,
    train: tuple[Song, ...],
    validation: tuple[Song, ...],
    plan: Plan,
    overwrite: bool,
) -> bool:
    """Make the folder ready to begin or to go on; return whether the detector is there already."""
    settings = run.detector / "settings.json"
    stems = [f"{song.vocals} {song.backing} {song.audio}" for song in (*train, *validation)]
    wanted = {"recipe": RECIPE, **asdict(plan), "songs": fingerprint(str(len(train)), *stems)}
    finished = run.detector_weights.is_file()
    if run.detector.is_dir():
        same = settings.is_file() and read_json(settings) == wanted
        if finished and same and not overwrite:
            return True
        if finished and not same and not overwrite:
            raise UserError(
                f"{run.detector} holds a voice detector of other songs or settings; --overwrite "
                "trains it anew, and every store with it"
            )
        if finished or not same:
            shutil.rmtree(run.detector)
    write_json(settings, wanted)
    return False
