"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedder.errors import RUN_DIR, working_in


def works_in(context: typer.Context, run_dir: Path | None) -> Path | None:
    """Until the command ends, the commands that its messages name are for its run folder."""
    context.with_resource(working_in(run_dir or RUN_DIR))
    return run_dir


RunDir = Annotated[
    Path, typer.Option("--run_dir", help="Folder of this run's artifacts.", callback=works_in)
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto | cpu | cuda | mps.")]
