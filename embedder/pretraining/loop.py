"""What Lightning runs to pre-train a network, and what survives an epoch.

Enters: batches of two crops of each song. Leaves: a trained method with its network; after each
epoch a line, a row of `log.csv` and the state to go on from.
"""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from embedder.artifact import replacing, write_text
from embedder.keeper import Say
from embedder.models.frontends import SpecAugment
from embedder.models.network import Network
from embedder.optimise import adamw, clip_gradients
from embedder.pretraining.methods import METHODS, spread
from embedder.pretraining.settings import PretrainConfig
from embedder.run import Run

COLUMNS = ("epoch", "loss", "lr", "spread", "audio_per_s")


class Pretraining(lightning.LightningModule):
    """One method's training step and schedule."""

    def __init__(self, config: PretrainConfig, network: Network, steps: int) -> None:
        super().__init__()
        self.config = config
        self.steps = steps
        self.method = METHODS[config.own.method](config.own, network)
        member = config.member
        self.mask = SpecAugment(member.features, member.augment, network.features.mel_rows)
        self.losses: list[Tensor] = []
        self.spread = 0.0

    @property
    def network(self) -> Network:
        return self.method.online.network

    def configure_optimizers(self) -> Any:
        learning = [p for p in self.method.parameters() if p.requires_grad]
        return adamw([{"params": learning}], self.config.member.train, self.steps)

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
        if index == 0:  # masks and dropout belong to the epoch, so that a resumed one has the same
            torch.manual_seed(self.config.member.train.seed * 100_003 + self.current_epoch)
        wave, _ = batch
        loss, projection = self.method(self.mask(self.network.extract_features(wave)))
        self.losses.append(loss.detach())
        self.spread = spread(projection)
        self.log("loss", loss, prog_bar=True, logger=False)
        value: Tensor = loss
        return value

    def on_train_batch_end(self, *_: Any) -> None:
        self.method.after_step(self.global_step / self.steps)


class PretrainKeeper(Callback):
    """Keeps the state after every whole epoch, the log, and says how far it is.

    The last epoch is what is kept: without singers there is nothing to choose by.
    """

    def __init__(self, run: Run, name: str, audio_s: float, say: Say) -> None:
        self.run, self.name, self.audio_s, self.say = run, name, audio_s, say
        self.rows: list[dict[str, Any]] = []
        self.started = 0.0

    @property
    def state(self) -> Path:
        return self.run.resume(self.name) / "last.ckpt"

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
        assert isinstance(pl_module, Pretraining)
        loss = float(torch.stack(pl_module.losses).mean())
        row = {
            "epoch": trainer.current_epoch + 1,
            "loss": round(loss, 5),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "spread": round(pl_module.spread, 3),
            "audio_per_s": round(self.audio_s / max(1e-9, time.perf_counter() - self.started)),
        }
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.run.log(self.name), text.getvalue())
        with replacing(self.state) as temporary:
            trainer.save_checkpoint(temporary)
        self.say(
            f"epoch {row['epoch']:>3}/{trainer.max_epochs}  loss {loss:7.3f}  spread "
            f"{row['spread']:.2f} (0: collapsed)  {row['audio_per_s']} s of audio/s"
        )

    def clear(self) -> None:
        """Take away what only an unfinished training needs, and what killed ones left behind."""
        for file in self.run.resume(self.name).iterdir():
            if file.name != "settings.json":
                file.unlink()
        for file in self.run.member(self.name).glob(".*"):
            file.unlink()
