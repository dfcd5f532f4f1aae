"""The command `architectures`: what each of them costs on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from embedder.architectures import ARCHITECTURES
from embedder.cli.arguments import Assignments, Device, Preset
from embedder.console import print_table, shown

HEAD = (
    "backbone",
    "source",
    "parameters, M",
    "of them trained, M",
    "multiply-adds, M/s",
    "trains, s/s",
    "embeds, s/s",
)


def architectures(
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="Several with commas. Default: all.")
    ] = None,
    preset: Preset = "laptop",
    settings: Assignments = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="How long each speed is measured.")
    ] = 3.0,
    device: Device = "auto",
) -> None:
    """Measure what each architecture costs here: weights, multiply-adds, speed.

    Example: python app.py architectures --backbone xvector,campplus --preset base
    """
    from embedder.settings import build_config, parse_assignments

    names = list(ARCHITECTURES)
    if backbone is not None:
        names = list(dict.fromkeys(name.strip() for name in backbone.split(",")))
    changes = parse_assignments(settings or ())
    configs = [build_config(preset, changes={**changes, "backbone": name}) for name in names]
    from embedder.models.network import default_device, size_of
    from embedder.training.speed import measure_speed

    target = default_device(device)
    rows = []
    for name, config in shown(zip(names, configs, strict=True), len(names), "architectures"):
        size, speed = size_of(config), measure_speed(config, target.type, seconds)
        fitted = " (fitted)" if ARCHITECTURES[name].fitted else ""
        rows.append(
            (
                name,
                ARCHITECTURES[name].source + fitted,
                f"{size.parameters / 1e6:.2f}",
                f"{size.trainable / 1e6:.2f}",
                f"{size.multiply_adds / 1e6:.0f}",
                f"{speed.training:.0f}",
                f"{speed.embedding:.0f}",
            )
        )
    title = (
        f"Preset {preset} on {target.type}. Multiply-adds are those of a second of audio; speeds "
        "are seconds of audio that the network takes in a second."
    )
    print_table(title, HEAD, rows)
