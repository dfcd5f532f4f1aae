"""Training of a run's voice detector on its songs' stems.

Killed at any moment and started again, it resumes after the last whole epoch. The last epoch is
what is kept: nothing is chosen on the validation songs, so their numbers are those of new songs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional

from embedder.artifact import fingerprint
from embedder.catalogue import Catalogue
from embedder.config import SAMPLE_RATE, TrainConfig
from embedder.data.cache import AudioCache, Progress, no_progress
from embedder.data.datasets import FRAMES, VoicedRemixes
from embedder.data.loaders import PrefetchLoader
from embedder.data.samplers import EpochItems
from embedder.data.voice_activity import FRAME
from embedder.errors import UserError
from embedder.inference.detector import save_detector
from embedder.models.detector import VoiceDetector
from embedder.models.network import count_parameters, default_device
from embedder.run import Run, exclusive, prepare_again
from embedder.text import counted
from embedder.training.checkpoint_callback import EpochResult, Say, Schedule
from embedder.training.detector_accuracy import Accuracy, measure_detection, rows_of
from embedder.training.folder import TrainingFolder
from embedder.training.runner import adamw, choose_precision, fit

BATCH = 16  # remixes
LEARNING = TrainConfig(lr=0.003, lr_warmup=0.05)
RECIPE = 2  # raised whenever the same settings would train another detector


@dataclass(frozen=True)
class DetectorTrainConfig:
    """How long to train a voice detector."""

    epochs: int = 6
    steps: int = 100  # batches in an epoch: 16 remixes of 6 s each
    seed: int = 0


class DetectorModule(lightning.LightningModule):
    """Binary cross-entropy of every frame; batches are `wave (batch, samples)`, `labels (batch,
    frames)`, 1 where someone sings."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.network = VoiceDetector()

    def configure_optimizers(self) -> Any:
        return adamw([{"params": list(self.parameters())}], LEARNING, self.steps)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        wave, labels = batch
        return functional.binary_cross_entropy_with_logits(self.network(wave), labels)


@exclusive("detector")
def train_detector(
    run: Run,
    catalogue: Catalogue,
    config: DetectorTrainConfig | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    show_bar: bool = False,
    say: Say = print,
    progress: Progress = no_progress,
) -> list[Accuracy]:
    """Train the run's voice detector, or resume a training that was cut off.

    Args:
        run: The prepared run folder.
        catalogue: Its songs, of which those with both stems take part.
        config: How long to train.
        device: "auto", "cpu", "cuda" or "mps".
        overwrite: Replace a detector that is there.
        show_bar: Show a progress bar.
        say: Gets a line for each epoch, and one before.
        progress: Shows how far the measuring is.

    Returns:
        Its accuracy on the validation songs that have both stems, empty if none has; and empty
        where the detector is there already.

    Raises:
        UserError: No training song has both stems, or a detector of other songs or settings is
            there (unless `overwrite`).
    """
    config = config or DetectorTrainConfig()
    train, validation = (catalogue.with_both_stems(split) for split in ("train", "validation"))
    if not train:
        raise UserError(
            f"no training song in {run.catalogue} has both a vocal and a backing stem; a voice "
            f"detector learns from them: {prepare_again(stems_dir='STEMS')}"
        )
    stems = [f"{song.vocals} {song.backing} {song.audio}" for song in (*train, *validation)]
    songs = fingerprint(str(len(train)), *stems)
    folder = TrainingFolder(run.detector, run.detector)
    if folder.open(
        {"recipe": RECIPE, **asdict(config), "songs": songs},
        lambda _: (
            f"{run.detector} holds a voice detector of other songs or settings; --overwrite "
            "trains it again, and every store with it"
        ),
        overwrite=overwrite,
    ):
        say(
            "the voice detector is already trained with these settings; --overwrite trains it again"
        )
        return []
    torch.manual_seed(config.seed)
    module = DetectorModule(config.epochs * config.steps)
    target = default_device(device)
    epoch_s = config.steps * BATCH * FRAMES * FRAME / SAMPLE_RATE
    say(
        f"voice detector: {count_parameters(module) / 1e3:.0f} k parameters, on {target.type}; "
        f"{epoch_s:.0f} s of remixes of {counted(len(train), 'song')} in each of "
        f"{counted(config.epochs, 'epoch')}"
    )
    remixes = VoicedRemixes(train, run.cache, config.seed)
    fit(
        module,
        PrefetchLoader(remixes, batch_size=BATCH, sampler=EpochItems(config.steps * BATCH)),
        folder,
        Schedule(config.epochs, config.seed, LEARNING.clip_norm, epoch_s),
        lambda: EpochResult({}),
        device=target,
        precision=choose_precision("auto", target),
        say=say,
        show_bar=show_bar,
    )
    parameters = count_parameters(module)
    network = module.network.eval().requires_grad_(False)
    accuracies = measure_detection(network, validation, AudioCache(run.cache), progress)
    about = {
        "catalogue": catalogue.fingerprint(),
        "training_songs": len(train),
        "epochs": config.epochs,
        "steps": config.steps,
        "seed": config.seed,
        "parameters": parameters,
    }
    save_detector(run, network, about, rows_of(accuracies))
    folder.clear()
    return accuracies
