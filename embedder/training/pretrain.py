"""Pre-training of a network on a run's training songs, without a word of who sings them.

Enters: a run folder, its catalogue, a `PretrainConfig`. Leaves: `pretrained/<name>/`, a checkpoint
like a member's but without singers, for `train-embedder --init` to begin from. Killed at any moment
and started again, it goes on from the last whole epoch.
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
from torch.utils.data import DataLoader

from embedder.artifact import fingerprint, replacing, write_text
from embedder.catalogue import Catalogue, Song
from embedder.config import PretrainConfig
from embedder.data.datasets import Crops
from embedder.data.loaders import Ahead
from embedder.data.samplers import SongPairs
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member, save_member
from embedder.models.frontends import SpecAugment
from embedder.models.network import Network, count_parameters, default_device
from embedder.run import Run, prepare_again
from embedder.training.checkpoint_callback import Say
from embedder.training.folder import open_training
from embedder.training.runner import adamw, clip_gradients, fitting, open_trainer, precision
from embedder.training.self_supervised import METHODS, spread
from embedder.training.warm_start import published_start

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


def pretrain(
    run: Run,
    catalogue: Catalogue,
    name: str,
    config: PretrainConfig,
    *,
    device: str = "auto",
    overwrite: bool = False,
    show_bar: bool = False,
    say: Say = print,
) -> Member:
    """Pre-train the network `name`, or go on with a training that was cut off.

    Raises:
        UserError: fewer than two training songs, no vocals for `stem` vocals, or a network of this
            name with other settings or songs (unless `overwrite`, which takes the old one away).
    """
    shelf, member = run.pretrained, config.member
    train, songs = member.train, catalogue.of("train")
    _check_songs(run, songs, train.stem)
    heard = fingerprint(*(f"{song.id} {song.audio} {song.vocals} {song.backing}" for song in songs))
    wanted = {
        "fingerprint": fingerprint(config.fingerprint(), heard),
        "catalogue": heard,
        "config": config.to_dict(),
    }
    start = published_start(member)
    wanted["start"] = start.fingerprint if start else ""
    if open_training(shelf, name, wanted, overwrite):
        say(f"{name} is already trained with these settings; --overwrite trains it anew")
        return load_member(shelf, name)

    together = min(config.own.batch_songs, len(songs))
    per_epoch = max(1, round(train.crops_per_song * len(songs) / (2 * together)))
    loader: DataLoader[Any] = Ahead(
        Crops(songs, range(len(songs)), run.cache, member),
        batch_size=None,
        sampler=SongPairs(len(songs), batch_songs=together, batches=per_epoch, seed=train.seed),
        num_workers=train.workers,
        multiprocessing_context="spawn" if train.workers else None,
        persistent_workers=train.workers > 0,
    )
    torch.manual_seed(train.seed)
    network = Network(member)
    if start:
        start.apply(network)
    training = Pretraining(config, network, per_epoch * train.epochs)
    keeper = PretrainKeeper(shelf, name, 2 * together * per_epoch * train.segment_s, say)
    target = default_device(device)
    arithmetic = precision(member, target)
    say(
        f"{name}: {config.own.method} of {member.model.backbone}, "
        f"{count_parameters(network) / 1e6:.2f} M parameters, {arithmetic} on {target.type}\n"
        f"hears two crops each of {len(songs)} songs, {together} songs in a batch, and no singers"
    )
    trainer = open_trainer(target, arithmetic, train.epochs, train.clip_norm, keeper, show_bar)
    checkpoint = keeper.state if keeper.state.is_file() else None
    with fitting():
        trainer.fit(training, loader, ckpt_path=checkpoint, weights_only=True)
    if len(keeper.rows) < train.epochs:  # Lightning returns quietly from Ctrl-C
        raise KeyboardInterrupt
    last = {key: keeper.rows[-1][key] for key in ("loss", "spread")}
    about = {
        "method": config.own.method,
        "selfsupervised": config.own.model_dump(),
        "epochs": len(keeper.rows),
        "parameters": count_parameters(network),
        "songs": len(songs),
        **last,
    }
    save_member(shelf, Member(name, member, (), heard, training.network.cpu(), None), about)
    keeper.clear()
    return load_member(shelf, name)


def _check_songs(run: Run, songs: tuple[Song, ...], stem: str) -> None:
    if len(songs) < 2:
        raise UserError(
            f"{run.catalogue} has {len(songs)} training songs; pre-training tells songs apart, and "
            f"needs two or more: {prepare_again(split='album')}"
        )
    without = [song.id for song in songs if not song.vocals]
    if without and stem == "vocals":
        raise UserError(
            f"{len(without)} songs have no vocal stem, {without[0]} for one; pretrain with --stem "
            f"mix, or give the stems with: {prepare_again(stems_dir='STEMS')}"
        )
