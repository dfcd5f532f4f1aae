"""`fuse`, `predict` and `evaluate`, and what other commands share with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.catalogue import read_catalogue
from embedder.cli.arguments import Device, RunDir, Seed, works_in
from embedder.console import print_table, say, shown, warn
from embedder.errors import RUN_DIR, Command, UserError, did_you_mean, typed_with
from embedder.run import locked, open_run
from embedder.text import counted

if TYPE_CHECKING:
    from ensemble.identifier import SingerIdentifier
    from ensemble.results import PlacedFiles

Members = Annotated[
    list[str] | None,
    typer.Option("--members", help="Members by name, several with commas. Default: all."),
]
BundleFile = Annotated[
    Path | None, typer.Option("--bundle", help="What bundle wrote, instead of --run_dir.")
]
RunOrBundle = Annotated[
    Path | None,
    typer.Option("--run_dir", help="This run's artifacts. Default: runs.", callback=works_in),
]

AGGREGATES = "probability | mean | vote"
METHODS = "auto | best_single | vote | mean | log_linear | stack"


def names_in(values: list[str] | None) -> list[str] | None:
    """`["a,b", "c"]` → `["a", "b", "c"]`; nothing given → None."""
    names = [name.strip() for value in values or () for name in value.split(",") if name.strip()]
    return names or None


def fuse(
    members: Members = None,
    method: Annotated[str, typer.Option("--method", help=f"{METHODS}.")] = "auto",
    aggregate: Annotated[
        str, typer.Option("--aggregate", help=f"Segments to song: {AGGREGATES}.")
    ] = "probability",
    score_norm: Annotated[
        str, typer.Option("--score_norm", help="Of neighbours' similarities: none | as_norm.")
    ] = "none",
    target_fpr: Annotated[
        float, typer.Option("--target_fpr", help="Share of unknown singers' songs named, at most.")
    ] = 0.1,
    index: Annotated[
        str, typer.Option("--index", help="Of the segments: flat | ivfpq | hnsw.")
    ] = "flat",
    segment_s: Annotated[
        float | None, typer.Option("--segment_s", help="Segments' length, s. Default: as trained.")
    ] = None,
    hop_s: Annotated[
        float | None, typer.Option("--hop_s", help="Start to start, s. Default: as trained.")
    ] = None,
    tta: Annotated[
        int, typer.Option("--tta", help="Segments more of each song, from random places.")
    ] = 0,
    drop_enrolled: Annotated[
        bool, typer.Option("--drop_enrolled", help="Lose enrolled singers that cannot stay.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Embed all songs, index them, calibrate, compare ways to fuse the experts, and take the best.

    Example: python app.py fuse --members ecapa-aam,ecapa-triplet
    """
    import embedder
    from embedder.inference.aggregate import AGGREGATES as KNOWN
    from embedder.inference.config import InferenceConfig, detector_fingerprint
    from ensemble.cli.tables import print_fusion
    from ensemble.fusion.fit import check_choices
    from ensemble.fusion.pipeline import (
        Choices,
        RunStores,
        choose_members,
        fuse_stores,
        kept_enrolled,
    )

    run = open_run(run_dir, after="train-embedder")
    catalogue = read_catalogue(run.catalogue)
    chosen = choose_members(run, names_in(members))
    check_choices(method, score_norm)
    if aggregate not in KNOWN:
        raise UserError(
            f"--aggregate {aggregate}{did_you_mean(aggregate, KNOWN)} is unknown; "
            f"choose from {', '.join(KNOWN)}"
        )
    choices = Choices(aggregate, method, score_norm, target_fpr, index, drop_enrolled, seed)
    choices.check()
    config = InferenceConfig(segment_s, hop_s, tta, detector_fingerprint(run))
    with locked(run, "fusion"):
        # What would be lost is refused before any work.
        stores = RunStores(run, catalogue, chosen, config)
        kept_enrolled(stores, choices.drop_enrolled)
        if stale := stores.stale():
            embedder.embed_songs(run, catalogue, stale, config, device, shown)
        if again := stores.stale_attenuated():
            embedder.embed_attenuated(run, catalogue, again, config, device, shown)
        fusion = fuse_stores(stores, choices, say)
    print_fusion(fusion)
    if fusion.unknown and fusion.unknown.costly:
        warn(f"unknown singers can hardly be told: {fusion.unknown.worth()}")
    say(f"wrote {run.fusion_folder}, with the predictions of known songs")
    say(f"next: {Command('analyze')}")
    say(f"or: {Command('predict', test_dir='SONGS')}")


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
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Say unknown first where it is none of the singers.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip_bad", help="Leave out files that cannot be used.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch_size", min=1, help="Files held at a time; changes no number.")
    ] = 8,
    device: Device = "auto",
    bundle: BundleFile = None,
    run_dir: RunOrBundle = None,
) -> None:
    """Name the three likeliest singers of each file of a folder.

    Example: python app.py predict --test_dir test --output prediction.csv
    """
    from ensemble.predictions import FORMATS, list_files, write_notes, write_skipped
    from ensemble.scoring import threshold_of

    if form not in FORMATS:
        raise UserError(
            f"--format {form}{did_you_mean(form, FORMATS)} is not legal; "
            f"it must be {' | '.join(FORMATS)}"
        )
    target = output or Path(f"prediction.{form}")
    if target.suffix == ".npz" or target.is_dir():
        raise UserError(f"--output {target} must be a file that does not end in .npz")
    with open_identifier(run_dir, bundle, members, device) as identifier:
        fusion, names = identifier.fusion, list(identifier.indexes)
        threshold = threshold_of(fusion, identifier.singers, names) if unknown else None
        list_files(test_dir)  # refuses what is no folder of audio, before members are loaded
        with naming_bad_files():
            found = identifier.predict(
                test_dir,
                stems_dir=stems_dir,
                skip_bad=skip_bad,
                batch_size=batch_size,
                progress=shown,
            )
    table, songs = found.write(target, form, unknown), len(found)
    strange = int(found.unknown.sum())
    say(f"wrote {target}, {counted(songs, 'song')}, and all probabilities in {table}")
    if unknown:
        say(f"{strange} of {songs} songs are of none of the known singers")
    if written := write_notes(target, found.notes):
        say(f"wrote {written}: what is to be known of {counted(len(found.notes), 'answer')}")
        name, (note, *_) = next(iter(found.notes.items()))
        warn(f"{len(found.notes)} of {songs} answers have a note, {name} for one: {note}")
    reasons = {
        Path(file).relative_to(test_dir).as_posix(): why for file, why in found.skipped.items()
    }
    if skipped := write_skipped(target, reasons):
        say(f"wrote {skipped}: {counted(len(reasons), 'file')} left out")
        name, reason = next(iter(reasons.items()))
        many = counted(len(reasons), "file", ("has", "have"))
        warn(f"{many} no answer, {name} for one: {reason}")
    if threshold and (threshold.costly or strange > 0.5 * songs):
        warn(f"{strange} of {songs} songs are called unknown; {threshold.worth()}")
    again = Command("evaluate", prediction=target, truth="TRUTH", run_dir=None)
    say(f"next, if the truth is known: {again}")


def open_identifier(
    run_dir: Path | None, bundle: Path | None, members: list[str] | None, device: str
) -> SingerIdentifier:
    """What answers recordings in a run or a bundle; it says and warns on the terminal."""
    from ensemble.identifier import SingerIdentifier

    if bundle is not None and run_dir is not None:
        raise UserError(f"--run_dir {run_dir} and --bundle {bundle} are two runs; give one of them")
    place, packed = bundle or run_dir or RUN_DIR, bundle is not None
    return SingerIdentifier.load(
        place, device=device, members=names_in(members), say=say, warn=warn, packed=packed
    )


@contextmanager
def naming_bad_files() -> Iterator[None]:
    """Where files cannot be used, say how many, and what leaves them out."""
    from ensemble.embedding import UnusableAudioFilesError

    try:
        yield
    except UnusableAudioFilesError as error:
        bad = len(error.problems)
        some = bad < error.total
        raise UserError(
            f"{bad} of {error.total} files cannot be used: {error}",
            f"--skip_bad leaves them out{typed_with('skip_bad')}" if some else "",
        ) from None


def place_files(
    run_dir: Path, members: list[str] | None, paths: Sequence[Path], device: str
) -> PlacedFiles:
    """New files, and those in folders, with their embeddings and predictions, for `analyze`.

    Raises:
        UserError: A path leads nowhere, a file cannot be used, or no member can take it.
    """
    from ensemble.results import PlacedFiles

    found = [pair for path in paths for pair in files_at(path)]
    files, names = [file for file, _ in found], [name for _, name in found]
    with open_identifier(run_dir, None, members, device) as identifier:
        answered = identifier.predict(files, names=names, keep_stores=True, progress=shown)
    return PlacedFiles(
        paths=tuple(files),
        names=tuple(names),
        singers=answered.singers,
        probabilities=answered.probabilities,
        batches=answered.batches,
        unavailable=answered.scores.unavailable,
    )


def files_at(path: Path) -> list[tuple[Path, str]]:
    """The file at a path, or all audio files in the folder there, each with what it is called."""
    from embedder.catalogue import without_audio_suffix
    from ensemble.predictions import list_files

    if path.is_dir():
        files = list_files(path, "--place")
        return [(file, without_audio_suffix(file.relative_to(path).as_posix())) for file in files]
    if not path.is_file():
        raise UserError(f"--place {path} does not exist; give audio files, or folders of them")
    return [(path, without_audio_suffix(path.name))]


def evaluate(
    prediction: Annotated[
        Path | None, typer.Option("--prediction", help="A prediction, csv or json.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", help="csv of ID,singer, or <singer>/<album>/<song> folders."),
    ] = None,
    seed: Seed = 0,
    verification: Annotated[
        bool, typer.Option("--verification", help="How well the run tells singers apart.")
    ] = False,
    run_dir: RunDir = Path("runs"),
) -> None:
    """Measure a prediction file against the truth, or a run's verification of singers.

    Example: python app.py evaluate --prediction prediction.csv --truth truth.csv
    """
    if not (verification or prediction or truth):
        raise UserError("nothing to evaluate; give --prediction P --truth T, or --verification")
    if bool(prediction) != bool(truth):
        given, other = ("prediction", "truth") if prediction else ("truth", "prediction")
        raise UserError(f"--{given} says nothing without --{other}; give both")
    if verification:
        from ensemble.cli.tables import evaluate_verification

        evaluate_verification(open_run(run_dir, after="fuse"), seed)
    if prediction and truth:
        print_evaluation(prediction, truth, seed)


def print_evaluation(prediction: Path, truth: Path, seed: int) -> None:
    """What a prediction file is worth against the truth, and each singer's recall."""
    from ensemble.evaluation import evaluate as measure
    from ensemble.evaluation import read_predictions, read_truth

    result = measure(read_predictions(prediction), read_truth(truth), seed)
    of = f"of {counted(result.albums, 'album')}, " if result.albums else ""
    resampled = "albums" if result.albums else "songs"
    print_table(
        f"{counted(result.songs, 'song')}, {of}song level, 95 % intervals: bootstrap over "
        f"{resampled}",
        ("metric", "value", "95 % interval"),
        [
            (name, f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}")
            for name, e in (
                ("top-1", result.top_1),
                *([(f"top-{min(3, result.columns)}", result.top_3)] if result.columns > 1 else []),
                ("score", result.score),
                ("macro F1", result.macro_f1),
            )
        ],
    )
    if not result.albums:
        say(
            "the truth names no albums, and songs of one album are often right or wrong together: "
            "the intervals may be too narrow; IDs <singer>/<album>/<song>, or the folder as "
            "--truth, name them"
        )
    if result.top_1.value == 1:
        say(
            f"no mistake in {result.top_1.groups} {resampled}, which chance would show with "
            f"mistakes in up to {1 - result.top_1.low:.1%} of {resampled}"
        )
    rows = [(r.singer, f"{r.recall:.3f}", f"{r.correct}/{r.songs}") for r in result.recalls]
    print_table("Recall", ("singer", "recall", "songs"), rows)
    if result.extra:
        warn(
            f"{counted(len(result.extra), 'prediction', ('stands', 'stand'))} in no truth, such "
            f"as {result.extra[0]}"
        )
    if result.unnamed:
        warn(
            f"no prediction names {len(result.unnamed)} of the truth's {len(result.recalls)} "
            f"singers, such as {result.unnamed[0]}{result.alike}"
        )
