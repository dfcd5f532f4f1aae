"""Trainings that begin from a network which is there already: its settings, and its weights.

Enters: the name of a trained member, or of a pre-trained network or its folder, and the changes
that a user asks for. Leaves: a `Beginning`: config, `Start`, and a name for the new member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from embedder.architectures import ARCHITECTURES
from embedder.artifact import file_fingerprint, fingerprint, read_json
from embedder.catalogue import Catalogue
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member
from embedder.models.network import Network
from embedder.models.ssl import find_weights, put_weights, read_weights
from embedder.presets import FINETUNING
from embedder.run import Run
from embedder.settings import build_config, member_name


@dataclass(frozen=True)
class Start:
    """Weights that are put into a network before its first step."""

    name: str  # said when training begins, such as "member ecapa-aam" or "weights.pt"
    fingerprint: str  # of their content: a training goes on only from the same start
    apply: Callable[[Network], None]
    head: Tensor | None = None  # (singers × centres, dim) class weights for the loss, if any


def published_start(config: MemberConfig, weights: Path | None = None) -> Start | None:
    """The published weights that a backbone stands on; None for one that begins random.

    `weights`: the user's own copy of them.

    Raises:
        UserError: the weights are nowhere, or the backbone takes none.
    """
    if config.model.backbone != "ssl":
        if weights is not None:
            raise UserError(f"--backbone {config.model.backbone} takes no --weights; ssl does")
        return None
    path = find_weights(config.model, weights)

    def apply(network: Network) -> None:
        put_weights(network.backbone, read_weights(path, config.model.ssl_layers), path)

    return Start(path.name, file_fingerprint(path), apply)


@dataclass(frozen=True)
class Beginning:
    """All that a training needs which does not begin from random weights."""

    config: MemberConfig
    start: Start
    name: str  # for the member, unless the user names it


def finetuning(
    run: Run,
    catalogue: Catalogue,
    name: str,
    config_file: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Beginning:
    """Large-margin fine-tuning (Thienpondt et al., ICASSP 2021) of the member `name`.

    Its settings hold but for `FINETUNING` and the changes; weights and head are where it ended.

    Raises:
        UserError: no such member, one of other songs or another architecture, or one whose head
            does not fit the loss.
    """
    member = load_member(run, name)
    if member.catalogue != catalogue.fingerprint() or member.singers != catalogue.singers:
        raise UserError(
            f"--finetune {name}: the member was trained on another catalogue than {run.catalogue} "
            "(other singers, songs or splits); its numbers on these songs would mean nothing"
        )
    own = member.config.to_dict()
    base = {setting: value for group in own.values() for setting, value in group.items()}
    base |= FINETUNING
    config = _same_network(member, f"--finetune {name}", "laptop", config_file, changes, base)
    head, loss = config.loss.head_part, config.loss.loss
    if head and member.head is None:
        raise UserError(
            f"--finetune {name}: the member's loss, {member.config.loss.loss}, has no class "
            f"weights, and the {loss} loss must begin from some"
        )
    if head and member.config.loss.centres != config.loss.centres:
        raise UserError(
            f"--finetune {name}: the member has {member.config.loss.centres} class weights a "
            f"singer, and the {loss} loss needs {config.loss.centres}"
        )
    start = Start(
        name=f"member {name}",
        fingerprint=fingerprint("finetuning", member.checkpoint),
        apply=_put(member),
        head=member.head,
    )
    return Beginning(config, start, f"{name}-lm")


def initialised(
    run: Run,
    source: str,
    preset: str,
    config_file: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Beginning:
    """A training from the weights of `source`: a pre-trained network's name in the run, or the
    folder of one, or of a member, anywhere.

    Its features and its architecture stand above the preset's; nothing else is taken over.

    Raises:
        UserError: no such network, or the changes ask for another architecture.
    """
    shelf, name = run.pretrained, source
    folder = Path(source).resolve()
    if source not in shelf.member_names() and folder.is_dir():
        shelf, name = Run(folder.parent.parent, networks=folder.parent.name), folder.name
    network = load_member(shelf, name)
    base = {**network.config.features.model_dump(), **network.config.model.model_dump()}
    config = _same_network(network, f"--init {source}", preset, config_file, changes, base)
    start = Start(
        name=f"{shelf.network_kind} {name}",
        fingerprint=fingerprint("initialised", network.checkpoint),
        apply=_put(network),
    )
    about = read_json(shelf.member(name) / "config.json")["about"]
    return Beginning(config, start, f"{member_name(config)}-{about.get('method', name)}")


def _same_network(
    source: Member,
    option: str,
    preset: str,
    config_file: Path | None,
    changes: Mapping[str, Any] | None,
    base: Mapping[str, Any],
) -> MemberConfig:
    """The settings, built as always; refused where they are of another network than the weights."""
    own = source.config
    backbone = own.model.backbone
    if ARCHITECTURES[backbone].fitted:
        raise UserError(f"{option}: {backbone} is not trained by gradients")
    other = f"{option}: its weights are of another network: "
    asked = (changes or {}).get("backbone", backbone)
    if asked != backbone:  # before the settings of the two are mixed
        raise UserError(f"{other}backbone {backbone} (now {asked})")
    config = build_config(preset, config_file, changes, base)
    old = {**own.features.model_dump(), **own.model.model_dump()}
    new = {**config.features.model_dump(), **config.model.model_dump()}
    changed = [f"{name} {old[name]} (now {new[name]})" for name in old if old[name] != new[name]]
    if changed:
        raise UserError(other + ", ".join(changed))
    return config


def _put(source: Member) -> Any:
    """Puts the weights of everything that learns, not of a separator before it, into a network."""

    def apply(network: Network) -> None:
        for part in ("features", "backbone", "projection"):
            getattr(network, part).load_state_dict(getattr(source.network, part).state_dict())

    return apply
