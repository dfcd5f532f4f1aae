"""The commands that make a run like this one, from what the run stores of its own settings.

Enters: `Facts` and the fusion. Leaves: command lines. What a run does not store is not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from analysis.report.facts import Facts
from embedder.errors import RUN_DIR, Command, working_in
from embedder.settings import train_command
from ensemble.fusion.fitted import Fusion

NOT_STORED = (
    "Not stored in a run, so not here: --init, --finetune and --device. Folders have their last "
    "name only."
)


def commands(
    facts: Facts, fusion: Fusion | None, author: Mapping[str, str] | None = None
) -> list[str]:
    """All commands in their order; `author`: the options that this deck was made with."""
    with working_in(RUN_DIR):  # the run is made again in a folder of its own
        found = [prepare_command(facts.prepared)]
        stems = [one.config.train.stem for one in facts.members if one.config]
        if "separated" in stems:
            found.append(Command("train-separator"))
        if fusion and fusion.listening.detector:
            found.append(Command("train-detector"))
        found += [train_command(one.name, one.config) for one in facts.members]
        if fusion:
            found.append(fuse_command(fusion))
        found += [Command("measure"), Command("analyze"), Command("report", **author or {})]
        return [str(one) for one in found]


def prepare_command(prepared: dict[str, Any] | None) -> Command:
    """How the songs were prepared, as far as the run tells."""
    known = prepared or {}
    folders = {
        name: PurePath(known[name]).name for name in ("stems_dir", "lists_dir") if known.get(name)
    }
    return Command(
        "prepare",
        data_dir=PurePath(known["data_dir"]).name if known.get("data_dir") else "DATA",
        split=known.get("split") or None,
        **folders,
        keep_duplicates=bool(known.get("keep_duplicates")),
        keep_duets=bool(known.get("keep_duets")),
        seed=known.get("seed") or None,
    )


def fuse_command(fusion: Fusion) -> Command:
    """How the members were fused."""
    heard = fusion.listening
    return Command(
        "fuse",
        members=",".join(fusion.members),
        method=fusion.pooling.method,
        aggregate=fusion.aggregate if fusion.aggregate != "probability" else None,
        score_norm=fusion.score_norm if fusion.score_norm != "none" else None,
        segment_s=heard.segment_s,
        hop_s=heard.hop_s,
        tta=heard.tta or None,
    )
