"""What survives an epoch: the state to go on from, the best weights, the log.

Enters: Lightning's callbacks. Leaves: `log.csv`, and in `resume/` the last whole epoch and the best
weights so far; a line for each epoch.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embedder.artifact import replacing, write_text
from embedder.config import MemberConfig
from embedder.inference.checkpoint import HEAD, weights_of
from embedder.run import Run
from embedder.training.module import Training

Say = Callable[[str], None]

RESULTS = ("top1", "top3", "score", "nll", "segment_score")
COLUMNS = ("epoch", "loss", "lr", *RESULTS, "audio_per_s", "best")


class Keeper(Callback):
    """Keeps the best weights, the state after every whole epoch, and the log; stops early.

    An epoch is better if the score of the validation songs' segments is higher, or equal with a
    lower NLL of the songs. (By the songs' own score, one song more or less decides.) The best
    weights are written before the state, so a kill between the two only repeats the epoch.
    """

    def __init__(self, run: Run, name: str, audio_s: float, say: Say) -> None:
        self.run, self.name, self.audio_s, self.say = run, name, audio_s, say
        self.rows: list[dict[str, Any]] = []
        self.best: tuple[float, float] | None = None
        self.best_epoch = -1
        self.started = 0.0

    @property
    def best_weights(self) -> Path:
        return self.run.resume(self.name) / "best.safetensors"

    @property
    def state(self) -> Path:
        return self.run.resume(self.name) / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.best = None if state_dict["best"] is None else tuple(state_dict["best"])
        self.best_epoch = state_dict["best_epoch"]

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self.training_s = time.perf_counter() - self.started

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, Training)
        loss = float(torch.stack(pl_module.losses).mean())
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        said = self.keep(pl_module, trainer.max_epochs, loss, lr, self.training_s)
        trainer.should_stop = trainer.should_stop or self.finished(pl_module.config)
        with replacing(self.state) as temporary:
            trainer.save_checkpoint(temporary)
        self.say(said)

    def keep(
        self, training: Training, epochs: int | None, loss: float, lr: float, seconds: float
    ) -> str:
        """Log the epoch that is done and validated, and keep its weights if it is the best so far.

        `seconds`: how long it trained. Returns the line that tells of it.
        """
        result = training.validation_result()
        key = (result["segment_score"], -result["nll"])
        better = self.best is None or key > self.best
        if better:
            self.best, self.best_epoch = key, len(self.rows)
            self._save_best(training)
        row = {
            "epoch": len(self.rows) + 1,
            "loss": round(loss, 5),
            "lr": lr,
            **{name: round(value, 5) for name, value in result.items()},
            "audio_per_s": round(self.audio_s / max(1e-9, seconds)),
            "best": int(better),
        }
        self.rows.append(row)
        self._write_log()
        return (
            f"epoch {row['epoch']:>3}/{epochs}  loss {loss:6.3f}  "
            f"validation songs: top-1 {result['top1']:.3f}  top-3 {result['top3']:.3f}  "
            f"score {result['score']:.3f}  NLL {result['nll']:.3f}  "
            f"segments: score {result['segment_score']:.3f}  "
            f"{row['audio_per_s']} s of audio/s{'  *' if better else ''}"
        )

    def finished(self, config: MemberConfig) -> bool:
        """Whether all epochs are done, or none has been better for `patience` of them."""
        done = len(self.rows)
        waited = done - 1 - self.best_epoch
        return done >= config.train.epochs or (done > 0 and waited >= config.train.patience)

    def clear(self) -> None:
        """Take away what only an unfinished training needs, and what killed ones left behind."""
        for file in self.run.resume(self.name).iterdir():
            if file.name != "settings.json":
                file.unlink()
        for file in self.run.member(self.name).glob(".*"):
            file.unlink()

    def _save_best(self, training: Training) -> None:
        with replacing(self.best_weights) as temporary:
            save_file(weights_of(training.network, training.loss.head()), temporary)

    def _write_log(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.run.log(self.name), text.getvalue())

    def load_best(self, network: nn.Module) -> Tensor | None:
        """Put the best weights into a network; return the head, or None."""
        tensors = load_file(self.best_weights)
        head = tensors.pop(HEAD, None)
        network.load_state_dict(tensors)
        return head
