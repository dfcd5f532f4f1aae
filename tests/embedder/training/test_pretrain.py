"""Pre-training of tiny networks on synthesised songs: resumed, refused, replaced, of use."""

from __future__ import annotations

import csv
import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from embedder.artifact import read_json
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.config import MemberConfig, PretrainConfig, SelfSupervisedConfig
from embedder.data.cache import AudioCache
from embedder.data.prepare import prepare
from embedder.data.synth import synthesise
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member
from embedder.inference.embed import embed_wave
from embedder.models.network import Network
from embedder.run import Run, create_run
from embedder.settings import build_pretraining
from embedder.training.members import train_member
from embedder.training.pretrain import pretrain
from embedder.training.self_supervised import METHODS
from embedder.training.warm_start import initialised

Tiny = Callable[..., MemberConfig]
ROOT = Path(__file__).parents[3]
OWN: dict[str, Any] = {"batch_songs": 3, "projector_dim": 16}
FINISHED = {"config.json", "labels.json", "log.csv", "model.safetensors", "resume/settings.json"}


def config_of(tiny: Tiny, method: str = "simclr", **changes: Any) -> PretrainConfig:
    own = {**OWN, **{name: changes.pop(name) for name in list(changes) if name in OWN}}
    member = tiny(**{"crops_per_song": 6, "lr": 0.001, **changes})
    return PretrainConfig(member=member, own=SelfSupervisedConfig(method=method, **own))


def train(run: Run, config: PretrainConfig, name: str = "n", **options: Any) -> tuple[Member, str]:
    """Pre-train on the CPU; the network, and what was said."""
    said: list[str] = []
    options = {"device": "cpu", "say": said.append, **options}
    return pretrain(run, read_catalogue(run.catalogue), name, config, **options), "\n".join(said)


def learnt(run: Run, name: str = "n") -> list[dict[str, str]]:
    """The log without the speeds."""
    with run.pretrained.log(name).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["epoch", "loss", "lr", "spread", "audio_per_s"]
        return [{k: v for k, v in row.items() if k != "audio_per_s"} for row in reader]


def weights(run: Run, name: str = "n") -> dict[str, torch.Tensor]:
    return load_file(run.pretrained.weights(name))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[k]) for k, t in one.items())


def files_of(run: Run, name: str = "n") -> set[str]:
    folder = run.pretrained.member(name)
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_the_same_network_twice(method: str, prepared: Run, tiny: Tiny) -> None:
    config = config_of(tiny, method)
    network, said = train(prepared, config)
    assert f"{method} of ecapa, " in said
    assert "input: two crops each of 4 songs, 3 songs in a batch" in said
    assert files_of(prepared) == FINISHED
    assert (network.singers, network.head) == ((), None)
    assert network.config == config.member
    torch.manual_seed(config.member.train.seed)
    start = dict(Network(config.member).named_parameters())
    learning = network.network.named_parameters()
    assert not any(torch.equal(tensor, start[name]) for name, tensor in learning)
    rows = learnt(prepared)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["spread"]) > 0.1 for row in rows)
    about = read_json(prepared.pretrained.member("n") / "config.json")["about"]
    assert (about["method"], about["epochs"], about["songs"]) == (method, 2, 4)
    assert about["selfsupervised"]["batch_songs"] == 3
    assert prepared.member_names() == []

    train(prepared, config, "again")
    assert same(weights(prepared), weights(prepared, "again"))
    train(prepared, config_of(tiny, method, seed=1), "other")
    assert not same(weights(prepared), weights(prepared, "other"))


def test_labels_change_nothing(prepared: Run, tiny: Tiny) -> None:
    train(prepared, config_of(tiny))
    songs = read_catalogue(prepared.catalogue).songs
    turned = dict(zip(sorted({s.singer for s in songs}), "dcab", strict=True))
    pretrain(
        prepared,
        Catalogue(tuple(dataclasses.replace(song, singer=turned[song.singer]) for song in songs)),
        "turned",
        config_of(tiny),
        device="cpu",
        say=lambda _: None,
    )
    assert same(weights(prepared), weights(prepared, "turned"))


# Killed and continued ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["byol", "simclr"])
def test_cut_off_after_an_epoch_it_goes_on_to_the_same_weights(
    method: str, prepared: Run, tiny: Tiny
) -> None:
    class CutOff(BaseException):
        pass

    def say(text: str) -> None:
        if text.startswith("epoch   2/4"):
            raise CutOff

    config = config_of(tiny, method, epochs=4, crops_per_song=3)
    with pytest.raises(CutOff):
        train(prepared, config, say=say)
    assert not prepared.pretrained.weights("n").exists()
    _, said = train(prepared, config)
    assert "going on after epoch 2\n" in said
    assert said.count("epoch  ") == 2
    train(prepared, config, "undisturbed")
    assert same(weights(prepared), weights(prepared, "undisturbed"))
    assert learnt(prepared) == learnt(prepared, "undisturbed")
    assert files_of(prepared) == FINISHED


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_after_an_epoch_the_same_command_goes_on_to_the_same_weights(
    prepared: Run,
    tiny_options: list[str],
    killed_at: Callable[..., int],
    command: Callable[..., Any],
) -> None:
    words = ["pretrain", "--name", "n", "--device", "cpu", "--method", "byol", *tiny_options]
    changes = {**OWN, "crops_per_song": 6, "epochs": 5}
    words += [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    words += ["--run_dir", str(prepared.root)]
    assert killed_at("epoch   1/5", *words) == -signal.SIGKILL
    assert not prepared.pretrained.weights("n").exists()

    lines = command(*words).out.splitlines()
    assert "going on after epoch 1" in lines
    epochs = [line.split()[1] for line in lines if line.startswith("epoch ")]
    assert epochs == [f"{n}/5" for n in range(2, 6)]
    assert lines[-1].startswith("next: python app.py train-embedder --init n --run_dir ")
    texts = [part for part in tiny_options if "=" in part]
    settings = {**dict(text.split("=") for text in texts), **changes, "method": "byol"}
    train(prepared, build_pretraining(changes=settings), "undisturbed")
    assert same(weights(prepared), weights(prepared, "undisturbed"))
    assert learnt(prepared) == learnt(prepared, "undisturbed")
    assert files_of(prepared) == FINISHED


# Finished, other, refused -------------------------------------------------------------------------


def test_a_finished_network_is_kept_unless_it_is_overwritten(
    prepared: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(prepared, config_of(tiny))
    first = weights(prepared)
    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "fit", None)
        _, said = train(prepared, config_of(tiny))
        assert said == "n is already trained with these settings; --overwrite trains it again"
        different = r"network n is already there with other settings: method simclr \(now byol\); "
        with pytest.raises(UserError, match=different):
            train(prepared, config_of(tiny, "byol"))
        with pytest.raises(UserError, match="'a/b' cannot name a network"):
            train(prepared, config_of(tiny), "a/b")
    train(prepared, config_of(tiny, "byol"), overwrite=True)
    assert not same(weights(prepared), first)


def test_songs_that_will_not_do_are_refused(
    prepared: Run, synthesised: Path, tmp_path: Path, tiny: Tiny
) -> None:
    bare = create_run(tmp_path / "bare")
    prepare(bare, synthesised / "mix", "album")
    with pytest.raises(UserError, match=r"4 songs have no vocal stem, elka_tarrow/.* --stems_dir"):
        train(bare, config_of(tiny, stem="vocals"))
    songs = read_catalogue(prepared.catalogue).of("train")
    write_catalogue(prepared.catalogue, Catalogue(songs[:1]))
    with pytest.raises(UserError, match=r"has 1 training songs; .* needs two or more"):
        train(prepared, config_of(tiny))
    assert not bare.pretrained.members.exists()
    assert not prepared.pretrained.members.exists()


# Of use -------------------------------------------------------------------------------------------


def test_a_member_begins_where_the_pre_training_ended(prepared: Run, tiny: Tiny) -> None:
    network, _ = train(prepared, config_of(tiny))
    frozen = {"lr": 1e-7, "weight_decay": 0, "epochs": 1, "crops_per_song": 2}
    changes = {**frozen, "segment_s": 1.0, "batch_singers": 3, "batch_crops": 2}
    beginning = initialised(prepared, "n", "laptop", None, changes)
    said: list[str] = []
    member = train_member(
        prepared, read_catalogue(prepared.catalogue), beginning.name, beginning.config,
        start=beginning.weights, device="cpu", say=said.append,
    )  # fmt: skip
    assert "ecapa-aam-simclr begins from network n" in said
    after = dict(member.network.named_parameters())
    for name, tensor in network.network.named_parameters():
        assert torch.allclose(after[name], tensor, atol=1e-5), name
    assert load_member(prepared, "ecapa-aam-simclr").singers == member.singers


def neighbours_accuracy(run: Run, network: Member) -> float:
    """Share of unheard songs' segments whose nearest training segment is the same singer's."""
    catalogue, cache = read_catalogue(run.catalogue), AudioCache(run.cache)

    def embedded(*splits: str) -> tuple[np.ndarray, np.ndarray]:
        parts, singers = [], []
        for song in (song for split in splits for song in catalogue.of(split)):
            parts.append(embed_wave(network, cache.samples(song.vocals)).embeddings)
            singers += [song.singer] * len(parts[-1])
        return np.concatenate(parts), np.array(singers)

    known, names = embedded("train")
    heard, truth = embedded("validation", "test")
    return float(np.mean(names[(heard @ known.T).argmax(axis=1)] == truth))


@pytest.mark.slow
def test_a_short_pre_training_brings_singers_together(tmp_path: Path, tiny: Tiny) -> None:
    """With simclr; on so few synthesised songs vicreg and byol gained nothing."""
    songs = tmp_path / "songs"
    synthesise(songs, seed=3, singers=6, albums=3, songs=3, seconds=12.0)
    run = create_run(tmp_path / "run")
    prepare(run, songs / "mix", "album", songs)
    config = config_of(
        tiny, "simclr", stem="vocals", channels=64, mfa_channels=96, embedding_dim=64, epochs=30,
        crops_per_song=16, batch_songs=18, projector_dim=128, segment_s=2.0, lr=0.002, hop=256,
    )  # fmt: skip
    torch.manual_seed(config.member.train.seed)
    untrained = Member("u", config.member, (), "", Network(config.member).eval(), None)
    before = neighbours_accuracy(run, untrained)
    network, _ = train(run, config)
    after = neighbours_accuracy(run, network)
    print(f"\nnearest neighbour's singer: {before:.3f} before, {after:.3f} after")
    assert after > before + 0.05
