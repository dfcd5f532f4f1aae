"""Singer identification from the command line: `python app.py COMMAND --help`.

Enters: options. Leaves: what each command names in its last lines. Every command parses, calls the
library and prints; torch is imported only inside the commands that need it.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.artifacts import open_run
from embedder.commands import (
    Device,
    RunDir,
    Seed,
    catalogue_of,
    excerpts,
    in_run,
    prepare,
    train_embedder,
)
from embedder.console import meter, print_table, say, shown
from embedder.errors import UserError

if TYPE_CHECKING:
    from ensemble.fusion import Fusion

app = typer.Typer(
    help="Who sings? Train singer embedders, fuse them, predict, and look at the maps.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # --test-dir is --test_dir
    context_settings={"token_normalize_func": lambda token: token.replace("-", "_")},
)

Members = Annotated[
    list[str] | None,
    typer.Option("--members", help="Members by name, several with commas. Default: all."),
]

AGGREGATES = "mean | vote"


def names_in(values: list[str] | None) -> list[str] | None:
    """`["a,b", "c"]` → `["a", "b", "c"]`; nothing given → None."""
    names = [name.strip() for value in values or () for name in value.split(",") if name.strip()]
    return names or None


app.command()(prepare)
app.command("train-embedder")(train_embedder)


@app.command()
def fuse(
    members: Members = None,
    aggregate: Annotated[
        str, typer.Option("--aggregate", help=f"Segments to song: {AGGREGATES}.")
    ] = "mean",
    seed: Seed = 0,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Embed all songs, index them, calibrate and weigh the experts.

    Example: python app.py fuse --members ecapa-aam,ecapa-triplet
    """
    from ensemble.pipeline import choose_members, fuse_run, stale_stores

    run = open_run(run_dir)
    catalogue = catalogue_of(run)
    chosen = choose_members(run, names_in(members))
    for name, split in stale_stores(run, catalogue, chosen):
        from embedder.checkpoint import load_member
        from embedder.embed import embed_split
        from embedder.model.network import default_device

        member = load_member(run, name, default_device(device))
        embed_split(run, catalogue, member, split, shown)
    fusion = fuse_run(run, catalogue, chosen, aggregate, seed)
    print_fusion(fusion)
    say(f"wrote {run.fusion.parent} and {run.predictions}")
    say(f"next: python app.py analyze{in_run(run_dir)}, or predict --test_dir X")


@app.command()
def predict(
    test_dir: Annotated[Path, typer.Option("--test_dir", help="Folder of audio files.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="Default: prediction.csv or .json.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv | json.")] = "csv",
    members: Members = None,
    stems_dir: Annotated[
        Path | None,
        typer.Option("--stems_dir", help="Folder with vocals/, paths as in test_dir."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip_bad", help="Leave out files that cannot be used.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch_size", min=1, help="Files held at a time; changes no number.")
    ] = 8,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Name the three likeliest singers of each file of a folder.

    Example: python app.py predict --test_dir test --output prediction.csv
    """
    from ensemble.predictions import FORMATS

    if form not in FORMATS:
        raise UserError(f"--format {form} is not legal; it must be {' | '.join(FORMATS)}")
    target = output or Path(f"prediction.{form}")
    if target.suffix == ".npz" or target.is_dir():
        raise UserError(f"--output {target} must be a file that does not end in .npz")
    from ensemble.pipeline import answer, list_files, open_fusion, write_prediction
    from ensemble.predictions import prediction_names, write_skipped

    run = open_run(run_dir)
    fusion, indexes = open_fusion(run, names_in(members))
    files = list_files(test_dir)
    prediction_names(files, test_dir)  # two files with one ID are refused before any work

    from embedder.checkpoint import load_member
    from embedder.embed import embed_files, usable_files, vocal_stems
    from embedder.model.network import default_device

    where = default_device(device)
    loaded = [load_member(run, name, where) for name in indexes]
    files, bad = usable_files(files, skip_bad, shown)
    names = prediction_names(files, test_dir)
    loaded, vocals, dropped = vocal_stems(loaded, files, test_dir, stems_dir)
    if dropped:
        say(f"without vocal stems (--stems_dir) these stay silent: {', '.join(dropped)}")
    batches = embed_files(
        loaded, files, names, vocals=vocals, batch_size=batch_size, progress=shown
    )
    scores = answer(fusion, indexes, batches)
    table = write_prediction(target, form, names, fusion.singers, scores)
    say(f"wrote {target}, {len(files)} songs, and all probabilities in {table}")
    reasons = {path.relative_to(test_dir).as_posix(): why for path, why in bad.items()}
    if skipped := write_skipped(target, reasons):
        say(f"wrote {skipped}: {len(bad)} files left out")
    say(f"next: python app.py evaluate --prediction {target} --truth T, if the truth is known")


@app.command()
def evaluate(
    prediction: Annotated[Path, typer.Option("--prediction", help="A prediction, csv or json.")],
    truth: Annotated[
        Path, typer.Option("--truth", help="csv of ID,singer, or <singer>/<album>/<song> folders.")
    ],
    seed: Seed = 0,
) -> None:
    """Measure a prediction file against the truth.

    Example: python app.py evaluate --prediction prediction.csv --truth truth.csv
    """
    from ensemble.evaluate import evaluate as measure
    from ensemble.evaluate import read_predictions, read_truth

    result = measure(read_predictions(prediction), read_truth(truth), seed)
    print_table(
        f"{result.songs} songs, song level, bootstrap 95 % intervals",
        ("metric", "value", "95 % interval"),
        [
            (name, f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}")
            for name, e in (
                ("top-1", result.top_1),
                (f"top-{min(3, result.columns)}", result.top_3),
                ("score", result.score),
                ("macro F1", result.macro_f1),
            )
        ],
    )
    rows = [(r.singer, f"{r.recall:.3f}", f"{r.correct}/{r.songs}") for r in result.recalls]
    print_table("Recall", ("singer", "recall", "songs"), rows)
    if result.extra:
        say(f"{len(result.extra)} predictions stand in no truth, such as {result.extra[0]}")


@app.command()
def analyze(
    members: Members = None,
    seed: Seed = 0,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Draw the interactive pages: overview, t-SNE maps, confusion matrix.

    Example: python app.py analyze --run_dir runs
    """
    from analysis.analyze import analyze as draw

    run = open_run(run_dir)
    with meter("drawing maps") as tick:
        pages = draw(run, names_in(members), seed, tick)
    for page in pages:
        say(f"wrote {page}")
    say(f"next: open {pages[0]} in a browser")


app.command()(excerpts)


@app.command()
def demo(
    seed: Seed = 0,
    run_dir: RunDir = Path("runs/demo"),
) -> None:
    """The whole job on six synthesised singers, in a few minutes.

    Example: python app.py demo
    """
    import shutil
    import time

    from embedder.data.synth import synthesise
    from ensemble.evaluate import evaluate as measure
    from ensemble.evaluate import read_predictions, read_truth

    started = time.monotonic()
    songs, work, unseen = run_dir / "songs", run_dir / "run", run_dir / "unseen"
    say(f"1. six singers are synthesised into {songs}")
    with meter("synthesising songs") as tick:
        synthesise(songs, seed, albums=5, progress=tick)
    prepare(songs / "mix", "album", songs, seed=seed, run_dir=work)
    shutil.rmtree(unseen, ignore_errors=True)
    excerpts(unseen, "test", None, seed, work)
    for number, loss in enumerate(("aam", "triplet"), 2):
        say(f"\n{number}. a member is trained with the {loss} loss")
        train_embedder(loss=loss, preset="demo", seed=seed, name=loss, run_dir=work)
    say("\n4. the members are fused")
    fuse(seed=seed, run_dir=work)
    say("\n5. songs of albums that nobody has heard are predicted")
    prediction = run_dir / "prediction.csv"
    predict(unseen, prediction, run_dir=work)
    evaluate(prediction, unseen / "truth.csv", seed)
    say("\n6. pages are drawn")
    analyze(seed=seed, run_dir=work)
    result = measure(read_predictions(prediction), read_truth(unseen / "truth.csv"), seed)
    chance = 1 / len(result.recalls)
    say(
        f"\ntop-1 on {result.songs} songs of unheard albums: {result.top_1} (chance "
        f"{chance:.3f}), in {time.monotonic() - started:.0f} s"
    )
    if result.top_1.low < 2 * chance:
        say("that is not well above chance: something is broken")
        raise typer.Exit(1)


def print_fusion(fusion: Fusion) -> None:
    """The experts and the fused answer, a row each."""
    for split in dict.fromkeys(row.split for row in fusion.results):
        rows = [row for row in fusion.results if row.split == split]
        how = "cross-fitted by album" if rows[0].cross_fitted else "nothing fitted on them"
        print_table(
            f"{split} songs: {rows[0].metrics.songs}, {rows[0].level} level, {how}, "
            "bootstrap 95 % intervals",
            ("expert", "weight", "top-1", "top-3", "score", "macro F1", "NLL", "ECE"),
            [
                (
                    row.expert,
                    f"{fusion.weights[row.expert]:.2f}" if row.expert in fusion.weights else "",
                    *map(str, (m.top_1, m.top_3, m.score, m.macro_f1, m.nll, m.ece)),
                )
                for row in rows
                for m in [row.metrics]
            ],
        )


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


def disk_problem(error: Exception) -> str:
    """What a failed write says, in a sentence; empty for any other error."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"cannot write or read {error.filename or 'a file'}: {error.strerror}"
    text = str(error)  # torch and safetensors wrap the system's error in their own
    if "No space left on device" in text or "PytorchStreamWriter failed" in text:
        return "cannot write: No space left on device"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; what the user can mend is one line and code 2."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return int(app(given or ["--help"], prog_name="python app.py", standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt):
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    except UserError as error:
        problem = str(error)
    except Exception as error:
        # Typer's own errors, an unknown option or a missing one, know how to say themselves.
        own_words = getattr(error, "format_message", lambda: "")
        problem = disk_problem(error) or own_words()
        if not problem:
            raise
    print(f"error: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
