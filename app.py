"""Singer identification from the command line: `python app.py COMMAND --help`.

Input: options. Output: what each command names in its last lines. Every command parses, calls the
library and prints; torch is imported only inside the commands that need it.
"""

# A Python as old as 3.6 must be able to read this whole file, to say the line below: no walrus, and
# no import of annotations from the future.
import errno
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036
    found = ".".join(map(str, sys.version_info[:3]))
    sys.stderr.write(f"error: Python 3.11 or newer is needed; {sys.executable} is {found}\n")
    sys.exit(2)

STOPPED = 130  # exit code after Ctrl-C
OWN = ("__main__", "app", "embedder", "ensemble", "analysis")  # the program's own modules
DISTRIBUTIONS = {"faiss": "faiss-cpu", "sklearn": "scikit-learn", "pptx": "python-pptx"}


def broken_package(error: BaseException) -> str:
    """Which package is missing or cannot be loaded, and what installs it; "" for other errors."""
    package, trace = "", error.__traceback__
    while trace and not package:  # the first module of others that was being imported
        name = str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0]
        if trace.tb_frame.f_code.co_name == "<module>" and name not in OWN:
            package = name
        trace = trace.tb_next
    wanted = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ImportError) and wanted in OWN:
        if isinstance(error, ModuleNotFoundError) and not Path(__file__).with_name(wanted).exists():
            return f"{wanted} is not part of this copy; this command needs the whole program"
        return ""
    missing = isinstance(error, ModuleNotFoundError)
    package = package or (wanted if isinstance(error, ImportError) else "")
    if not package:
        return ""
    file = requirements_of([wanted, package] if missing else [package])
    if missing and wanted in sys.stdlib_module_names:
        return f"{sys.executable} lacks {wanted}, a part of Python; install Python again"
    if missing:
        return f"{wanted} is not installed; run: python -m pip install -r {file}"
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{package} is installed but cannot be loaded ({reason}); "
        f"run: python -m pip install --force-reinstall -r {file}"
    )


def requirements_of(packages: "list[str]") -> str:
    """The file of requirements that lists one of the modules, quoted; the program's for others."""
    import os
    import shlex

    here = Path(__file__).resolve().parent
    for file in sorted(here.glob("requirements*.txt"), key=lambda path: len(path.name)):
        lines = file.read_text(encoding="utf-8").lower().replace("_", "-").splitlines()
        listed = {line.partition("==")[0] for line in lines}
        if any(DISTRIBUTIONS.get(p, p.lower().replace("_", "-")) in listed for p in packages):
            break
    else:
        file = here / "requirements.txt"
    return shlex.quote(file.name if here == Path.cwd() else os.fspath(file))


try:
    from importlib import import_module
    from importlib.util import find_spec
    from typing import TYPE_CHECKING, Annotated

    import typer

    from embedder.artifact import DISK_FULL
    from embedder.cli.architectures import architectures
    from embedder.cli.arguments import (
        SPLIT_RULES,
        DataDir,
        Device,
        Preset,
        RunDir,
        Seed,
        SplitRule,
        StemsDir,
        catalogue_of,
    )
    from embedder.cli.songs import excerpts, prepare, prepare_songs, separate
    from embedder.cli.train import (
        pretrain,
        run_detector_training,
        run_member_training,
        run_separator_training,
        train_detector,
        train_embedder,
        train_separator,
    )
    from embedder.console import (
        meter,
        on_terminal,
        output_of,
        print_table,
        repeating_warnings,
        say,
        warn,
    )
    from embedder.errors import UserError, did_you_mean, program, typed, working_in
    from embedder.recipes import RECIPES
    from embedder.run import Run, open_run
    from embedder.text import counted
    from ensemble.cli.bundle import bundle, export
    from ensemble.cli.compare import similar, verify
    from ensemble.cli.enroll import enroll, unenroll
    from ensemble.cli.index import benchmark_index
    from ensemble.cli.measure import measure
    from ensemble.cli.predict import (
        evaluate,
        fuse,
        names_in,
        predict,
    )
except KeyboardInterrupt:
    sys.stderr.write("stopped before anything was done\n")
    sys.exit(STOPPED)
except Exception as error:
    problem = broken_package(error)
    if not problem:
        raise
    sys.stderr.write(f"error: {problem}\n")
    sys.exit(2)

if TYPE_CHECKING:
    from embedder.recipes import Step

app = typer.Typer(
    help="Who sings? Train singer embedders, fuse them, predict, and look at the maps.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # --test-dir is --test_dir
    context_settings={"token_normalize_func": lambda token: token.replace("-", "_")},
)

RECIPE_NAMES = " | ".join(RECIPES)


app.command()(prepare)
app.command()(separate)
app.command("train-separator")(train_separator)
app.command("train-detector")(train_detector)
app.command()(pretrain)
app.command()(architectures)
app.command("train-embedder")(train_embedder)
app.command()(fuse)
app.command()(predict)
app.command()(evaluate)
app.command()(enroll)
app.command()(unenroll)
app.command()(verify)
app.command()(similar)
app.command()(bundle)
app.command()(measure)
app.command()(export)
app.command("benchmark-index")(benchmark_index)


LOOSE = {"allow_extra_args": True, "ignore_unknown_options": True}
PAGES = find_spec("analysis")  # a bundle has none


def whole_program(context: typer.Context) -> None:
    """Only in the whole program, not in this copy of it."""
    del context
    raise ModuleNotFoundError("analysis", name="analysis")


for name in ("analyze", "report", "serve"):
    if PAGES:
        app.command(name)(getattr(import_module("analysis.cli"), name))
    else:
        app.command(name, context_settings=LOOSE)(whole_program)
app.command()(excerpts)


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help=f"{RECIPE_NAMES}.")],
    data_dir: DataDir,
    stems_dir: StemsDir = None,
    split: SplitRule = "course",
    seed: Seed = 0,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Prepare, train what is known to work, fuse and analyze; it goes on where it was.

    Example: python app.py recipe laptop --data_dir songs --stems_dir stems
    """
    import time

    from embedder.data.prepare import is_prepared

    if name not in RECIPES:
        raise UserError(
            f"there is no recipe '{name}'{did_you_mean(name, RECIPES)}; recipes are: {RECIPE_NAMES}"
        )
    chosen = RECIPES[name]
    if chosen.stems == "unused":
        stems_dir = None
    ready = is_prepared(Run(run_dir), data_dir, split, seed, stems_dir)
    stems = stems_dir is not None or (ready and catalogue_of(Run(run_dir)).has_stems)
    if chosen.stems == "needed" and not stems:
        raise UserError(
            f"recipe {name} needs stems: give them with --stems_dir, or make them first with "
            "prepare and separate; recipe nostems does without"
        )
    from embedder.recipes import estimated

    print_plan(name, chosen.about, estimated(chosen, data_dir, split, seed, stems, device))
    started = time.monotonic()

    def begin(what: str) -> None:
        say(f"\n{(time.monotonic() - started) / 60:.1f} min: {what}")

    if not ready:
        begin("prepare")
        prepare_songs(run_dir, data_dir, split, stems_dir, seed=seed)
    run = open_run(run_dir, after="prepare")
    if chosen.separator:
        begin("train-separator")
        run_separator_training(run, seed=seed, device=device)
    if chosen.detector and stems:
        begin("train-detector")
        run_detector_training(run, seed=seed, device=device)
    for member, config in chosen.configs(seed).items():
        begin(f"train-embedder: {member}")
        run_member_training(run, member, config, device=device)
    begin("fuse")
    fuse(list(chosen.members), seed=seed, device=device, run_dir=run_dir)
    from analysis.cli import analyze

    begin("analyze")
    analyze(list(chosen.members), seed=seed, run_dir=run_dir)
    begin(f"recipe {name} is done")


@app.command()
def benchmark(
    data_dir: DataDir,
    stems_dir: StemsDir = None,
    members: Annotated[
        list[str] | None,
        typer.Option("--members", help="Names of the list, with commas. Default: all."),
    ] = None,
    member_list: Annotated[
        Path | None,
        typer.Option("--list", help="JSON file: name, settings. Default: every kind and loss."),
    ] = None,
    splits: Annotated[
        str, typer.Option("--splits", help=f"With commas: {SPLIT_RULES}.")
    ] = "song,album",
    segments: Annotated[
        str, typer.Option("--segments", help="Lengths of a segment, s, with commas.")
    ] = "3",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, with commas.")] = "0",
    preset: Preset = "laptop",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of all members, as in --set epochs=6."),
    ] = None,
    device: Device = "auto",
    run_dir: RunDir = Path("runs/benchmark"),
) -> None:
    """Train many members under the same conditions and write one table; it can be stopped.

    Example: python app.py benchmark --data_dir songs --members crnn-plain,ecapa --segments 3,5
    """
    from analysis.benchmark import HEAD, lines, write_tables
    from embedder.recipes.benchmark import planned_rows, prepared, read_rows, run_row
    from embedder.settings import parse_assignments

    configs = planned_rows(
        member_list,
        names_in(members),
        names_in([splits]) or [],
        segments,
        seeds,
        preset,
        parse_assignments(settings or ()),
    )
    for number, (condition, config) in enumerate(configs.items(), 1):
        say(f"\n{number}/{len(configs)}: {condition.name}")
        with working_in(run_dir / condition.split):
            run, catalogue = prepared(run_dir, data_dir, stems_dir, condition.split)
            run_row(
                run_dir, run, catalogue, condition, config, device=device, show_bar=on_terminal(),
                say=say,
            )  # fmt: skip
        write_tables(list(read_rows(run_dir)), run_dir)
    rows = list(read_rows(run_dir))
    print_table("Benchmark", HEAD, lines(rows))
    say(f"wrote {', '.join(map(str, write_tables(rows, run_dir)))}")


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
    from embedder.settings import build_config
    from ensemble.evaluation import evaluate as measure
    from ensemble.evaluation import read_predictions, read_truth

    started = time.monotonic()
    songs, work, unseen = run_dir / "songs", run_dir / "run", run_dir / "unseen"
    say(f"1. six singers are synthesised into {songs}")
    with meter("synthesising songs") as tick:
        synthesise(songs, seed, albums=5, progress=tick)
    with working_in(work):
        prepare_songs(work, songs / "mix", "album", songs, seed=seed)
        shutil.rmtree(unseen, ignore_errors=True)
        excerpts(unseen, "test", seed=seed, run_dir=work)
        for number, loss in enumerate(("aam", "triplet"), 2):
            say(f"\n{number}. a member is trained with the {loss} loss")
            config = build_config("demo", changes={"loss": loss, "seed": seed})
            run_member_training(Run(work), loss, config)
        say("\n4. the members are fused")
        fuse(seed=seed, run_dir=work)
        say("\n5. songs of albums left out of training are predicted")
        prediction = run_dir / "prediction.csv"
        predict(unseen, prediction, run_dir=work)
        evaluate(prediction, unseen / "truth.csv", seed)
        from analysis.cli import analyze

        say("\n6. pages are drawn")
        analyze(seed=seed, run_dir=work)
    result = measure(read_predictions(prediction), read_truth(unseen / "truth.csv"), seed)
    chance = 1 / len(result.recalls)
    say(
        f"\ntop-1 on {counted(result.songs, 'song')} of unheard albums: {result.top_1} (chance "
        f"{chance:.3f}), in {time.monotonic() - started:.0f} s"
    )
    if result.top_1.low < 2 * chance:
        warn("that is not well above chance: something is broken")
        raise typer.Exit(1)


def print_plan(name: str, about: str, plan: "list[Step]") -> None:
    """The steps of a recipe with their estimated minutes."""
    total = sum(step.seconds for step in plan)
    rows = [(step.name, step.what, f"{step.seconds / 60:.1f}") for step in plan]
    print_table(
        f"Recipe {name}: {about}; about {total / 60:.0f} minutes on this machine",
        ("step", "what", "minutes"),
        rows,
    )


DISK_ERRORS = (*DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


def disk_problem(error: Exception) -> str:
    """What a failed write says, in a sentence; empty for any other error."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"cannot write or read {error.filename or 'a file'}: {error.strerror}"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; what the user can mend is one line and code 2."""
    given = sys.argv[1:] if arguments is None else arguments
    with redirect_stdout(output_of(sys.stdout)), redirect_stderr(output_of(sys.stderr)):
        return _run(given)


def _run(given: list[str]) -> int:
    try:
        with repeating_warnings(), typed(given):
            code = app(given or ["--help"], prog_name=" ".join(program()), standalone_mode=False)
        if code == STOPPED:  # Typer makes it of Ctrl-C
            raise typer.Abort
        return int(code or 0)
    except (typer.Abort, KeyboardInterrupt):
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return STOPPED
    except UserError as error:
        problem = str(error)
    except Exception as error:
        # Typer's own errors, an unknown option or a missing one, know how to say themselves.
        own_words = getattr(error, "format_message", lambda: "")
        problem = disk_problem(error) or own_words() or broken_package(error)
        context = getattr(error, "ctx", None)
        if own_words() and context:
            end = "" if problem.endswith((".", "?", ")")) else "."
            problem = f"{problem}{end} See: {context.command_path} --help"
        if not problem:
            raise
    print(f"error: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
