"""Every setting of a pre-training: a member's, where they apply, and those of its own.

Enters: a preset, a JSON file, single changes. Leaves: a `PretrainConfig` in which every value is
legal, or a `UserError` that names the setting and its legal values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from embedder.architectures import ARCHITECTURES
from embedder.artifact import fingerprint, read_json
from embedder.config import MemberConfig, setting
from embedder.errors import UserError, did_you_mean
from embedder.settings import all_settings, build_config, flatten, legal

# What differs from a member's own defaults. Two crops of a song share its recording, and whatever
# is not varied between them is what the network will learn to hear: so all of it is varied often.
PRETRAINING: dict[str, Any] = {
    "epochs": 20,
    "lr": 0.001,
    "equaliser": 0.8,
    "noise": 0.5,
    "low_pass": 0.3,
}


@dataclass(frozen=True)
class SelfSupervisedConfig:
    """What a network learns before anybody tells it who sings."""

    method: str = setting("simclr", "method", choices=("simclr", "vicreg", "byol"))
    batch_songs: int = setting(32, "songs in a batch, two crops of each", low=2, high=256)
    projector_dim: int = setting(256, "numbers inside and behind the projector", low=8, high=8192)
    ntxent_temperature: float = setting(
        0.2, "temperature of the cosines in simclr", low=0.01, high=1
    )
    target_momentum: float = setting(
        0.99, "share of its weights that byol's target keeps in a step, at first", low=0, high=1
    )


@dataclass(frozen=True)
class PretrainConfig:
    """All settings of one pre-training. Of a member's, those of loss and batches do nothing."""

    member: MemberConfig = field(default_factory=MemberConfig)
    own: SelfSupervisedConfig = field(default_factory=SelfSupervisedConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return {**self.member.to_dict(), "selfsupervised": asdict(self.own)}

    def fingerprint(self) -> str:
        return fingerprint(json.dumps(self.to_dict(), sort_keys=True))


def own_settings() -> dict[str, tuple[Any, type[Any]]]:
    """Setting name → (dataclass field, type), in the order of declaration."""
    hints = get_type_hints(SelfSupervisedConfig)
    return {item.name: (item, hints[item.name]) for item in fields(SelfSupervisedConfig)}


def build_pretraining(
    preset: str = "laptop",
    config_file: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> PretrainConfig:
    """A preset for the chosen backbone, `PRETRAINING`, a JSON file's settings, single changes.

    Raises:
        UserError: unknown preset or setting, value out of range, unreadable file, or a backbone or
            stem that cannot be pre-trained.
    """
    chosen = dict(changes or {})
    if config_file is not None:
        loaded = read_json(config_file)
        if not isinstance(loaded, dict):
            raise UserError(f"{config_file} must hold one JSON object of settings")
        groups = {**loaded.pop("selfsupervised", {}), **flatten(loaded)}
        chosen = {**groups, **chosen}
    mine = own_settings()
    unknown = [name for name in chosen if name not in mine and name not in all_settings()]
    if unknown:
        known = [*mine, *all_settings()]
        near = did_you_mean(unknown[0], known)
        raise UserError(
            f"there is no setting '{unknown[0]}'{near}; settings are: {', '.join(known)}"
        )
    own = {name: legal(*mine[name], chosen.pop(name)) for name in list(chosen) if name in mine}
    member = build_config(preset, None, chosen, PRETRAINING)
    backbone, stem = member.model.backbone, member.train.stem
    if ARCHITECTURES[backbone].fitted:
        raise UserError(f"backbone {backbone} cannot be pre-trained: no gradient reaches it")
    if stem == "separated":
        raise UserError("a pre-training hears stem mix | vocals | both, not separated")
    return PretrainConfig(member, SelfSupervisedConfig(**own))


def pretrained_name(config: PretrainConfig) -> str:
    """What a network is called unless the user names it: `simclr-ecapa`, `byol-crnn-vocals-s7`."""
    train = config.member.train
    parts = [config.own.method, config.member.model.backbone]
    parts += [train.stem] if train.stem != "mix" else []
    parts += [f"s{train.seed}"] if train.seed else []
    return "-".join(parts)
