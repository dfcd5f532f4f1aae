"""The commands that make a run like this one, from what the run stores of its own settings.

Enters: `Facts` and the fusion. Leaves: command lines. What a run does not store is not in them.
"""

from __future__ import annotations

from pathlib import PurePath
from shlex import quote
from typing import Any

from analysis.report.facts import Facts, MemberFacts
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.presets import PRESETS
from embedder.settings import all_settings, build_config, member_name
from ensemble.fusion import Fusion

OPTIONS = ("stem", "seed", "epochs", "segment_s")  # settings that have an option of their own
NOT_STORED = (
    "Not stored in a run, so not here: --init, --finetune and --device. Folders have their last "
    "name only."
)


def commands(facts: Facts, fusion: Fusion | None, report: str = "") -> list[str]:
    """All commands in their order; `report`: the options that this deck was made with."""
    found = [prepare_command(facts.prepared)]
    stems = [one.config.train.stem for one in facts.members if one.config]
    if "separated" in stems:
        found.append("python app.py train-separator")
    if fusion and fusion.listening.detector:
        found.append("python app.py train-detector")
    found += [train_command(one) for one in facts.members]
    if fusion:
        found.append(fuse_command(fusion))
    return [
        *found,
        "python app.py measure",
        "python app.py analyze",
        f"python app.py report{report}",
    ]


def prepare_command(prepared: dict[str, Any] | None) -> str:
    """How the songs were prepared, as far as the run tells."""
    told = prepared or {}
    words = ["python app.py prepare --data_dir", _folder(told.get("data_dir"), "DATA")]
    if told.get("split"):
        words += ["--split", str(told["split"])]
    for name in ("stems_dir", "lists_dir"):
        if told.get(name):
            words += [f"--{name}", _folder(told[name], name)]
    if told.get("keep_duplicates"):
        words.append("--keep_duplicates")
    if told.get("seed"):
        words += ["--seed", str(told["seed"])]
    return " ".join(words)


def train_command(member: MemberFacts) -> str:
    """The shortest command for a member: the preset that differs least, and what differs."""
    if member.config is None:
        return f"python app.py train-embedder --name {quote(member.name)}"
    values = flat(member.config)
    best = min((_different(values, preset) for preset in PRESETS), key=lambda one: len(one[1]))
    preset, changed = best
    words = [f"python app.py train-embedder --backbone {values['backbone']}"]
    words.append(f"--loss {values['loss']}")
    words += [f"--preset {preset}"] if preset != "laptop" else []
    words += [f"--{name} {values[name]}" for name in OPTIONS if name in changed]
    words += [f"--set {name}={values[name]}" for name in changed if name not in OPTIONS]
    words += [f"--name {quote(member.name)}"] if member.name != member_name(member.config) else []
    return " ".join(words)


def fuse_command(fusion: Fusion) -> str:
    """How the members were fused."""
    heard = fusion.listening
    words = [f"python app.py fuse --members {quote(','.join(fusion.members))}"]
    words.append(f"--method {fusion.pooling.method}")
    for name, value, usual in (
        ("aggregate", fusion.aggregate, "probability"), ("score_norm", fusion.score_norm, "none"),
        ("segment_s", heard.segment_s, None), ("hop_s", heard.hop_s, None), ("tta", heard.tta, 0),
    ):  # fmt: skip
        if value != usual:
            words.append(f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}")
    return " ".join(words)


def flat(config: MemberConfig) -> dict[str, Any]:
    """Setting → value."""
    groups = config.to_dict()
    return {name: groups[group][name] for name, (group, _, _) in all_settings().items()}


def _different(values: dict[str, Any], preset: str) -> tuple[str, list[str]]:
    """(preset, settings in which it differs from `values`); all, where it cannot be built."""
    try:
        built = build_config(preset, changes={n: values[n] for n in ("backbone", "loss")})
    except UserError:
        return preset, list(values)
    there = flat(built)
    return preset, [name for name, value in values.items() if there[name] != value]


def _folder(path: str | None, otherwise: str) -> str:
    return quote(PurePath(path).name) if path else otherwise
