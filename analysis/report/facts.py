"""How a run was made, as its folder says: its members' settings, and the commands that repeat it.

What is missing is None; nothing here loads a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from embedder.artifact import read_json
from embedder.config import MemberConfig
from embedder.errors import RUN_DIR, Command, working_in
from embedder.inference.config import detector_fingerprint
from embedder.run import Run, preparation
from embedder.settings import network_record, train_command
from embedder.statistics import Estimate
from ensemble.fusion.fitted import Fusion

NOT_STORED = (
    "A run does not store --init, --finetune and --device, and folders by their last name only."
)


@dataclass(frozen=True)
class MemberFacts:
    """One member."""

    name: str
    config: MemberConfig | None = None  # None: its folder does not tell
    parameters: int | None = None
    remixed: bool | None = None  # its crops were vocals over other songs' backings


@dataclass(frozen=True)
class Quality:
    """How good one of the run's own networks is on its validation songs."""

    estimate: Estimate
    songs: int


@dataclass(frozen=True)
class Facts:
    """What a run is made of."""

    members: tuple[MemberFacts, ...]
    prepared: dict[str, Any] | None  # how `prepare` was called
    detector: Quality | None  # share of mixtures' frames that it calls right; None: not used
    separator: Quality | None  # SI-SDR that it adds to the vocals of a 0 dB mixture, dB


def read_facts(run: Run, members: Sequence[str], fusion: Fusion | None) -> Facts:
    """All that the run's folder tells; `UserError` for a file that is there and none of its own."""
    found = tuple(_member(run, name) for name in members)
    separated = any(one.config and one.config.train.stem == "separated" for one in found)
    detector = fusion.listening.detector if fusion else ""
    return Facts(
        found,
        preparation(run) or None,
        _detector(run) if detector and detector == detector_fingerprint(run) else None,
        _separator(run) if separated else None,
    )


def _member(run: Run, name: str) -> MemberFacts:
    if not (run.member(name) / "config.json").is_file():
        return MemberFacts(name)
    record = network_record(run, name)
    return MemberFacts(
        name, record.config, record.about.get("parameters"), record.about.get("remixed")
    )


def _detector(run: Run) -> Quality | None:
    path = run.detector / "accuracy.json"
    if not path.is_file():
        return None
    try:
        row = next(one for one in read_json(path) if one["condition"] == "mixture")
        return Quality(Estimate(**row["accuracy"]), int(row["songs"]))
    except (StopIteration, KeyError, TypeError, ValueError):
        return None  # older detectors were measured otherwise


def _separator(run: Run) -> Quality | None:
    path = run.separator / "quality.json"
    if not path.is_file():
        return None
    try:
        row = read_json(path)["0 dB"]
        value, low, high = (float(row["gain"][name]) for name in ("mean", "low", "high"))
        return Quality(Estimate(value, low, high), int(row["songs"]))
    except (KeyError, TypeError, ValueError):
        return None  # likewise


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
    grid = fusion.listening
    return Command(
        "fuse",
        members=",".join(fusion.members),
        method=fusion.method,
        aggregate=fusion.aggregate if fusion.aggregate != "probability" else None,
        score_norm=fusion.score_norm if fusion.score_norm != "none" else None,
        segment_s=grid.segment_s,
        hop_s=grid.hop_s,
        tta=grid.tta or None,
    )
