"""A member on disk: the same after loading, refused when a part of it is not its own."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedder.architectures import ARCHITECTURES
from embedder.artifact import file_fingerprint, read_json, write_json
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.checkpoint import (
    Member,
    load_member,
    save_member,
    settings_fingerprint,
    weights_of,
)
from embedder.models.network import Network
from embedder.run import Run

Tiny = Callable[..., MemberConfig]
SINGERS = ("zoë", "ann", "Bob")
AGAIN = r"train it again: python app\.py train-embedder .*--name m --overwrite"


def some_member(config: MemberConfig, head: bool = True) -> Member:
    """A member with random weights and statistics."""
    torch.manual_seed(5)
    network = Network(config).eval().requires_grad_(False)  # which decides on torch's GRU kernel
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    weights = torch.randn(len(SINGERS), config.model.embedding_dim) if head else None
    return Member("m", config, SINGERS, "catalogue-1", network, weights)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def saved(run: Run, tiny: Tiny) -> Member:
    member = some_member(tiny())
    save_member(run, member, {"epochs": 3})
    return member


def wave() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, 16000)).astype(np.float32))


@pytest.mark.parametrize("backbone", ARCHITECTURES)
@pytest.mark.parametrize("head", [True, False])
def test_a_loaded_member_embeds_as_the_saved_one(
    backbone: str, head: bool, run: Run, tiny: Tiny
) -> None:
    member = some_member(tiny(backbone=backbone, n_mels=128, lr=0.003), head)
    save_member(run, member, {"epochs": 3})
    loaded = load_member(run, "m")
    assert loaded.config == member.config
    assert loaded.singers == SINGERS
    assert loaded.catalogue == "catalogue-1"
    assert loaded.checkpoint == file_fingerprint(run.weights("m"))
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())
    with torch.inference_mode():
        assert torch.equal(loaded.network(wave()), member.network(wave()))
    if member.head is None:
        assert loaded.head is None
    else:
        assert loaded.head is not None
        assert torch.equal(loaded.head, member.head)
    assert read_json(run.member("m") / "config.json")["about"] == {"epochs": 3}
    assert read_json(run.member("m") / "labels.json") == list(SINGERS)


def test_weights_are_copies_under_the_network_s_own_names(tiny: Tiny) -> None:
    member = some_member(tiny())
    weights = weights_of(member.network, member.head)
    assert weights.keys() == {*member.network.state_dict(), "head.weight"}
    weights["head.weight"].zero_()
    assert member.head is not None
    assert member.head.abs().sum() > 0
    assert "head.weight" not in weights_of(member.network, None)


@pytest.mark.parametrize("part", ["config", "labels"])
def test_an_edited_description_is_refused(part: str, saved: Member, run: Run) -> None:
    path = run.member(saved.name) / f"{part}.json"
    path.write_text(path.read_text(encoding="utf-8").replace("ann", "eve") + " ", encoding="utf-8")
    with pytest.raises(UserError, match=rf"{part}\.json does not belong to .*safetensors; {AGAIN}"):
        load_member(run, "m")
    path.unlink()
    with pytest.raises(UserError, match=rf"{part}\.json does not belong to .*; {AGAIN}"):
        load_member(run, "m")


def with_weights(run: Run, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    """Write the weights file again with other tensors or metadata."""
    path = run.weights("m")
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["made_from"])
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata={"made_from": json.dumps(metadata)} if metadata else None)


def test_another_format_is_refused(saved: Member, run: Run) -> None:
    with_weights(run, lambda _, metadata: metadata.update(format="7"))
    with pytest.raises(
        UserError, match=rf"of format 7, this program reads format 1; use the newer .* {AGAIN}"
    ):
        load_member(run, saved.name)
    with_weights(run, lambda _, metadata: metadata.clear())
    with pytest.raises(
        UserError, match=rf"of format unknown, this program reads format 1; {AGAIN}"
    ):
        load_member(run, saved.name)


def test_missing_foreign_and_misshapen_tensors_are_refused_in_one_line(
    saved: Member, run: Run
) -> None:
    name = "projection.0.bias"
    changes: dict[str, Callable[[dict[str, Tensor]], object]] = {
        "Missing": lambda t: t.pop(name),
        "Unexpected": lambda t: t.update(foreign=torch.zeros(1)),
        "size mismatch": lambda t: t.update({name: torch.zeros(5)}),
    }
    whole = run.weights("m").read_bytes()
    for said, change in changes.items():
        run.weights("m").write_bytes(whole)
        with_weights(run, lambda tensors, _, change=change: change(tensors))
        with pytest.raises(UserError, match="does not fit its own config") as error:
            load_member(run, saved.name)
        assert said in str(error.value)
        assert re.search(AGAIN, str(error.value))
        assert "\n" not in str(error.value)


def test_a_head_of_another_size_is_refused(saved: Member, run: Run) -> None:
    with_weights(run, lambda tensors, _: tensors.update({"head.weight": torch.zeros(2, 16)}))
    with pytest.raises(UserError, match=AGAIN):
        load_member(run, saved.name)


def test_a_head_has_a_row_for_each_sub_centre(run: Run, tiny: Tiny) -> None:
    config = tiny(loss="subcenter", subcenters=4)
    member = dataclasses.replace(some_member(config), head=torch.randn(4 * len(SINGERS), 16))
    save_member(run, member, {})
    loaded = load_member(run, "m")
    assert loaded.head is not None
    assert torch.equal(loaded.head, member.head)  # type: ignore[arg-type]
    with_weights(run, lambda tensors, _: tensors.update({"head.weight": torch.zeros(3, 16)}))
    with pytest.raises(UserError, match=r"head\.weight in .* is \(3, 16\), not \(12, 16\); train"):
        load_member(run, "m")


@pytest.mark.parametrize("keep", [0, 5, 400, -1])
def test_a_truncated_weights_file_is_refused(keep: int, saved: Member, run: Run) -> None:
    data = run.weights("m").read_bytes()
    run.weights("m").write_bytes(data[:keep])
    with pytest.raises(UserError, match=rf"not a readable checkpoint .*; {AGAIN}") as error:
        load_member(run, saved.name)
    assert "\n" not in str(error.value)


def test_no_member_of_the_name_says_which_there_are(run: Run, tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"no trained member 'x' .*members: none yet"):
        load_member(run, "x")
    save_member(run, some_member(tiny()), {})
    with pytest.raises(UserError, match=r"no trained member 'x' .*\(members: m\); train one with"):
        load_member(run, "x")


def test_when_writing_is_cut_off_there_is_no_member(
    run: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("embedder.models.weights.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_member(run, some_member(tiny()), {})
    assert run.member_names() == []
    assert sorted(p.name for p in run.member("m").iterdir()) == ["config.json", "labels.json"]


def test_a_setting_of_another_version_is_named(saved: Member, run: Run) -> None:
    path = run.member("m") / "config.json"
    described = read_json(path)
    described["config"]["train"]["future"] = 1
    write_json(path, described)
    with_weights(run, lambda _, metadata: metadata.update(config=file_fingerprint(path)))
    with pytest.raises(UserError, match=r"config\.train\.future is unknown"):
        load_member(run, saved.name)


def test_the_outcome_of_a_training_is_decided_by_settings_and_songs(tiny: Tiny) -> None:
    one = settings_fingerprint(tiny(), "a")
    assert one == settings_fingerprint(tiny(), "a")
    assert (
        len({one, settings_fingerprint(tiny(lr=0.1), "a"), settings_fingerprint(tiny(), "b")}) == 3
    )
    assert json.dumps(tiny().to_dict())  # nothing in it that JSON does not know
