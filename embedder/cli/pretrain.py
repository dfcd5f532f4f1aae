"""The command `pretrain`: a thin front over the library, registered by `app.py`.

Enters: options. Leaves: what its last lines name. torch is imported only inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from embedder.architectures import ARCHITECTURES
from embedder.cli.arguments import Device, RunDir
from embedder.cli.options import catalogue_of, print_settings
from embedder.console import on_terminal, say
from embedder.errors import Command
from embedder.presets import PRESETS
from embedder.run import locked, open_run


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
    preset: Annotated[str, typer.Option("--preset", help=" | ".join(PRESETS) + ".")] = "laptop",
    seed: Annotated[int | None, typer.Option("--seed", help="Seed. Default: 0.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes. Default: 20.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="JSON file of settings, flat or in groups.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, as in --set lr=0.001; may be repeated."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Network's name. Default: <method>-<backbone>.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a network of this name.")
    ] = False,
    list_settings: Annotated[
        bool, typer.Option("--list_settings", help="Print every setting and its value, and stop.")
    ] = False,
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
    with locked(run, f"pretrained/{own_name}"):
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
