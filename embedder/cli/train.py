"""The commands about voices and bands apart: thin fronts over the library, registered by `app.py`.

Enters: options. Leaves: what each command names in its last lines. torch is imported only inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedder.cli.arguments import Device, RunDir, Seed
from embedder.cli.options import catalogue_of
from embedder.console import on_terminal, print_table, say, shown, warn
from embedder.errors import Command, UserError, did_you_mean
from embedder.presets import SEPARATOR_EPOCHS
from embedder.run import locked, open_run
from embedder.stem_record import FOLDER

# FOLDER reads stems that exist, where the other methods make them.
METHODS = f"hdemucs | umx | own | {FOLDER}"


def separate(
    method: Annotated[str, typer.Option("--method", help=f"{METHODS}.")],
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Other weights than the published ones, or the run's own."),
    ] = None,
    stems_dir: Annotated[
        Path | None,
        typer.Option("--stems_dir", help="folder: stems laid out as the songs, or demucs's."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of stems that the songs have.")
    ] = False,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Split all songs of a run into vocals and backing, each song once.

    Example: python app.py separate --method hdemucs --run_dir runs
    """
    if method not in METHODS.split(" | "):
        raise UserError(
            f"--method {method}{did_you_mean(method, METHODS.split(' | '))} is not legal; "
            f"it must be {METHODS}"
        )
    if (stems_dir is None) == (method == FOLDER):
        needs = "needs" if method == FOLDER else "takes no"
        raise UserError(f"--method {method} {needs} --stems_dir")
    if weights is not None and method == FOLDER:
        raise UserError(f"--method {method} takes no --weights")
    run = open_run(run_dir, after="prepare")
    from embedder.inference.separate import separate_songs, take_stems

    with locked(run, "catalogue"):
        catalogue = catalogue_of(run)
        if stems_dir is not None:
            done, problems = take_stems(
                run, catalogue, stems_dir, replacing=replace, progress=shown
            )
        else:
            from embedder.models.network import default_device
            from embedder.models.separators import open_separator

            separator = open_separator(method, run, weights, default_device(device))
            done, problems = separate_songs(
                run, catalogue, separator, weights, replacing=replace, progress=shown
            )
    for problem in problems:
        warn(f"not used: {problem.file}: {problem.reason}")
    vocals = sum(bool(song.vocals) for song in done.songs)
    backing = sum(bool(song.backing) for song in done.songs)
    say(f"stems: vocals of {vocals}, backing of {backing} songs")
    say(f"wrote {run.stems}, {run.catalogue} and {run.cache}")
    say(f"next: {Command('train-embedder', stem='vocals')}")


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
    """Learn from the stems where someone sings, so that mixtures are heard there.

    Example: python app.py train-detector --run_dir runs
    """
    from embedder.training.detector import DetectorTrainConfig
    from embedder.training.detector import train_detector as train

    run = open_run(run_dir, after="prepare")
    with locked(run, "detector"):
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
            ("heard", "sung", "accuracy", "precision", "recall", "F1", "ROC AUC"),
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
    catalogue = catalogue_of(run)
    from embedder.config import SeparatorTrainConfig
    from embedder.training.separator import catalogue_with_stems
    from embedder.training.separator import train_separator as train

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
