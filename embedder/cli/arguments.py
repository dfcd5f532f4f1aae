"""Options and types that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.errors import RUN_DIR, working_in
from embedder.presets import PRESETS
from embedder.run import Run

if TYPE_CHECKING:
    from embedder.catalogue import Catalogue


def works_in(context: typer.Context, run_dir: Path | None) -> Path | None:
    """Until the command ends, the commands that its messages name are for its run folder."""
    context.with_resource(working_in(run_dir or RUN_DIR))
    return run_dir


SPLIT_RULES = "course | album | song | files"
RunDir = Annotated[
    Path, typer.Option("--run_dir", help="Folder of this run's artifacts.", callback=works_in)
]
DataDir = Annotated[Path, typer.Option("--data_dir", help="<singer>/<album>/<song>.<ext>.")]
StemsDir = Annotated[
    Path | None,
    typer.Option("--stems_dir", help="Folder with vocals/ and backing/, paths as in data_dir."),
]
SplitRule = Annotated[str, typer.Option("--split", help=f"{SPLIT_RULES}.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto | cpu | cuda | mps.")]
Preset = Annotated[str, typer.Option("--preset", help=" | ".join(PRESETS) + ".")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="JSON file of settings, flat or in groups.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, as in --set lr=0.001; may be repeated."),
]
ListSettings = Annotated[
    bool, typer.Option("--list_settings", help="Print every setting and its value, and stop.")
]


def catalogue_of(run: Run) -> Catalogue:
    """The catalogue of a prepared run folder."""
    from embedder.catalogue import read_catalogue

    return read_catalogue(run.catalogue)
