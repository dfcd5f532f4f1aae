"""The commands that make members of songs: thin fronts over the library, registered by `app.py`.

Enters: options. Leaves: what each command names in its last lines. torch is imported only inside
the commands that need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedder.architectures import ARCHITECTURES
from embedder.cli.arguments import Device, RunDir, Seed
from embedder.console import on_terminal, print_table, say, shown, warn
from embedder.errors import Command, UserError, did_you_mean
from embedder.objectives import LEGAL_LOSSES
from embedder.presets import PRESETS
from embedder.run import SPLITS, Run, abandon_run, create_run, locked, open_run, prepare_again

if TYPE_CHECKING:
    from embedder.catalogue import Catalogue
    from embedder.settings import Setting


SPLIT_RULES = "course | album | song | files"


def catalogue_of(run: Run) -> Catalogue:
    """The catalogue of a prepared run folder."""
    from embedder.catalogue import read_catalogue

    return read_catalogue(run.catalogue)


def prepare(
    data_dir: Annotated[Path, typer.Option("--data_dir", help="<singer>/<album>/<song>.<ext>.")],
    split: Annotated[str, typer.Option("--split", help=f"{SPLIT_RULES}.")] = "course",
    stems_dir: Annotated[
        Path | None,
        typer.Option("--stems_dir", help="Folder with vocals/ and backing/, paths as in data_dir."),
    ] = None,
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
    from embedder.data.prepare import prepare as prepare_songs

    run = create_run(run_dir)
    with locked(run, "catalogue"):
        try:
            report = prepare_songs(
                run,
                data_dir,
                split,
                stems_dir,
                seed=seed,
                keep_duplicates=keep_duplicates,
                keep_duets=keep_duets,
                lists_dir=lists_dir,
                progress=shown,
                overwrite=overwrite,
            )
        except UserError:
            abandon_run(run)  # a refusal leaves nothing behind
            raise
    say("\n".join(report.lines()))
    for what, problems in (
        ("songs were left out", report.left_out),
        ("songs were decoded in part, or of one channel", report.of("odd")),
        ("stems are not used", report.of("stem")),
    ):
        if problems:
            first = problems[0]
            warn(f"{len(problems)} {what}, {first.file} for one: {first.reason}")
    if report.of("duet"):
        say(
            "duets are one recording under two singers; to train on them all the same: "
            f"{prepare_again(keep_duets=True)}"
        )
    if not report.stems_wanted:
        say(
            "no stems: training cannot mix vocals with other songs' backings, which costs accuracy "
            "on unknown albums; --stems_dir gives them, and this makes them: "
            f"{Command('separate', method='hdemucs')}"
        )
    say(f"wrote {run.catalogue}, the lists of its splits, and {run.cache}")
    say(f"next: {Command('train-embedder', loss='aam')}")


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
    config: Annotated[
        Path | None, typer.Option("--config", help="JSON file of settings, flat or in groups.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, as in --set lr=0.001; may be repeated."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Member's name. Default: <backbone>-<loss>.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a member of this name.")
    ] = False,
    list_settings: Annotated[
        bool, typer.Option("--list_settings", help="Print every setting and its value, and stop.")
    ] = False,
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
    catalogue = catalogue_of(run)
    if weights is not None:
        from embedder.training.warm_start import published_weights

        if start is not None:
            raise UserError("--weights is where a training begins; so are --init and --finetune")
        start = published_weights(built, weights)
    from embedder.training.members import train_member

    chosen_name = name or own_name
    with locked(run, f"members/{chosen_name}"):
        member = train_member(
            run,
            catalogue,
            chosen_name,
            built,
            start=start,
            device=device,
            overwrite=overwrite,
            show_bar=on_terminal(),
            say=say,
        )
    say(f"wrote {run.member(member.name)}")
    say(f"next: train another member, or: {Command('fuse')}")


def excerpts(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="A new folder.")],
    split: Annotated[str, typer.Option("--split", help=" | ".join(SPLITS) + ".")] = "validation",
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Length, where someone sings. Default: all.")
    ] = None,
    vocals_db: Annotated[
        float | None,
        typer.Option("--vocals_db", help="Make songs anew, vocals so much louder. -8: hard."),
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


def print_settings(
    values: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Setting]
) -> None:
    """Every setting with its value, its legal values and its meaning."""
    rows = [
        (name, str(values[one.group][name]), one.legal, one.meaning)
        for name, one in settings.items()
    ]
    print_table("Settings (--set name=value)", ("name", "value", "legal", "meaning"), rows)
