"""The commands that train: members, pre-trained networks, the separator, the voice detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedder.architectures import ARCHITECTURES
from embedder.cli.arguments import (
    Assignments,
    ConfigFile,
    Device,
    ListSettings,
    Preset,
    RunDir,
    Seed,
    catalogue_of,
)
from embedder.console import on_terminal, print_table, say, shown
from embedder.errors import Command, UserError
from embedder.objectives import LEGAL_LOSSES
from embedder.presets import PRESETS, SEPARATOR_EPOCHS
from embedder.run import Run, locked, open_run

if TYPE_CHECKING:
    from embedder.config import MemberConfig
    from embedder.settings import Setting
    from embedder.training.warm_start import InitialWeights


def train_embedder(
    loss: Annotated[
        str | None, typer.Option("--loss", help=f"{LEGAL_LOSSES}. Default: aam.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help=f"{' | '.join(ARCHITECTURES)}. Default: ecapa.")
    ] = None,
    stem: Annotated[
        str | None,
        typer.Option("--stem", help="mix | vocals | both | separated. Default: mix."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help=" | ".join(PRESETS) + ". Default: laptop.")
    ] = None,
    finetune: Annotated[
        str | None,
        typer.Option("--finetune", help="Go on from this member, with a large margin."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", help="Begin from what pretrain made: its name, or a folder."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="ssl: its published weights, if not in torch's cache."),
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="The loss's margin. Default: its setting.")
    ] = None,
    segment_s: Annotated[
        float | None, typer.Option("--segment_s", help="Crops' length, s. Default: its setting.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed. Default: 0.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes. Default: preset.")] = None,
    config: ConfigFile = None,
    settings: Assignments = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Member's name. Default: <backbone>-<loss>.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a member of this name.")
    ] = False,
    list_settings: ListSettings = False,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Train one member; the same command goes on with one that was cut off.

    Example: python app.py train-embedder --loss triplet --set segment_s=4
    """
    from embedder.settings import (
        SETTINGS,
        build_config,
        margin_setting,
        member_name,
        parse_assignments,
        replaced,
    )

    given: dict[str, Any] = {"loss": loss, "backbone": backbone, "stem": stem}
    given |= {"seed": seed, "epochs": epochs, "segment_s": segment_s}
    chosen = {key: value for key, value in given.items() if value is not None}
    changes = parse_assignments(settings or ()) | chosen
    if finetune and (init or preset):
        raise UserError("--finetune takes the member's own settings: no --init and no --preset")
    start = None
    if finetune or init:
        from embedder.training.warm_start import fine_tuned, initialised

        run = open_run(run_dir, after="prepare")
        if finetune:
            beginning = fine_tuned(run, catalogue_of(run), finetune, config, changes)
        else:
            beginning = initialised(run, str(init), preset or "laptop", config, changes)
        built, start, own_name = beginning.config, beginning.weights, beginning.name
    else:
        built = build_config(preset or "laptop", config, changes)
        own_name = member_name(built)
    if margin is not None:
        built = replaced(built, {margin_setting(built.loss.loss): margin})
    if list_settings:
        print_settings(built.to_dict(), SETTINGS)
        return
    run = open_run(run_dir, after="prepare")
    if weights is not None:
        from embedder.training.warm_start import published_weights

        if start is not None:
            raise UserError("--weights is where a training begins; so are --init and --finetune")
        start = published_weights(built, weights)
    run_member_training(
        run, name or own_name, built, start=start, device=device, overwrite=overwrite
    )


def run_member_training(
    run: Run,
    name: str,
    config: MemberConfig,
    *,
    start: InitialWeights | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Train a member, or resume it, and say where it is."""
    from embedder.training.members import train_member

    train_member(
        run,
        catalogue_of(run),
        name,
        config,
        start=start,
        device=device,
        overwrite=overwrite,
        show_bar=on_terminal(),
        say=say,
    )
    say(f"wrote {run.member(name)}")
    say(f"next: train another member, or: {Command('fuse')}")


def pretrain(
    method: Annotated[
        str | None, typer.Option("--method", help="simclr | vicreg | byol. Default: simclr.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help=f"{' | '.join(ARCHITECTURES)}. Default: ecapa.")
    ] = None,
    stem: Annotated[
        str | None, typer.Option("--stem", help="mix | vocals | both. Default: mix.")
    ] = None,
    preset: Preset = "laptop",
    seed: Annotated[int | None, typer.Option("--seed", help="Seed. Default: 0.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes. Default: 20.")] = None,
    config: ConfigFile = None,
    settings: Assignments = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Network's name. Default: <method>-<backbone>.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a network of this name.")
    ] = False,
    list_settings: ListSettings = False,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Train a network on the songs alone, unlabelled, for train-embedder --init to begin from.

    Example: python app.py pretrain --method byol --stem vocals
    """
    from embedder.settings import (
        PRETRAIN_SETTINGS,
        SETTINGS,
        build_pretraining,
        parse_assignments,
        pretrained_name,
    )

    given: dict[str, Any] = {"method": method, "backbone": backbone, "stem": stem}
    given |= {"seed": seed, "epochs": epochs}
    chosen = {key: value for key, value in given.items() if value is not None}
    built = build_pretraining(preset, config, parse_assignments(settings or ()) | chosen)
    if list_settings:
        used = {name: one for name, one in SETTINGS.items() if one.group != "loss"}
        print_settings(built.to_dict(), PRETRAIN_SETTINGS | used)
        return
    run = open_run(run_dir, after="prepare")
    catalogue = catalogue_of(run)
    from embedder.training.pretrain import pretrain as train

    own_name = name or pretrained_name(built)
    network = train(
        run,
        catalogue,
        own_name,
        built,
        device=device,
        overwrite=overwrite,
        show_bar=on_terminal(),
        say=say,
    )
    say(f"wrote {run.pretrained.member(network.name)}")
    say(f"next: {Command('train-embedder', init=network.name)}")


def train_separator(
    stems_dir: Annotated[
        Path | None,
        typer.Option("--stems_dir", help="Stems to learn from. Default: those of the run's songs."),
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, max=10000, help="Passes over random mixtures.")
    ] = SEPARATOR_EPOCHS,
    seed: Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a separator that is there.")
    ] = False,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Train the run's own separator of vocals; the same command goes on after a stop.

    Example: python app.py train-separator --run_dir runs
    """
    run = open_run(run_dir, after="prepare")
    run_separator_training(
        run, epochs, seed, stems_dir=stems_dir, device=device, overwrite=overwrite
    )


def run_separator_training(
    run: Run,
    epochs: int = SEPARATOR_EPOCHS,
    seed: int = 0,
    *,
    stems_dir: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Train the run's separator, or resume it, and print how good it is."""
    from embedder.config import SeparatorTrainConfig
    from embedder.training.separator import catalogue_with_stems
    from embedder.training.separator import train_separator as train

    catalogue = catalogue_of(run)
    with locked(run, "separator"):
        if stems_dir is not None:
            catalogue = catalogue_with_stems(run, catalogue, stems_dir, shown)
        trained = train(
            run,
            catalogue,
            config=SeparatorTrainConfig(seed=seed, epochs=epochs),
            device=device,
            overwrite=overwrite,
            show_bar=on_terminal(),
            say=say,
            progress=shown,
        )
    rows = []
    for kind, found in trained.quality.items():
        cells = [
            f"{part['mean']:.2f} [{part['low']:.2f}, {part['high']:.2f}]"
            for part in (found["before"], found["after"], found["gain"])
        ]
        rows.append((kind, str(found["songs"]), *cells, f"{found['gain']['median']:.2f}"))
    print_table(
        "SI-SDR of the vocals of validation songs, dB, bootstrap 95 % intervals over albums",
        ("mixture", "songs", "before", "after", "gain", "median gain"),
        rows,
    )
    say(f"wrote {run.separator}")
    say(f"next: {Command('separate', method='own')}")


def train_detector(
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Passes over 9600 s of remixes.")
    ] = 6,
    seed: Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run's voice detector.")
    ] = False,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Learn from the stems where someone sings, so that mixtures count there.

    Example: python app.py train-detector --run_dir runs
    """
    run = open_run(run_dir, after="prepare")
    run_detector_training(run, epochs, seed, device=device, overwrite=overwrite)


def run_detector_training(
    run: Run, epochs: int = 6, seed: int = 0, *, device: str = "auto", overwrite: bool = False
) -> None:
    """Train the voice detector, or resume it, and print how good it is."""
    from embedder.training.detector import DetectorTrainConfig
    from embedder.training.detector import train_detector as train

    rows = train(
        run,
        catalogue_of(run),
        DetectorTrainConfig(epochs=epochs, seed=seed),
        device=device,
        overwrite=overwrite,
        show_bar=on_terminal(),
        say=say,
        progress=shown,
    )
    if rows:
        print_table(
            f"Voice detector on {rows[0].songs} validation songs: frames of 50 ms, "
            "bootstrap 95 % intervals over albums",
            ("condition", "sung", "accuracy", "precision", "recall", "F1", "ROC AUC"),
            [
                (
                    row.condition,
                    f"{row.sung:.3f}",
                    *map(str, (row.accuracy, row.precision, row.recall, row.f1, row.auc)),
                )
                for row in rows
            ],
        )
    say(f"wrote {run.detector}")
    say("fuse embeds all songs again, to use it")
    say(f"next: {Command('fuse')}")


def print_settings(
    values: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Setting]
) -> None:
    """Every setting with its value, its legal values and its meaning."""
    rows = [
        (name, str(values[one.group][name]), one.legal, one.meaning)
        for name, one in settings.items()
    ]
    print_table("Settings (--set name=value)", ("name", "value", "legal", "meaning"), rows)
