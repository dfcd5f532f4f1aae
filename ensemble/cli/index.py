"""The command that measures indexes: a thin front, registered by `app.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedder.cli.arguments import Seed
from embedder.console import print_table, say
from embedder.errors import UserError, did_you_mean


def benchmark_index(
    vectors: Annotated[
        int, typer.Option("--vectors", min=1, help="Synthetic segment embeddings.")
    ] = 1_000_000,
    dim: Annotated[int, typer.Option("--dim", min=2, help="Their dimension.")] = 192,
    queries: Annotated[
        int, typer.Option("--queries", min=1, help="Synthetic segments of other songs.")
    ] = 1000,
    kinds: Annotated[
        str, typer.Option("--kinds", help="With commas: flat | ivfpq | hnsw.")
    ] = "flat,ivfpq,hnsw",
    output: Annotated[
        Path | None, typer.Option("--output", help="A new folder for the indexes. Default: none.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Build and search indexes of synthetic embeddings: time, memory and recall.

    Example: python app.py benchmark-index --vectors 100000 --kinds flat,hnsw
    """
    from tempfile import TemporaryDirectory

    from ensemble.index.benchmark import BATCH, benchmark
    from ensemble.index.vectors import KINDS, MIN_VECTORS, threads

    chosen = list(dict.fromkeys(kind.strip() for kind in kinds.split(",")))
    for kind in chosen:
        if kind not in KINDS:
            raise UserError(
                f"--kinds {kind or repr(kind)}{did_you_mean(kind, KINDS)} is unknown; "
                f"choose from {', '.join(KINDS)}"
            )
        if vectors < MIN_VECTORS[kind]:
            raise UserError(
                f"--vectors {vectors} are too few: {kind} needs at least {MIN_VECTORS[kind]}"
            )
    if output is not None and output.exists() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"--output {output} is there already; it must be a new folder")
    with TemporaryDirectory(prefix="index-") as scratch:
        rows = []
        for row in benchmark(output or Path(scratch), vectors, dim, queries, chosen, seed):
            say(f"{row.kind}: built in {row.build_s:.1f} s, recall@10 {row.recall:.3f}")
            rows.append(row)
    print_table(
        f"{vectors} synthetic segments x {dim} dim, {queries} queries in batches of {BATCH}, "
        f"{threads()} threads",
        ("index", "build s", "MB building", "MB on disk", "queries/s", "MB searching", "recall@10"),
        [
            (
                row.kind,
                f"{row.build_s:.1f}",
                f"{row.build_mb:.0f}",
                f"{row.disk_mb:.0f}",
                f"{row.queries_per_s:.0f}",
                f"{row.query_mb:.0f}",
                f"{row.recall:.3f}",
            )
            for row in rows
        ],
    )
    say("MB are the most resident at once, in a process of its own, with the program itself")
    if output is not None:
        say(f"wrote {output}")
