"""What survives an epoch: its row in the log, the best weights, the state to resume from.

Why not Lightning's own callbacks. The promise is that a training killed at any moment ends in the
same bytes as one that was not. `CSVLogger` deletes the rows of before when a training is resumed.
`ModelCheckpoint` and `EarlyStopping` watch one number, where an epoch here is ranked by a score and
then by a likelihood; resumed after its last epoch, an `EarlyStopping` trains one epoch more; and
neither brings a file to the disk before it takes the place of the old one, nor sees a full disk.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file
from torch import Tensor, nn

from embedder.artifact import replacing, write_text
from embedder.errors import UserError
from embedder.training.folder import TrainingFolder

Say = Callable[[str], None]


@dataclass(frozen=True)
class Schedule:
    """How long a training lasts, and what its epochs share."""

    epochs: int  # at most
    seed: int
    clip_norm: float  # largest norm of all gradients together
    epoch_s: float  # audio in an epoch, s
    patience: int = 0  # epochs without a better one after which it stops; 0: it never does


@dataclass(frozen=True)
class EpochResult:
    """What is measured after an epoch."""

    columns: dict[str, float]  # of the log, beside those that every training has
    summary: str = ""  # follows the loss in the line on the screen
    rank: tuple[float, ...] = ()  # higher is better; () where the last epoch is kept


class CheckpointCallback(Callback):
    """Seeds each epoch, clips gradients, and keeps log, best weights and state after each epoch.

    The best weights are written before the state, so that a kill between the two only repeats the
    epoch. Clipping is here because Lightning's own refuses fused optimisers.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        schedule: Schedule,
        evaluate: Callable[[], EpochResult],
        say: Say,
        weights: Callable[[], dict[str, Tensor]] | None = None,
    ) -> None:
        """`weights` gives the tensors that are kept of the best epoch, by name."""
        self.folder, self.schedule, self.evaluate = folder, schedule, evaluate
        self.say, self.weights = say, weights
        self.rows: list[dict[str, Any]] = []
        self.best: tuple[float, ...] | None = None
        self.best_epoch = -1  # from 0
        self.losses: list[Tensor] = []
        self.started = self.training_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or none was better for as long as `patience` allows."""
        done, patience = len(self.rows), self.schedule.patience
        waited = done - 1 - self.best_epoch
        return done >= self.schedule.epochs or (0 < patience <= waited and done > 0)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.best = None if state_dict["best"] is None else tuple(state_dict["best"])
        self.best_epoch = state_dict["best_epoch"]
        self.say(f"going on after epoch {len(self.rows)}")

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if len(self.rows) != trainer.current_epoch:
            raise UserError(
                f"{self.folder.state} was written by another version of this program; remove it to "
                "train from the first epoch"
            )
        trainer.should_stop = self.finished

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.perf_counter()
        self.losses = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, _module: Any, _batch: Any, batch_idx: int
    ) -> None:
        """Masks and dropout draw from the global generator, which is tied to the epoch: a resumed
        training draws what an undisturbed one does. Not at the epoch's start: a loader that begins
        draws a number of its own after that, one that is resumed before it."""
        if batch_idx == 0:
            torch.manual_seed(self.schedule.seed * 100_003 + trainer.current_epoch)

    def on_before_optimizer_step(self, _trainer: Any, _module: Any, optimizer: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, self.schedule.clip_norm)

    def on_train_batch_end(self, _trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(outputs["loss"].detach())
        module.log("loss", self.losses[-1], prog_bar=True, logger=False)
        self.training_s = time.perf_counter() - self.started

    def on_train_epoch_end(self, trainer: lightning.Trainer, _module: Any) -> None:
        loss = float(torch.stack(self.losses).mean())
        line = self.record(loss, trainer.optimizers[0].param_groups[0]["lr"])
        trainer.should_stop = trainer.should_stop or self.finished
        with replacing(self.folder.state) as temporary:
            trainer.save_checkpoint(temporary)
        self.say(line)

    def record(self, loss: float, lr: float, epochs: int | None = None) -> str:
        """Log the epoch that just ended, and keep its weights if it is the best so far.

        Args:
            loss: Mean over its batches.
            lr: Learning rate at its end.
            epochs: How many there are. Default: those of the schedule.

        Returns:
            The line for the screen.
        """
        result = self.evaluate()
        better = bool(result.rank) and (self.best is None or result.rank > self.best)
        if better and self.weights is not None:
            self.best, self.best_epoch = result.rank, len(self.rows)
            with replacing(self.folder.best) as temporary:
                save_file(self.weights(), temporary)
        row = {
            "epoch": len(self.rows) + 1,
            "loss": round(loss, 5),
            "lr": lr,
            **{name: round(value, 5) for name, value in result.columns.items()},
            "audio_per_s": round(self.schedule.epoch_s / max(1e-9, self.training_s)),
            **({"best": int(better)} if result.rank else {}),
        }
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, row, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.folder.log, text.getvalue())
        return (
            f"epoch {row['epoch']:>3}/{epochs or self.schedule.epochs}  loss {loss:6.3f}"
            f"{result.summary}  {row['audio_per_s']} s of audio/s{'  *' if better else ''}"
        )
