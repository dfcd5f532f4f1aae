"""Settings of a pre-training: a member's and its own, each refused outside its legal values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedder.errors import UserError
from embedder.presets import PRESETS
from embedder.settings import all_settings, legal_range
from embedder.training.pretrain_config import (
    PRETRAINING,
    build_pretraining,
    own_settings,
    pretrained_name,
)


def test_own_settings_are_no_member_s() -> None:
    assert not set(own_settings()) & set(all_settings())
    for name, (item, kind) in own_settings().items():
        assert item.metadata["meaning"].strip()
        assert type(item.default) is kind
        assert build_pretraining(changes={name: item.default}) == build_pretraining()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("method", "moco"),
        ("method", "simclr+byol"),
        ("batch_songs", 1),
        ("batch_songs", "2.5"),
        ("ntxent_temperature", 0),
        ("target_momentum", 1.01),
    ],
)
def test_an_illegal_value_is_refused_with_the_legal_ones(name: str, bad: Any) -> None:
    with pytest.raises(UserError) as raised:
        build_pretraining(changes={name: bad})
    expected = f"{name} = {bad!r} is not legal; it must be {legal_range(*own_settings()[name])}"
    assert str(raised.value).startswith(expected)


def test_an_unknown_setting_is_named_beside_all_that_are_known() -> None:
    with pytest.raises(UserError, match=r"no setting 'tau'; settings are: method, .*, n_mels, "):
        build_pretraining(changes={"tau": 1})
    with pytest.raises(UserError, match="lr = 'fast' is not legal"):
        build_pretraining(changes={"lr": "fast"})


def test_values_come_from_preset_pretraining_file_and_changes_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"lr": 0.5, "batch_songs": 7, "noise": 0.1}), encoding="utf-8")
    built = build_pretraining("demo", file, {"noise": "0.2", "target_momentum": "0.5"})
    assert built.member.model.channels == PRESETS["demo"]["all"]["channels"]
    assert built.member.train.epochs == PRETRAINING["epochs"]
    assert (built.member.train.lr, built.own.batch_songs) == (0.5, 7)
    assert (built.member.augment.noise, built.own.target_momentum) == (0.2, 0.5)


def test_a_whole_config_read_from_a_file_is_that_config(tmp_path: Path) -> None:
    built = build_pretraining(changes={"method": "byol", "lr": 0.1, "backbone": "crnn"})
    (tmp_path / "c.json").write_text(json.dumps(built.to_dict()), encoding="utf-8")
    again = build_pretraining(config_file=tmp_path / "c.json")
    assert again == built
    assert again.fingerprint() == built.fingerprint()
    for change in ({"method": "vicreg"}, {"lr": 0.2}, {"projector_dim": 99}):
        assert build_pretraining("laptop", tmp_path / "c.json", change).fingerprint() != (
            built.fingerprint()
        )


def test_what_cannot_be_pre_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="backbone ivector cannot be pre-trained: no gradient"):
        build_pretraining(changes={"backbone": "ivector"})
    with pytest.raises(UserError, match=r"hears stem mix \| vocals \| both, not separated"):
        build_pretraining(changes={"stem": "separated"})
    (tmp_path / "c.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(UserError, match=r"c\.json must hold one JSON object"):
        build_pretraining(config_file=tmp_path / "c.json")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "simclr-ecapa"),
        ({"method": "byol", "backbone": "crnn"}, "byol-crnn"),
        ({"stem": "vocals", "seed": 7}, "simclr-ecapa-vocals-s7"),
    ],
)
def test_a_network_is_called_after_what_sets_it_apart(changes: dict[str, Any], name: str) -> None:
    assert pretrained_name(build_pretraining(changes=changes)) == name
