"""`bundle` and `export`, which hand the work to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.cli.arguments import RunDir
from embedder.console import print_table, say, warn
from embedder.errors import Command, UserError, did_you_mean
from embedder.run import Run, open_run
from embedder.text import counted
from ensemble.cli.predict import Members, names_in

if TYPE_CHECKING:
    from ensemble.bundle import VocalSource

EXPORTS = ("onnx",)


def bundle(
    output: Annotated[
        Path, typer.Option("--output", help="A new folder, or a file that ends in .zip.")
    ],
    members: Members = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a bundle of this name.")
    ] = False,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Pack what predicting needs, the program included, for another machine.

    Example: python app.py bundle --members ecapa-aam,ecapa-triplet --output singers.zip
    """
    from ensemble.archive import check_output
    from ensemble.bundle import config_of, hear_vocals, pack
    from ensemble.fusion.fitted import read_fusion

    run = open_run(run_dir, after="fuse")
    check_output(output, overwrite)
    chosen = names_in(members) or list(read_fusion(run.fusion).members)
    trained = [name for name in chosen if run.weights(name).is_file()]  # others are refused below
    vocals = hear_vocals({name: config_of(run, name) for name in trained})
    source = vocal_source(run) if vocals else None
    packed = pack(run, names_in(members), output, source, overwrite)
    files = [file for file in output.rglob("*") if file.is_file()] or [output]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    say(
        f"wrote {output}, {megabytes:.1f} MB: members {', '.join(packed.members)}, "
        f"{counted(packed.singers, 'singer')}, index of {counted(packed.songs, 'song')}"
    )
    if vocals and source is None:
        warn(f"{', '.join(vocals)} take vocals: the bundle needs them from predict --stems_dir")
    if packed.published:
        say(
            f"vocals are separated with {packed.published}, whose published weights are not packed "
            "but fetched, or found, on the machine that predicts"
        )
    say(f"next: {Command('predict', bundle=output, test_dir='SONGS')}")


def vocal_source(run: Run) -> VocalSource | None:
    """What separates vocals from new files in this run, loaded once to see that it can be."""
    import embedder
    from embedder.catalogue import read_catalogue
    from embedder.models.separators.stem_record import read_record
    from ensemble.bundle import OWN, VocalSource

    catalogue = read_catalogue(run.catalogue)
    separator = embedder.RecordingReader(["vocals"], run=run).separator
    if separator is None:
        return None
    record = read_record(run, catalogue)
    made_stems = record is not None and record.method == separator.method
    if record is not None and made_stems and record.weights and separator.method != OWN:
        raise UserError(
            f"the run separates vocals with {separator.method} and the weights in {record.weights},"
            " which a bundle does not hold; leave the members that take vocals out with --members"
        )
    return VocalSource(separator.method, separator.fingerprint(), separator.weights[0], made_stems)


def export(
    form: Annotated[str, typer.Option("--format", help=f"{' | '.join(EXPORTS)}.")] = "onnx",
    members: Members = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="A folder. Default: export in the run folder.")
    ] = None,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Write each member's network, from waveform to embedding, for other programs.

    Example: python app.py export --format onnx --members ecapa-aam --output networks
    """
    if form not in EXPORTS:
        raise UserError(
            f"--format {form}{did_you_mean(form, EXPORTS)} is not legal; "
            f"it must be {' | '.join(EXPORTS)}"
        )
    run = open_run(run_dir, after="train-embedder")
    folder = output or run.exports
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; it must be a folder")
    from ensemble.fusion.pipeline import choose_members

    chosen = choose_members(run, names_in(members))
    import embedder
    from embedder.config import SAMPLE_RATE

    written = embedder.export_members(run, chosen, folder)
    print_table(
        "Networks in ONNX, each compared with torch over waves of several lengths",
        ("file", "MB", "largest difference", "shortest wave, s"),
        [
            (
                one.path.name,
                f"{one.path.stat().st_size / 1e6:.1f}",
                f"{one.difference:.1e}",
                f"{one.shortest / SAMPLE_RATE:.2f}",
            )
            for one in written
        ],
    )
    say(f"wrote {folder}: a .onnx for each member, and a .json that says what it takes and gives")
