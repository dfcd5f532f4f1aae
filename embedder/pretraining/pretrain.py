"""Pre-training of a network on a run's training songs, without a word of who sings them.

Enters: a run folder, its catalogue, a `PretrainConfig`. Leaves: `pretrained/<name>/`, a checkpoint
like a member's but without singers, for `train-embedder --init` to begin from. Killed at any moment
and started again, it goes on from the last whole epoch.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch.utils.data import DataLoader

from embedder.artifact import fingerprint
from embedder.catalogue import Catalogue, Song
from embedder.data.ahead import Ahead
from embedder.data.crops import Crops
from embedder.data.song_pairs import SongPairs
from embedder.errors import UserError
from embedder.fitting import fitting, open_trainer, precision
from embedder.inference.checkpoint import Member, load_member, save_member
from embedder.keeper import Say
from embedder.models.network import Network, count_parameters, default_device
from embedder.opening import open_training
from embedder.pretraining.loop import Pretraining, PretrainKeeper
from embedder.pretraining.settings import PretrainConfig
from embedder.run import Run, prepare_again
from embedder.start import published_start


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
        "selfsupervised": asdict(config.own),
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
