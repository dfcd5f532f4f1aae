"""Trainings that begin from weights: fine-tuned, pre-trained or published ones."""

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
from embedder.training.losses import ClassLoss, PairLoss, SummedLoss


@dataclass(frozen=True)
class InitialWeights:
    """Weights that a network has before its first step."""

    name: str  # such as "member ecapa-aam" or "weights.pt"
    fingerprint: str  # of their content: a training is resumed only from the same start
    load: Callable[[Network], None]
    head: Tensor | None = None  # (singers × centres, dim) class weights for the loss, if any

    def put_into(self, network: Network, loss: ClassLoss | PairLoss | SummedLoss) -> None:
        """Give the network, and the loss where it has class weights, these weights."""
        self.load(network)
        if self.head is not None:
            loss.start_from(self.head)


@dataclass(frozen=True)
class WarmStart:
    """All that a training needs which begins from another network."""

    config: MemberConfig
    weights: InitialWeights
    name: str  # for the member, unless the user names it


def published_weights(config: MemberConfig, path: Path | None = None) -> InitialWeights | None:
    """The published weights that a backbone builds on; None for one that begins random.

    Args:
        config: Of the member.
        path: The user's own copy of the weights. Default: those in torch's cache.

    Raises:
        UserError: The weights are nowhere, or the backbone takes none.
    """
    if config.model.backbone != "ssl":
        if path is not None:
            raise UserError(f"--backbone {config.model.backbone} takes no --weights; ssl does")
        return None
    file = find_weights(config.model, path)

    def load(network: Network) -> None:
        put_weights(network.backbone, read_weights(file, config.model.ssl_layers), file)

    return InitialWeights(file.name, file_fingerprint(file), load)


def fine_tuned(
    run: Run,
    catalogue: Catalogue,
    name: str,
    config_file: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> WarmStart:
    """Large-margin fine-tuning of a member: its weights, and its settings but for `FINETUNING`.

    Args:
        run: The run folder.
        catalogue: Its songs.
        name: Of a trained member.
        config_file: JSON file of settings that change.
        changes: Single settings that change; they have the last word.

    Raises:
        UserError: No such member, one of other songs or another architecture, or one whose head
            does not fit the loss.

    Source:
        Thienpondt et al., ICASSP 2021.
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
    weights = InitialWeights(
        name=f"member {name}",
        fingerprint=fingerprint("finetuning", member.checkpoint),
        load=_copy_of(member),
        head=member.head,
    )
    return WarmStart(config, weights, f"{name}-lm")


def initialised(
    run: Run,
    source: str,
    preset: str,
    config_file: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> WarmStart:
    """A training from the weights of another network, whose features and architecture stand above
    the preset's; nothing else is taken over.

    Args:
        run: The run folder.
        source: A pre-trained network's name in the run, or the folder of one, or of a member.
        preset: Name of the preset.
        config_file: JSON file of settings that change.
        changes: Single settings that change; they have the last word.

    Raises:
        UserError: No such network, or the changes ask for another architecture.
    """
    networks, name = run.pretrained, source
    folder = Path(source).resolve()
    if source not in networks.member_names() and folder.is_dir():
        networks, name = Run(folder.parent.parent, networks=folder.parent.name), folder.name
    network = load_member(networks, name)
    base = {**network.config.features.model_dump(), **network.config.model.model_dump()}
    config = _same_network(network, f"--init {source}", preset, config_file, changes, base)
    weights = InitialWeights(
        name=f"{networks.network_kind} {name}",
        fingerprint=fingerprint("initialised", network.checkpoint),
        load=_copy_of(network),
    )
    about = read_json(networks.member(name) / "config.json")["about"]
    return WarmStart(config, weights, f"{member_name(config)}-{about.get('method', name)}")


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


def _copy_of(source: Member) -> Callable[[Network], None]:
    """Copies the weights of all that learns, not of a separator before it, into a network."""

    def load(network: Network) -> None:
        for part in ("features", "backbone", "projection"):
            getattr(network, part).load_state_dict(getattr(source.network, part).state_dict())

    return load
