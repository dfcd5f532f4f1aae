"""The command `pretrain`: a thin front over the library, registered by `app.py`.

Enters: options. Leaves: what its last lines name. torch is imported only inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from embedder.cli.options import Device, RunDir, catalogue_of
from embedder.console import on_terminal, print_table, say
from embedder.errors import Command
from embedder.presets import PRESETS
from embedder.run import locked, open_run
from embedder.settings import all_settings, legal_range, legal_values, parse_assignments
from embedder.training.pretrain_config import (
    PretrainConfig,
    build_pretraining,
    own_settings,
    pretrained_name,
)

METHODS = legal_range(*own_settings()["method"])


def pretrain(
    method: Annotated[
        str | None, typer.Option("--method", help=f"{METHODS}. Default: simclr.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help=f"{legal_values('backbone')}. Default: ecapa.")
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
    given: dict[str, Any] = {"method": method, "backbone": backbone, "stem": stem}
    given |= {"seed": seed, "epochs": epochs}
    chosen = {key: value for key, value in given.items() if value is not None}
    built = build_pretraining(preset, config, parse_assignments(settings or ()) | chosen)
    if list_settings:
        print_settings(built)
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


def print_settings(config: PretrainConfig) -> None:
    """Every setting with its value, its legal values and its meaning, the pre-training's first."""
    values = config.to_dict()
    rows = [
        (name, str(values["selfsupervised"][name]), legal_range(item, kind), item)
        for name, (item, kind) in own_settings().items()
    ]
    rows += [
        (name, str(values[group][name]), legal_values(name), item)
        for name, (group, item, _) in all_settings().items()
        if group != "loss"
    ]
    print_table(
        "Settings (--set name=value)",
        ("name", "value", "legal", "meaning"),
        [(name, value, legal, item.metadata["meaning"]) for name, value, legal, item in rows],
    )
