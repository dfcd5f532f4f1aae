"""The commands that fuse members, predict and evaluate: thin fronts, registered by `app.py`.

Enters: options. Leaves: what each command names in its last lines. Only here does the ensemble meet
the embedder's torch side, and only inside the commands.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.artifacts import open_run
from embedder.commands.members import Device, RunDir, Seed, catalogue_of, in_run
from embedder.console import print_table, say, shown
from embedder.errors import UserError

if TYPE_CHECKING:
    from ensemble.fusion import Fusion

Members = Annotated[
    list[str] | None,
    typer.Option("--members", help="Members by name, several with commas. Default: all."),
]

AGGREGATES = "probability | mean | vote"


def names_in(values: list[str] | None) -> list[str] | None:
    """`["a,b", "c"]` → `["a", "b", "c"]`; nothing given → None."""
    names = [name.strip() for value in values or () for name in value.split(",") if name.strip()]
    return names or None


def fuse(
    members: Members = None,
    aggregate: Annotated[
        str, typer.Option("--aggregate", help=f"Segments to song: {AGGREGATES}.")
    ] = "probability",
    segment_s: Annotated[
        float | None, typer.Option("--segment_s", help="Segments' length, s. Default: as trained.")
    ] = None,
    hop_s: Annotated[
        float | None, typer.Option("--hop_s", help="Start to start, s. Default: as trained.")
    ] = None,
    tta: Annotated[
        int, typer.Option("--tta", help="Segments more of each song, from random places.")
    ] = 0,
    seed: Seed = 0,
    device: Device = "auto",
    run_dir: RunDir = Path("runs"),
) -> None:
    """Embed all songs, index them, calibrate and weigh the experts.

    Example: python app.py fuse --members ecapa-aam,ecapa-triplet
    """
    from embedder.listening import Listening, detector_fingerprint
    from ensemble.pipeline import choose_members, fuse_run, stale_stores

    run = open_run(run_dir)
    catalogue = catalogue_of(run)
    chosen = choose_members(run, names_in(members))
    listening = Listening(segment_s, hop_s, tta, detector_fingerprint(run))
    if stale := stale_stores(run, catalogue, chosen, listening):
        from embedder.embed import embed_stale

        embed_stale(run, catalogue, stale, listening, device, shown)
    fusion = fuse_run(run, catalogue, chosen, aggregate, seed, listening)
    print_fusion(fusion)
    say(f"wrote {run.fusion.parent} and {run.predictions}")
    say(f"next: python app.py analyze{in_run(run_dir)}, or predict --test_dir X")


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
    from embedder.listening import detector_fingerprint
    from ensemble.fusion import check_detector
    from ensemble.pipeline import answer, list_files, open_fusion, write_prediction
    from ensemble.predictions import prediction_names, write_skipped

    run = open_run(run_dir)
    fusion, indexes = open_fusion(run, names_in(members))
    check_detector(fusion, detector_fingerprint(run))
    files = list_files(test_dir)
    prediction_names(files, test_dir)  # two files with one ID are refused before any work

    from embedder.checkpoint import load_member
    from embedder.embed_files import embed_files, usable_files, vocal_stems
    from embedder.model.network import default_device
    from embedder.voice.detect import load_detector

    where = default_device(device)
    loaded = [load_member(run, name, where) for name in indexes]
    detector = load_detector(run, where)
    files, bad = usable_files(files, skip_bad, shown)
    names = prediction_names(files, test_dir)
    separator = None
    if stems_dir is None and any(m.config.train.recording == "vocals" for m in loaded):
        from embedder.separation.songs import said_of, separated_vocals, separator_of

        catalogue = catalogue_of(run)
        separator = separator_of(run, catalogue, where)
        if separator:
            say(said_of(run, catalogue, separator))
    loaded, vocals, dropped = vocal_stems(loaded, files, test_dir, stems_dir, bool(separator))
    if dropped:
        say(f"without vocal stems (--stems_dir) these stay silent: {', '.join(dropped)}")
    batches = embed_files(
        loaded,
        files,
        names,
        vocals=vocals,
        separate=partial(separated_vocals, separator) if separator else None,
        listening=fusion.listening,
        detector=detector,
        batch_size=batch_size,
        progress=shown,
    )
    scores, voice = answer(fusion, indexes, batches)
    table = write_prediction(
        target, form, names, fusion.singers, scores, voice if detector else None
    )
    say(f"wrote {target}, {len(files)} songs, and all probabilities in {table}")
    if silent := [name for name, share in zip(names, voice, strict=True) if share == 0]:
        say(unsung(silent))
    reasons = {path.relative_to(test_dir).as_posix(): why for path, why in bad.items()}
    if skipped := write_skipped(target, reasons):
        say(f"wrote {skipped}: {len(bad)} files left out")
    say(f"next: python app.py evaluate --prediction {target} --truth T, if the truth is known")


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


def unsung(names: list[str]) -> str:
    """What is said of the files in which no voice was found."""
    first = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"no voice was found in {len(names)} files, which were heard as a whole: {first}"


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
