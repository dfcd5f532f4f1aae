"""A trained member on disk: weights, settings and labels together, nothing that runs on load.

Input: a `Member`. Output: one folder, `model.safetensors` + `config.json` + `labels.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from embedder.artifact import file_fingerprint, fingerprint, read_json, write_json
from embedder.config import MemberConfig
from embedder.errors import Command, UserError, did_you_mean
from embedder.models.network import Network
from embedder.models.weights import load_weights, read_weights, save_weights, tensors_of
from embedder.run import Run
from embedder.settings import NETWORK, NetworkRecord, train_again

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
    tensors = tensors_of(network)
    if head is not None:
        tensors[HEAD] = head.detach().cpu().contiguous().clone()
    return tensors


def save_member(run: Run, member: Member, about: dict[str, Any]) -> None:
    """Write a member's folder. `about` joins `config.json`: how the training went."""
    folder = run.member(member.name)
    record = NetworkRecord(member.name, member.catalogue, member.config, about)
    NETWORK.write(folder / "config.json", record)
    write_json(folder / "labels.json", list(member.singers))
    beside = [folder / "config.json", folder / "labels.json"]
    tensors = weights_of(member.network, member.head)
    save_weights(run.weights(member.name), "checkpoint", tensors, beside)


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
    beside = [folder / "config.json", folder / "labels.json"]
    tensors = read_weights(weights, "checkpoint", beside, again)
    record = NETWORK.read(folder / "config.json", again)
    config, singers = record.config, tuple(read_json(folder / "labels.json", again))
    head = tensors.pop(HEAD, None)
    network = Network(config)
    load_weights(network, tensors, weights, "its own config", again)
    wanted = (len(singers) * config.loss.centres, config.model.embedding_dim)
    if head is not None and head.shape != wanted:
        raise UserError(f"{HEAD} in {weights} is {tuple(head.shape)}, not {wanted}; {again}")
    device = device or torch.device("cpu")
    return Member(
        name=name,
        config=config,
        singers=singers,
        catalogue=record.catalogue,
        network=network.to(device),
        head=None if head is None else head.to(device),
        checkpoint=file_fingerprint(weights),
    )


def settings_fingerprint(config: MemberConfig, catalogue: str) -> str:
    """What decides a training's outcome: its settings and its songs."""
    return fingerprint(config.fingerprint(), catalogue)
