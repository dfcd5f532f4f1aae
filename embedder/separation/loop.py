"""What Lightning runs to train a separator, and what survives an epoch.

Enters: batches of `(mixture, vocals)`. Leaves: a trained `VocalSeparator`; after each epoch a line,
a row of `log.csv` and the state to go on from.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from embedder.artifact import replacing, write_text
from embedder.catalogue import Song
from embedder.config import SeparatorConfig, SeparatorTrainConfig, TrainConfig
from embedder.data.cache import AudioCache
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.optimise import adamw, clip_gradients
from embedder.run import Run
from embedder.separation.quality import Quick

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
