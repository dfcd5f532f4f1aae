"""Trainings that begin from another network: its settings, its weights, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from embedder.catalogue import Catalogue, read_catalogue
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member, save_member
from embedder.models.network import Network
from embedder.presets import FINETUNING
from embedder.run import Run
from embedder.training.losses import build_loss
from embedder.training.members import train_member
from embedder.training.warm_start import WarmStart, fine_tuned, initialised

Tiny = Callable[..., MemberConfig]


def finetune(run: Run, name: str = "aam", **changes: Any) -> WarmStart:
    return fine_tuned(run, read_catalogue(run.catalogue), name, None, changes)


def some_member(run: Run, config: MemberConfig, name: str, *, head: bool = True) -> Member:
    """A member of the run's catalogue with random weights, on disk."""
    catalogue = read_catalogue(run.catalogue)
    torch.manual_seed(3)
    rows = len(catalogue.singers) * config.loss.centres
    weights = torch.randn(rows, config.model.embedding_dim) if head else None
    network = Network(config).eval()
    fingerprint = catalogue.fingerprint()
    save_member(run, Member(name, config, catalogue.singers, fingerprint, network, weights), {})
    return load_member(run, name)


def random_network(run: Run, config: MemberConfig, name: str = "simclr-ecapa") -> Member:
    """A network as `pretrain` leaves it, with random weights, on disk."""
    torch.manual_seed(4)
    network = Network(config).eval()
    save_member(
        run.pretrained, Member(name, config, (), "songs", network, None), {"method": "byol"}
    )
    return load_member(run.pretrained, name)


def same_network(one: Network, other: Network) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# Fine-tuning ------------------------------------------------------------------------------------


def test_fine_tuning_keeps_the_member_s_settings_but_for_a_few(trained: Run) -> None:
    own = load_member(trained, "aam").config
    beginning = finetune(trained)
    assert beginning.name == "aam-lm"
    old = {k: v for group in own.to_dict().values() for k, v in group.items()}
    new = {k: v for group in beginning.config.to_dict().values() for k, v in group.items()}
    assert new == old | FINETUNING
    assert (new["aam_margin"], new["segment_s"], new["margin_warmup"]) == (0.5, 6, 0)
    changed = finetune(trained, aam_margin=0.4, epochs=2, stem="vocals").config
    assert (changed.loss.aam_margin, changed.train.epochs, changed.train.stem) == (0.4, 2, "vocals")


@pytest.mark.parametrize("loss", ["aam", "subcenter", "triplet+cosface", "softmax", "proxyanchor"])
def test_fine_tuning_begins_from_the_member_s_weights_and_head(
    loss: str, prepared: Run, tiny: Tiny
) -> None:
    member = some_member(prepared, tiny(loss=loss), "m")
    beginning = finetune(prepared, "m")
    torch.manual_seed(9)
    network = Network(beginning.config)
    assert not same_network(network, member.network)
    beginning.weights.load(network)
    assert same_network(network, member.network)
    objective = build_loss(beginning.config.loss, 4, 16)
    assert isinstance(beginning.weights.head, Tensor)
    objective.start_from(beginning.weights.head)
    head = objective.head()
    assert head is not None
    assert member.head is not None
    assert torch.equal(head, member.head)


def test_a_fine_tuned_member_is_near_the_one_that_it_began_from(trained: Run) -> None:
    beginning = finetune(trained, lr=1e-7, weight_decay=0, epochs=1, segment_s=1.0)
    said: list[str] = []
    catalogue = read_catalogue(trained.catalogue)
    member = train_member(
        trained, catalogue, beginning.name, beginning.config,
        start=beginning.weights, device="cpu", say=said.append,
    )  # fmt: skip
    assert "aam-lm begins from member aam" in said
    first = load_file(trained.weights("aam"))
    after = load_file(trained.weights("aam-lm"))
    learning = {name for name, _ in member.network.named_parameters()} | {"head.weight"}
    for name in learning:
        assert torch.allclose(first[name], after[name], atol=1e-5), name
    assert not torch.equal(first["head.weight"], after["head.weight"])
    assert trained.member_names() == ["aam", "aam-lm", "triplet"]
    again = finetune(trained, lr=1e-7, weight_decay=0, epochs=1, segment_s=1.0)
    train_member(
        trained, catalogue, again.name, again.config,
        start=again.weights, device="cpu", say=said.append,
    )  # fmt: skip
    assert "already trained with these settings" in said[-1]
    with pytest.raises(UserError, match="aam-lm is already there with another start"):
        train_member(trained, catalogue, again.name, again.config, device="cpu")


def test_a_member_of_other_songs_is_not_fine_tuned(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    fewer = Catalogue(catalogue.songs[:-1])
    with pytest.raises(
        UserError, match=r"--finetune aam: .* on another catalogue than .*catalogue"
    ):
        fine_tuned(trained, fewer, "aam")
    with pytest.raises(UserError, match=r"no trained member 'x' .*\(members: aam, triplet\)"):
        fine_tuned(trained, catalogue, "x")


def test_another_architecture_is_not_fine_tuned(trained: Run, tiny: Tiny) -> None:
    with pytest.raises(
        UserError, match=r"^--finetune aam: .* of another network: backbone ecapa \(now crnn\)$"
    ):
        finetune(trained, backbone="crnn")
    with pytest.raises(
        UserError, match=r"another network: n_mels 80 \(now 64\), channels 16 \(now 32"
    ):
        finetune(trained, channels=32, n_mels=64)
    some_member(trained, tiny(backbone="ivector"), "dehak")
    with pytest.raises(UserError, match="--finetune dehak: ivector is not trained by gradients"):
        finetune(trained, "dehak")


def test_a_head_that_does_not_fit_the_loss_is_refused(prepared: Run, tiny: Tiny) -> None:
    some_member(prepared, tiny(loss="triplet"), "bare", head=False)
    with pytest.raises(
        UserError, match="loss, triplet, has no class weights, and the aam loss must"
    ):
        finetune(prepared, "bare", loss="aam")
    assert finetune(prepared, "bare").weights.head is None  # goes on with triplets
    some_member(prepared, tiny(loss="aam"), "m")
    with pytest.raises(
        UserError, match=r"has 1 class weights a singer, and the subcenter loss .* 3$"
    ):
        finetune(prepared, "m", loss="subcenter")
    assert finetune(prepared, "m", loss="cosface+triplet").weights.head is not None
    assert finetune(prepared, "m", loss="triplet").config.loss.loss == "triplet"


# From pre-trained weights -----------------------------------------------------------------------


def test_a_training_takes_the_network_of_what_it_begins_from(prepared: Run, tiny: Tiny) -> None:
    source = random_network(prepared, tiny(epochs=9, stem="vocals"))
    beginning = initialised(prepared, "simclr-ecapa", "laptop", None, {"loss": "triplet"})
    config = beginning.config
    assert (config.features, config.model) == (source.config.features, source.config.model)
    assert (config.train.epochs, config.train.stem) == (6, "mix")  # the preset's
    assert beginning.name == "ecapa-triplet-byol"
    assert beginning.weights.head is None
    network = Network(config)
    beginning.weights.load(network)
    assert same_network(network, source.network)


def test_a_folder_anywhere_can_be_begun_from(prepared: Run, tiny: Tiny, tmp_path: Path) -> None:
    source = random_network(prepared, tiny())
    folder = tmp_path / "elsewhere" / "downloads" / "mine"
    shutil.copytree(prepared.pretrained.member("simclr-ecapa"), folder)
    by_name = initialised(prepared, "simclr-ecapa", "laptop")
    by_path = initialised(prepared, str(folder), "laptop")
    assert by_path.config == by_name.config
    assert by_path.weights.fingerprint == by_name.weights.fingerprint
    member = some_member(prepared, tiny(), "m")  # with a head, which is left where it is
    of_member = initialised(prepared, str(prepared.member("m")), "laptop")
    assert of_member.name == "ecapa-aam-m"
    assert of_member.weights.fingerprint != by_name.weights.fingerprint
    assert of_member.weights.head is None
    network = Network(of_member.config)
    of_member.weights.load(network)
    assert same_network(network, member.network)
    assert not same_network(network, source.network)


def test_what_is_not_there_or_of_another_network_is_refused(prepared: Run, tiny: Tiny) -> None:
    missing = r"no trained network 'x' .*\(pretrained: none yet\); .* app\.py pretrain$"
    with pytest.raises(UserError, match=missing):
        initialised(prepared, "x", "laptop")
    random_network(prepared, tiny())
    with pytest.raises(UserError, match=r"^--init simclr-ecapa: .*backbone ecapa \(now crnn\)$"):
        initialised(prepared, "simclr-ecapa", "laptop", None, {"backbone": "crnn"})
    with pytest.raises(UserError, match=r"another network: embedding_dim 16 \(now 24\)$"):
        initialised(prepared, "simclr-ecapa", "laptop", None, {"embedding_dim": 24})


def test_a_separator_before_the_network_is_not_taken_over(prepared: Run, tiny: Tiny) -> None:
    small = {"separator_hidden": 8, "separator_layers": 1}
    own = some_member(prepared, tiny(stem="separated", **small), "m")
    network = Network(own.config.model_copy(update={"train": tiny(stem="mix").train}))
    finetune(prepared, "m", stem="mix").weights.load(network)
    assert torch.equal(network.projection[0].weight, own.network.projection[0].weight)
