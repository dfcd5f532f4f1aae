"""Pre-training of a network on a run's training songs, without labels.

What comes of it is `pretrained/<name>/`, a checkpoint like a member's but without singers, for
`train-embedder --init` to begin from. Killed at any moment and started again, it resumes after the
last whole epoch. The last epoch is what is kept: without singers there is nothing to choose by.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from embedder.artifact import fingerprint
from embedder.catalogue import Catalogue, Song
from embedder.config import PretrainConfig
from embedder.data.datasets import Crops
from embedder.data.loaders import batch_loader
from embedder.data.samplers import SongPairs
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member, save_member
from embedder.models.frontends import SpecAugment
from embedder.models.network import Network, count_parameters, default_device
from embedder.run import Run, exclusive, prepare_again
from embedder.text import counted
from embedder.training.checkpoint_callback import EpochResult, Say, Schedule
from embedder.training.folder import open_network_folder
from embedder.training.runner import adamw, choose_precision, fit
from embedder.training.self_supervised import METHODS, spread
from embedder.training.warm_start import published_weights


class PretrainModule(lightning.LightningModule):
    """One method's training step and schedule; batches are two crops of each song."""

    def __init__(self, config: PretrainConfig, network: Network, steps: int) -> None:
        super().__init__()
        self.config = config
        self.steps = steps
        self.method = METHODS[config.own.method](config.own, network)
        member = config.member
        self.mask = SpecAugment(member.features, member.augment, network.features.mel_rows)
        self.spread = 0.0  # of the last batch

    @property
    def network(self) -> Network:
        return self.method.online.network

    def configure_optimizers(self) -> Any:
        learning = [p for p in self.method.parameters() if p.requires_grad]
        return adamw([{"params": learning}], self.config.member.train, self.steps)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        features = self.network.extract_features(batch[0])
        loss: Tensor
        loss, projection = self.method(self.mask(features))
        self.spread = spread(projection)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.method.after_step(self.global_step / self.steps)

    def epoch_result(self) -> EpochResult:
        return EpochResult({"spread": self.spread}, f"  spread {self.spread:.2f} (0: collapsed)")


@exclusive("pretrained/{name}")
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
    """Pre-train the network `name`, or resume a training that was cut off.

    Args:
        run: The prepared run folder.
        catalogue: Its songs.
        name: Of the network, and of its folder.
        config: Its settings.
        device: "auto", "cpu", "cuda" or "mps".
        overwrite: Replace a network of this name.
        show_bar: Show a progress bar.
        say: Gets a line for each epoch, and some before.

    Raises:
        UserError: Fewer than two training songs, no vocals for `stem` vocals, or a network of this
            name made from something else (unless `overwrite`).
    """
    networks, member = run.pretrained, config.member
    train, songs = member.train, catalogue.of("train")
    _check_songs(run, songs, train.stem)
    audio = fingerprint(*(f"{song.id} {song.audio} {song.vocals} {song.backing}" for song in songs))
    start = published_weights(member)
    made_from = {
        "fingerprint": fingerprint(config.fingerprint(), audio),
        "catalogue": audio,
        "config": config.to_dict(),
        "start": start.fingerprint if start else "",
    }
    folder, finished = open_network_folder(networks, name, made_from, overwrite)
    if finished:
        say(f"{name} is already trained with these settings; --overwrite trains it again")
        return load_member(networks, name)

    together = min(config.own.batch_songs, len(songs))
    steps = max(1, round(train.crops_per_song * len(songs) / (2 * together)))
    pairs = SongPairs(len(songs), batch_songs=together, batches=steps, seed=train.seed)
    crops = Crops(songs, range(len(songs)), run.cache, member)
    torch.manual_seed(train.seed)
    network = Network(member)
    if start:
        start.load(network)
    module = PretrainModule(config, network, steps * train.epochs)
    target = default_device(device)
    precision = choose_precision(train.precision, target)
    say(
        f"{name}: {config.own.method} of {member.model.backbone}, "
        f"{count_parameters(network) / 1e6:.2f} M parameters, {precision} on {target.type}\n"
        f"input: two crops each of {counted(len(songs), 'song')}, {counted(together, 'song')} in "
        "a batch, and no singers"
    )
    epoch_s = 2 * together * steps * train.segment_s
    callback = fit(
        module,
        batch_loader(crops, pairs, train.workers),
        folder,
        Schedule(train.epochs, train.seed, train.clip_norm, epoch_s),
        module.epoch_result,
        device=target,
        precision=precision,
        say=say,
        show_bar=show_bar,
    )
    about = {
        "method": config.own.method,
        "selfsupervised": config.own.model_dump(),
        "epochs": len(callback.rows),
        "parameters": count_parameters(network),
        "songs": len(songs),
        **{key: callback.rows[-1][key] for key in ("loss", "spread")},
    }
    save_member(networks, Member(name, member, (), audio, module.network.cpu(), None), about)
    folder.clear()
    return load_member(networks, name)


def _check_songs(run: Run, songs: tuple[Song, ...], stem: str) -> None:
    if len(songs) < 2:
        raise UserError(
            f"{run.catalogue} has {len(songs)} training songs; pre-training tells songs apart, and "
            f"needs two or more: {prepare_again(split='album')}"
        )
    without = [song.id for song in songs if not song.vocals]
    if without and stem == "vocals":
        raise UserError(
            f"{counted(len(without), 'song', ('has', 'have'))} no vocal stem, {without[0]} for "
            "one; pretrain with --stem "
            f"mix, or give the stems with: {prepare_again(stems_dir='STEMS')}"
        )
