"""The command that measures what pages cannot ask a store: a thin front, registered by `app.py`.

Input: a fused run whose songs are at hand. Output: files in the run's folder of measures, which
the pages show. Each measure is one function of `MEASURES`; torch is imported only inside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from embedder.cli.arguments import Device, RunDir
from embedder.console import say, shown
from embedder.errors import Command, UserError, did_you_mean
from embedder.measures.robustness import SECONDS, SONGS
from embedder.run import Run, locked, open_run
from ensemble.cli.predict import names_in


def measure_voices(run: Run, device: str) -> Path:
    """Vocal range and timbre of training and validation songs; on processors alone."""
    import embedder

    del device
    return embedder.measure_voices(run, progress=shown)


def measure_spectrograms(run: Run, device: str) -> Path:
    """Three seconds of log-mel for each singer; on processors alone."""
    import embedder

    del device
    return embedder.measure_spectrograms(run, progress=shown)


def measure_robustness(run: Run, device: str, songs: int = SONGS, seconds: float = SECONDS) -> Path:
    """How often degraded songs are still answered right."""
    from ensemble.measure_robustness import measure_robustness as measured

    return measured(run, device, songs, seconds)


# Name → (run, device) → the file written. A measure that is there and fits is not made again.
MEASURES: dict[str, Callable[[Run, str], Path]] = {
    "voices": measure_voices,
    "spectrograms": measure_spectrograms,
    "robustness": measure_robustness,
}


def measure(
    what: Annotated[
        list[str] | None,
        typer.Option("--what", help="Measures by name, with commas. Default: all."),
    ] = None,
    songs: Annotated[
        int, typer.Option("--songs", min=1, help="Robustness: songs, as many of each singer.")
    ] = SONGS,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Robustness: used of each song; 0: all of it.")
    ] = SECONDS,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Measure voices, spectrograms and robustness, for the pages that show them.

    Example: python app.py measure --what robustness
    """
    names = names_in(what) or list(MEASURES)
    wrong = [name for name in names if name not in MEASURES]
    if wrong:
        raise UserError(
            f"--what {wrong[0]}{did_you_mean(wrong[0], MEASURES)} is unknown; "
            f"choose from {', '.join(MEASURES)}"
        )
    run = open_run(run_dir, after="prepare")
    asked = MEASURES | {"robustness": partial(measure_robustness, songs=songs, seconds=seconds)}
    with locked(run, "measures"):
        for name in names:
            say(f"wrote {asked[name](run, device)}")
    say(f"next: {Command('analyze')}")
