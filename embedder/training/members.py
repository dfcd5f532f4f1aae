"""Training of one member, from a prepared run folder to `members/<name>/`.

Enters: a run folder, a catalogue and a `MemberConfig`. Leaves: a trained `Member` on disk.
Killed at any moment and started again, it goes on from the last whole epoch.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils.data import DataLoader

from embedder.architectures import ARCHITECTURES
from embedder.artifact import file_fingerprint
from embedder.catalogue import Catalogue, Song, stems_fingerprint
from embedder.config import MemberConfig
from embedder.data.cache import AudioCache
from embedder.data.datasets import Crops
from embedder.data.loaders import Ahead
from embedder.data.samplers import SingerBatches
from embedder.errors import Command, UserError
from embedder.inference.checkpoint import Member, load_member, save_member, settings_fingerprint
from embedder.inference.config import detector_fingerprint
from embedder.inference.detector import load_detector
from embedder.models.network import count_parameters, default_device
from embedder.models.separators.own import load_vocal_separator
from embedder.models.zoo.total_variability import fit_network
from embedder.run import Run, prepare_again
from embedder.training.checkpoint_callback import Keeper, Say
from embedder.training.folder import open_training
from embedder.training.module import Training, WholeSongs
from embedder.training.runner import fitting, open_trainer, precision
from embedder.training.warm_start import Start, published_start


def train_member(
    run: Run,
    catalogue: Catalogue,
    name: str,
    config: MemberConfig,
    *,
    start: Start | None = None,
    device: str = "auto",
    overwrite: bool = False,
    show_bar: bool = False,
    say: Say = print,
) -> Member:
    """Train the member `name`, or go on with a training that was cut off.

    `start` gives the weights to begin from; without it they are random, but for a backbone that
    stands on published ones.

    Raises:
        UserError: no validation songs, no vocals for `stem` vocals, no separator for `stem`
            separated, or a member of this name with other settings or songs (unless `overwrite`,
            which takes the old one away).
    """
    number = {singer: label for label, singer in enumerate(catalogue.singers)}
    train, validation = catalogue.of("train"), catalogue.of("validation")
    _check_songs(run, train, validation, config)
    separator = load_vocal_separator(run) if config.train.stem == "separated" else None
    if separator is not None:
        config = config.model_copy(update={"separator": separator.config})
    start = start or published_start(config)
    if _open_folder(run, catalogue, name, config, start, overwrite):
        say(f"{name} is already trained with these settings; --overwrite trains it anew")
        return load_member(run, name)

    samples = config.train.batch_singers * config.train.batch_crops
    per_epoch = max(1, round(config.train.crops_per_song * len(train) / samples))
    labels = [number[song.singer] for song in train]
    batches = SingerBatches(
        labels,
        [song.album_id for song in train],
        singers=config.train.batch_singers,
        crops=config.train.batch_crops,
        batches=per_epoch,
        seed=config.train.seed,
    )
    cache = AudioCache(run.cache)
    workers = config.train.workers
    loader: DataLoader[Any] = Ahead(
        Crops(train, labels, run.cache, config),
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
    )
    truth = [number[song.singer] for song in validation]
    target = default_device(device)
    songs: DataLoader[Any] = DataLoader(
        WholeSongs(validation, truth, cache, config, load_detector(run, target)), batch_size=None
    )
    torch.manual_seed(config.train.seed)
    training = Training(
        config,
        len(catalogue.singers),
        per_epoch * config.train.epochs,
        WholeSongs(train, labels, cache, config),
    )
    if start:
        start.apply(training.network)
        if start.head is not None:
            training.loss.start_from(start.head)
        say(f"{name} begins from {start.name}")
    if separator is not None and training.network.separator is not None:
        training.network.separator.load_state_dict(separator.state_dict())
    crops = batches.singers * batches.crops * per_epoch
    keeper = Keeper(run, name, crops * config.train.segment_s, say)
    say(_opening(name, config, training, train, validation, target))
    trainer = open_trainer(
        target,
        precision(config, target),
        config.train.epochs,
        config.train.clip_norm,
        keeper,
        show_bar,
    )
    resumable = keeper.state.is_file()
    if resumable:
        state = torch.load(keeper.state, map_location="cpu", weights_only=True)
        keeper.load_state_dict(state["callbacks"]["Keeper"])
        say(f"going on after epoch {len(keeper.rows)}")
    if ARCHITECTURES[config.model.backbone].fitted:
        _fit_without_gradient(training, loader, songs, keeper)
    elif not keeper.finished(config):
        checkpoint = keeper.state if resumable else None
        with fitting():
            trainer.fit(training, loader, songs, ckpt_path=checkpoint, weights_only=True)
        if not keeper.finished(config):  # Lightning returns quietly from Ctrl-C
            raise KeyboardInterrupt
    head = keeper.load_best(training.network)
    member = Member(
        name=name,
        config=config,
        singers=catalogue.singers,
        catalogue=catalogue.fingerprint(),
        network=training.network,
        head=head,
    )
    best = dict(keeper.rows[keeper.best_epoch])
    del best["audio_per_s"]  # the same training gives the same bytes, however fast it was
    about = {
        "best_epoch": keeper.best_epoch + 1,
        "epochs": len(keeper.rows),
        "parameters": count_parameters(training.network),
        "validation": best,
        "validation_songs": len(validation),
        "remixed": bool(loader.dataset.backings) and config.train.recording == "mix",  # type: ignore[attr-defined]
    }
    save_member(run, member, about)
    keeper.clear()
    return load_member(run, name)


def _fit_without_gradient(
    training: Training, loader: DataLoader[Any], songs: DataLoader[Any], keeper: Keeper
) -> None:
    """Fit a network in place by expectation-maximisation, embed the validation songs, keep it.

    What stands for the loss in the log is minus the log-likelihood of a crop that the total
    variability adds to the background model's.
    """
    started = time.perf_counter()
    with torch.no_grad():
        network, settings = training.network, training.config.train
        head, likelihood = fit_network(network, loader, training.singers, settings, keeper.say)
        training.loss.start_from(head)
        seconds = time.perf_counter() - started
        training.on_validation_epoch_start()
        for index, song in enumerate(songs):
            training.validation_step(song, index)
    keeper.say(keeper.keep(training, 1, -likelihood, 0.0, seconds))


def _check_songs(
    run: Run, train: tuple[Song, ...], validation: tuple[Song, ...], config: MemberConfig
) -> None:
    if not train or not validation:
        raise UserError(
            f"{run.catalogue} has {len(train)} training and {len(validation)} validation songs; "
            f"training needs both: {prepare_again(split='album')}"
        )
    if config.train.stem == "vocals":
        without = [song.id for song in (*train, *validation) if not song.vocals]
        if without:
            raise UserError(
                f"{len(without)} songs have no vocal stem, {without[0]} for one; train with "
                "--stem mix, give the stems to prepare with --stems_dir, or make them with: "
                f"{Command('separate', method='hdemucs')}"
            )


def _open_folder(
    run: Run,
    catalogue: Catalogue,
    name: str,
    config: MemberConfig,
    start: Start | None,
    overwrite: bool,
) -> bool:
    wanted = {
        "fingerprint": settings_fingerprint(config, catalogue.fingerprint()),
        "catalogue": catalogue.fingerprint(),
        "stems": _stems_fingerprint(catalogue, config.train.stem),
        "start": start.fingerprint if start else "",
        "separator": _separator_fingerprint(run, config),
        "detector": detector_fingerprint(run),  # weighs the segments by which an epoch is chosen
        "config": config.to_dict(),
    }
    return open_training(run, name, wanted, overwrite)


def _stems_fingerprint(catalogue: Catalogue, stem: str) -> str:
    """Of the stems that a training hears: mixtures' crops are looked for, and remixed, by both."""
    if stem == "vocals":
        return stems_fingerprint((*catalogue.of("train"), *catalogue.of("validation")), "vocals")
    return stems_fingerprint(catalogue.of("train"), "vocals", "backing")


def _separator_fingerprint(run: Run, config: MemberConfig) -> str:
    separated = config.train.stem == "separated"
    return file_fingerprint(run.separator_weights) if separated else ""


def _opening(
    name: str,
    config: MemberConfig,
    training: Training,
    train: tuple[Song, ...],
    validation: tuple[Song, ...],
    device: torch.device,
) -> str:
    stems = sum(bool(song.vocals and song.backing) for song in train)
    if config.train.stem == "vocals":
        hears = "vocal stems"
    elif stems:
        hears = f"mixtures, {config.augment.remix:.0%} of them remixed from {stems} songs' stems"
        if config.train.stem == "both":
            hears = f"vocal stems and, as often, {hears}"
    elif config.augment.overlay:
        hears = (
            f"mixtures, {config.augment.overlay:.0%} of them under another song's opening or "
            "ending, where a band plays alone: no stems were prepared"
        )
    else:
        hears = (
            "mixtures as they are: neither stems nor overlays part the voices from their bands, "
            "and the network may learn albums instead of voices"
        )
    if config.train.stem == "separated":
        hears = f"what the run's own separator takes for vocals in {hears}"
    how = f"{config.loss.loss} loss, {precision(config, device)} on {device.type}"
    if ARCHITECTURES[config.model.backbone].fitted:
        how = "fitted without a loss, on cpu"
    return (
        f"{name}: {config.model.backbone}, {count_parameters(training.network) / 1e6:.2f} M "
        f"parameters, {how}\n"
        f"trains on {len(train)} songs of {training.singers} singers, validates on "
        f"{len(validation)}; hears {hears}"
    )
