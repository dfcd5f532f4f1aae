"""Training of one member, from a prepared run folder to `members/<name>/`.

Killed at any moment and started again, it resumes after the last whole epoch.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from embedder.architectures import ARCHITECTURES
from embedder.artifact import file_fingerprint
from embedder.catalogue import Catalogue, Song, stems_fingerprint
from embedder.config import MemberConfig
from embedder.data.cache import AudioCache
from embedder.data.datasets import Crops
from embedder.data.loaders import batch_loader
from embedder.data.samplers import SingerBatches
from embedder.errors import Command, UserError
from embedder.inference.checkpoint import (
    HEAD,
    Member,
    load_member,
    save_member,
    settings_fingerprint,
    weights_of,
)
from embedder.inference.config import detector_fingerprint
from embedder.inference.detector import load_detector
from embedder.models.network import count_parameters, default_device
from embedder.models.separators.own import load_vocal_separator
from embedder.models.zoo.total_variability import fit_network
from embedder.run import Run, exclusive, prepare_again
from embedder.text import counted
from embedder.training.checkpoint_callback import CheckpointCallback, Say, Schedule
from embedder.training.folder import open_network_folder
from embedder.training.module import MemberModule, SongSegments
from embedder.training.runner import choose_precision, fit
from embedder.training.warm_start import InitialWeights, published_weights


@exclusive("members/{name}")
def train_member(
    run: Run,
    catalogue: Catalogue,
    name: str,
    config: MemberConfig,
    *,
    start: InitialWeights | None = None,
    device: str = "auto",
    overwrite: bool = False,
    show_bar: bool = False,
    say: Say = print,
) -> Member:
    """Train the member `name`, or resume a training that was cut off.

    Args:
        run: The prepared run folder.
        catalogue: Its songs.
        name: Of the member, and of its folder.
        config: Its settings.
        start: Weights to begin from. Default: random ones, or those that the backbone builds on.
        device: "auto", "cpu", "cuda" or "mps".
        overwrite: Replace a member of this name.
        show_bar: Show a progress bar.
        say: Gets a line for each epoch, and some before.

    Returns:
        The trained member, as it is on disk.

    Raises:
        UserError: No validation songs, no vocals for `stem` vocals, no separator for `stem`
            separated, or a member of this name made from something else (unless `overwrite`).
        InUse: Another process trains it.
    """
    train, validation = catalogue.of("train"), catalogue.of("validation")
    _check_songs(run, train, validation, config)
    separator = load_vocal_separator(run) if config.train.stem == "separated" else None
    if separator is not None:
        config = config.model_copy(update={"separator": separator.config})
    start = start or published_weights(config)
    made_from = _made_from(run, catalogue, config, start)
    folder, finished = open_network_folder(run, name, made_from, overwrite)
    if finished:
        say(f"{name} is already trained with these settings; --overwrite trains it again")
        return load_member(run, name)

    labels = catalogue.labels(train)
    batches = _singer_batches(train, labels, config)
    crops = Crops(train, labels, run.cache, config)
    loader = batch_loader(crops, batches, config.train.workers)
    cache, target = AudioCache(run.cache), default_device(device)
    songs = SongSegments(
        validation, catalogue.labels(validation), cache, config, load_detector(run, target)
    )
    validation_loader: DataLoader[Any] = DataLoader(songs, batch_size=None)
    torch.manual_seed(config.train.seed)
    module = MemberModule(
        config,
        len(catalogue.singers),
        batches.batches * config.train.epochs,
        SongSegments(train, labels, cache, config),
    )
    if start:
        start.put_into(module.network, module.loss)
        say(f"{name} begins from {start.name}")
    if separator is not None and module.network.separator is not None:
        module.network.separator.load_state_dict(separator.state_dict())
    say(_description(name, config, module, train, validation, target))

    schedule = Schedule(
        epochs=config.train.epochs,
        seed=config.train.seed,
        clip_norm=config.train.clip_norm,
        epoch_s=batches.samples * config.train.segment_s,
        patience=config.train.patience,
    )

    def weights() -> dict[str, Tensor]:
        return weights_of(module.network, module.loss.head())

    if ARCHITECTURES[config.model.backbone].fitted:
        callback = CheckpointCallback(folder, schedule, module.epoch_result, say, weights)
        _fit_without_gradient(module, loader, validation_loader, callback)
    else:
        callback = fit(
            module,
            loader,
            folder,
            schedule,
            module.epoch_result,
            device=target,
            precision=choose_precision(config.train.precision, target),
            say=say,
            show_bar=show_bar,
            validation=validation_loader,
            weights=weights,
        )
    about = {
        "validation_songs": len(validation),
        "remixed": bool(crops.backings) and config.train.recording == "mix",
    }
    _save_best(run, catalogue, name, module, callback, about)
    return load_member(run, name)


def _singer_batches(
    train: tuple[Song, ...], labels: list[int], config: MemberConfig
) -> SingerBatches:
    """As many batches an epoch as give each song `crops_per_song` crops."""
    settings = config.train
    samples = settings.batch_singers * settings.batch_crops
    return SingerBatches(
        labels,
        [song.album_id for song in train],
        singers=settings.batch_singers,
        crops=settings.batch_crops,
        batches=max(1, round(settings.crops_per_song * len(train) / samples)),
        seed=settings.seed,
    )


def _save_best(
    run: Run,
    catalogue: Catalogue,
    name: str,
    module: MemberModule,
    callback: CheckpointCallback,
    about: dict[str, Any],
) -> None:
    """Write the member with the weights of its best epoch; its training needs no state any more."""
    best = load_file(callback.folder.best)
    head = best.pop(HEAD, None)
    network = module.network
    network.load_state_dict(best)
    row = dict(callback.rows[callback.best_epoch])
    del row["audio_per_s"]  # the same training gives the same bytes, however fast it was
    about = {
        "best_epoch": callback.best_epoch + 1,
        "epochs": len(callback.rows),
        "parameters": count_parameters(network),
        "validation": row,
        **about,
    }
    songs = catalogue.fingerprint()
    save_member(run, Member(name, module.config, catalogue.singers, songs, network, head), about)
    callback.folder.clear()


def _fit_without_gradient(
    module: MemberModule, loader: Any, songs: Any, callback: CheckpointCallback
) -> None:
    """Fit a network in place by expectation-maximisation, validate it, and keep it.

    What stands for the loss in the log is minus the log-likelihood of a crop that the total
    variability adds to the background model's.
    """
    started = time.perf_counter()
    with torch.no_grad():
        settings = module.config.train
        head, likelihood = fit_network(
            module.network, loader, module.singers, settings, callback.say
        )
        module.loss.start_from(head)
        callback.training_s = time.perf_counter() - started
        module.on_validation_epoch_start()
        for index, song in enumerate(songs):
            module.validation_step(song, index)
    callback.say(callback.record(-likelihood, 0.0, epochs=1))


def _check_songs(
    run: Run, train: tuple[Song, ...], validation: tuple[Song, ...], config: MemberConfig
) -> None:
    if not train or not validation:
        raise UserError(
            f"{run.catalogue} has {len(train)} training and {len(validation)} validation songs; "
            f"training needs both: {prepare_again(split='album')}"
        )
    without = [song.id for song in (*train, *validation) if not song.vocals]
    if without and config.train.stem == "vocals":
        raise UserError(
            f"{counted(len(without), 'song', ('has', 'have'))} no vocal stem, {without[0]} for "
            "one; train with "
            "--stem mix, give the stems to prepare with --stems_dir, or make them with: "
            f"{Command('separate', method='spleeter')}"
        )


def _made_from(
    run: Run, catalogue: Catalogue, config: MemberConfig, start: InitialWeights | None
) -> dict[str, Any]:
    """All that decides the outcome. Of stems, those that are in the crops: a mixture's are chosen
    by its vocals, and remixed with backings."""
    if config.train.stem == "vocals":
        songs = (*catalogue.of("train"), *catalogue.of("validation"))
        stems = stems_fingerprint(songs, "vocals")
    else:
        stems = stems_fingerprint(catalogue.of("train"), "vocals", "backing")
    separated = config.train.stem == "separated"
    return {
        "fingerprint": settings_fingerprint(config, catalogue.fingerprint()),
        "catalogue": catalogue.fingerprint(),
        "stems": stems,
        "start": start.fingerprint if start else "",
        "separator": file_fingerprint(run.separator_weights) if separated else "",
        "detector": detector_fingerprint(run),  # weighs the segments by which an epoch is chosen
        "config": config.to_dict(),
    }


def _description(
    name: str,
    config: MemberConfig,
    module: MemberModule,
    train: tuple[Song, ...],
    validation: tuple[Song, ...],
    device: torch.device,
) -> str:
    """What is trained, how, and on what."""
    stems = sum(bool(song.vocals and song.backing) for song in train)
    if config.train.stem == "vocals":
        source = "vocal stems"
    elif stems:
        source = f"mixtures, {config.augment.remix:.0%} of them remixed from {stems} songs' stems"
        if config.train.stem == "both":
            source = f"vocal stems and, as often, {source}"
    elif config.augment.overlay:
        source = (
            f"mixtures, {config.augment.overlay:.0%} of them under another song's opening or "
            "ending, where a band plays alone: no stems were prepared"
        )
    else:
        source = (
            "mixtures as they are: neither stems nor overlays part the voices from their bands, "
            "and the network may learn albums instead of voices"
        )
    if config.train.stem == "separated":
        source = f"what the run's own separator takes for vocals in {source}"
    precision = choose_precision(config.train.precision, device)
    how = f"{config.loss.loss} loss, {precision} on {device.type}"
    if ARCHITECTURES[config.model.backbone].fitted:
        how = "fitted without a loss, on cpu"
    return (
        f"{name}: {config.model.backbone}, {count_parameters(module.network) / 1e6:.2f} M "
        f"parameters, {how}\n"
        f"trains on {counted(len(train), 'song')} of {module.singers} singers, validates on "
        f"{len(validation)}; input: {source}"
    )
