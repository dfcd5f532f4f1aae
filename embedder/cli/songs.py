"""The commands `prepare`, `separate` and `excerpts`: songs into the run folder, and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from embedder.cli.arguments import DataDir, Device, RunDir, Seed, SplitRule, StemsDir, catalogue_of
from embedder.console import say, shown, warn
from embedder.errors import Command, UserError, did_you_mean
from embedder.models.separators.stem_record import FOLDER
from embedder.run import SPLITS, abandon_run, create_run, locked, open_run, prepare_again
from embedder.text import counted

# FOLDER reads stems that exist, where the other methods make them.
METHODS = f"spleeter | hdemucs | umx | own | {FOLDER}"


def prepare(
    data_dir: DataDir,
    split: SplitRule = "course",
    stems_dir: StemsDir = None,
    lists_dir: Annotated[
        Path | None,
        typer.Option("--lists_dir", help="With --split files: where train.txt or train.json is."),
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep_duplicates", help="Keep recordings that stand in two splits.")
    ] = False,
    keep_duets: Annotated[
        bool, typer.Option("--keep_duets", help="Train on recordings under two singers too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace songs that members were trained on.")
    ] = False,
    seed: Seed = 0,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Scan, check, split and decode the songs.

    Example: python app.py prepare --data_dir artist20/mp3s-32k --split course
    """
    prepare_songs(
        run_dir,
        data_dir,
        split,
        stems_dir,
        seed=seed,
        keep_duplicates=keep_duplicates,
        keep_duets=keep_duets,
        lists_dir=lists_dir,
        overwrite=overwrite,
    )


def prepare_songs(
    run_dir: Path, data_dir: Path, split: str, stems_dir: Path | None = None, **options: Any
) -> None:
    """Prepare songs in a run folder, which may be new, and print what was found.

    Args:
        run_dir: The run folder.
        data_dir: The songs.
        split: Rule of the split.
        stems_dir: Their stems.
        options: Others of `embedder.data.prepare.prepare`.
    """
    from embedder.data.prepare import prepare

    run = create_run(run_dir)
    with locked(run, "catalogue"):
        try:
            report = prepare(run, data_dir, split, stems_dir, progress=shown, **options)
        except UserError:
            abandon_run(run)  # a refusal leaves nothing behind
            raise
    say("\n".join(report.lines()))
    for what, fate, problems in (
        ("song", "left out", report.left_out),
        ("song", "decoded in part, or of one channel", report.of("odd")),
        ("stem", "not used", report.of("stem")),
    ):
        if problems:
            first = problems[0]
            many = counted(len(problems), what, ("was", "were"))
            warn(f"{many} {fate}, {first.file} for one: {first.reason}")
    if report.of("duet"):
        say(
            "duets are one recording under two singers; to train on them all the same: "
            f"{prepare_again(keep_duets=True)}"
        )
    if not report.stems_wanted:
        say(
            "no stems: training cannot mix vocals with other songs' backings, which costs accuracy "
            "on unknown albums; --stems_dir gives them, and this makes them: "
            f"{Command('separate', method='spleeter')}"
        )
    say(f"wrote {run.catalogue}, the lists of its splits, and {run.cache}")
    say(f"next: {Command('train-embedder', loss='aam')}")


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


def excerpts(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="A new folder.")],
    split: Annotated[str, typer.Option("--split", help=" | ".join(SPLITS) + ".")] = "validation",
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Length, where someone sings. Default: all.")
    ] = None,
    vocals_db: Annotated[
        float | None,
        typer.Option("--vocals_db", help="Mix songs again, vocals so much louder. -8: hard."),
    ] = None,
    seed: Seed = 0,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Write a split as a numbered test folder with its truth.csv.

    Example: python app.py excerpts --split validation --seconds 5 --output_dir short
    """
    from embedder.data.excerpts import write_excerpts

    if split not in SPLITS:
        raise UserError(
            f"--split {split}{did_you_mean(split, SPLITS)} is not legal; "
            f"it must be {' | '.join(SPLITS)}"
        )
    run = open_run(run_dir, after="prepare")
    truth = write_excerpts(run, catalogue_of(run), split, output_dir, seconds, seed, vocals_db)
    say(f"wrote {output_dir} and {truth}")
    say(f"next: {Command('predict', test_dir=output_dir)}")
