"""A trained member on disk: weights, settings and labels together, nothing that runs on load.

Enters: a `Member`. Leaves: one folder, `model.safetensors` + `config.json` + `labels.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embedder.artifact import file_fingerprint, fingerprint, read_json, replacing, write_json
from embedder.config import MemberConfig
from embedder.errors import Command, UserError, did_you_mean
from embedder.models.network import Network
from embedder.run import FORMAT, Run
from embedder.settings import config_from_dict, train_again

HEAD = "head.weight"


@dataclass(frozen=True, eq=False)
class Member:
    """One trained embedder, in eval mode."""

    name: str
    config: MemberConfig
    singers: tuple[str, ...]  # label order
    catalogue: str  # fingerprint of the catalogue it was trained on
    network: Network
    head: Tensor | None  # (singers × centres, dim) class weights; None where the loss has none
    checkpoint: str = ""  # fingerprint of the weights file, once it is written


def weights_of(network: Network, head: Tensor | None) -> dict[str, Tensor]:
    """The tensors of a network and its head by name, on the CPU, contiguous."""
    tensors = dict(network.state_dict())
    if head is not None:
        tensors[HEAD] = head
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def save_member(run: Run, member: Member, about: dict[str, Any]) -> None:
    """Write a member's folder. `about` joins `config.json`: how the training went.

    The weights come last and carry fingerprints of the other two files, so a folder whose writing
    was cut off is never taken for a whole one.
    """
    folder = run.member(member.name)
    config = {
        "format": FORMAT,
        "name": member.name,
        "catalogue": member.catalogue,
        "config": member.config.to_dict(),
        "about": about,
    }
    write_json(folder / "config.json", config)
    write_json(folder / "labels.json", list(member.singers))
    made_from = {
        "format": str(FORMAT),
        "config": file_fingerprint(folder / "config.json"),
        "labels": file_fingerprint(folder / "labels.json"),
    }
    with replacing(run.weights(member.name)) as temporary:
        # One key: safetensors writes several in random order, and equal members are equal bytes.
        metadata = {"made_from": json.dumps(made_from, sort_keys=True)}
        save_file(weights_of(member.network, member.head), temporary, metadata=metadata)


def load_member(run: Run, name: str, device: torch.device | None = None) -> Member:
    """Read a member's folder, strictly.

    Raises:
        UserError: no such member, another format version, or files that do not belong together.
    """
    folder = run.member(name)
    weights = run.weights(name)
    if not weights.is_file():
        names = run.member_names()
        raise UserError(
            f"there is no trained {run.network_kind} '{name}'{did_you_mean(name, names)} in "
            f"{run.members} ({run.networks}: {', '.join(names) or 'none yet'}); "
            f"train one with: {Command(run.training_command)}"
        )
    again = train_again(run, name)
    try:
        with safe_open(weights, framework="pt") as file:
            made_from = json.loads((file.metadata() or {}).get("made_from", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{weights} is not a readable checkpoint ({error}); {again}") from None
    if made_from.get("format") != str(FORMAT):
        found = made_from.get("format", "unknown")
        raise UserError(f"{weights} is of format {found}, this program reads {FORMAT}; {again}")
    for kind in ("config", "labels"):
        path = folder / f"{kind}.json"
        if not path.is_file() or file_fingerprint(path) != made_from.get(kind):
            raise UserError(f"{path} does not belong to {weights.name}; {again}")
    described = read_json(folder / "config.json")
    config = config_from_dict(described["config"])
    singers = tuple(read_json(folder / "labels.json"))
    head = tensors.pop(HEAD, None)
    network = Network(config)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())  # torch's message has several lines
        raise UserError(f"{weights} does not fit its own config ({reason}); {again}") from None
    wanted = (len(singers) * config.loss.centres, config.model.embedding_dim)
    if head is not None and head.shape != wanted:
        raise UserError(f"{HEAD} in {weights} is {tuple(head.shape)}, not {wanted}; {again}")
    network.eval().requires_grad_(False)
    device = device or torch.device("cpu")
    return Member(
        name=name,
        config=config,
        singers=singers,
        catalogue=described["catalogue"],
        network=network.to(device),
        head=None if head is None else head.to(device),
        checkpoint=file_fingerprint(weights),
    )


def settings_fingerprint(config: MemberConfig, catalogue: str) -> str:
    """What decides a training's outcome: its settings and its songs."""
    return fingerprint(config.fingerprint(), catalogue)
