"""The command that measures what pages cannot ask a store: a thin front, registered by `app.py`.

Enters: a fused run whose songs are at hand. Leaves: files in the run's folder of measures, which
the pages show. Each measure is one function of `MEASURES`; torch is imported only inside.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from embedder.artifacts import Run, open_run
from embedder.commands.members import Device, RunDir, in_run
from embedder.console import say
from embedder.errors import UserError
from ensemble.commands.answers import names_in

# Name → (run, device) → the file written. A measure that is there and fits is not made again.
MEASURES: dict[str, Callable[[Run, str], Path]] = {}


def measure(
    what: Annotated[
        list[str] | None,
        typer.Option("--what", help="Measures by name, with commas. Default: all."),
    ] = None,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Measure voices, robustness and spectrograms, for the pages that show them.

    Example: python app.py measure --what robustness
    """
    names = names_in(what) or list(MEASURES)
    wrong = [name for name in names if name not in MEASURES]
    if wrong:
        raise UserError(f"--what {wrong[0]} is unknown; choose from {', '.join(MEASURES)}")
    run = open_run(run_dir)
    for name in names:
        say(f"wrote {MEASURES[name](run, device)}")
    say(f"next: python app.py analyze{in_run(run_dir)}")
