"""What is declared of the settings: meanings, legal values, presets."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest

from embedder.architectures import ARCHITECTURES
from embedder.config import MemberConfig
from embedder.presets import PRESETS
from embedder.settings import (
    all_settings,
    build_config,
    config_from_dict,
    legal_values,
    replaced,
)

SETTINGS = all_settings()

CHOICES = {n: i.metadata["choices"] for n, (_, i, _) in SETTINGS.items() if i.metadata["choices"]}

TRAINED = [name for name in CHOICES["backbone"] if not ARCHITECTURES[name].fitted]
FAMILIES = [
    *itertools.product(PRESETS, CHOICES["backbone"], ["aam"]),
    *itertools.product(PRESETS, TRAINED, ["triplet"]),
    *itertools.product(PRESETS, ["ecapa"], [*CHOICES["loss"][1:], "supcon+subcenter"]),
]


def value_of(config: MemberConfig, name: str) -> Any:
    return getattr(getattr(config, SETTINGS[name][0]), name)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_says_what_it_means_and_what_is_legal(name: str) -> None:
    _, item, kind = SETTINGS[name]
    legal = item.metadata
    assert legal["meaning"].strip()
    assert kind in (int, float, str)
    if kind is str:
        assert len(set(legal["choices"])) == len(legal["choices"]) >= 2
        assert legal["low"] is None
        assert legal["high"] is None
        sums = ", or a sum such as aam+triplet" if legal["sums"] else ""
        assert legal_values(name) == " | ".join(legal["choices"]) + sums
    else:
        assert legal["choices"] is None
        assert -math.inf < legal["low"] < legal["high"] < math.inf
        assert legal_values(name).endswith(f" from {legal['low']:g} to {legal['high']:g}")
        assert legal_values(name).startswith("a whole number" if kind is int else "a number")
    assert type(item.default) is kind


@pytest.mark.parametrize(("preset", "backbone", "loss"), FAMILIES)
def test_every_preset_is_legal(preset: str, backbone: str, loss: str) -> None:
    config = build_config(preset, changes={"backbone": backbone, "loss": loss})
    assert (config.model.backbone, config.loss.loss) == (backbone, loss)
    for name, (_, item, kind) in SETTINGS.items():
        value = value_of(config, name)
        assert type(value) is kind, name
        if kind is str:
            assert set(value.split("+")) <= set(item.metadata["choices"])
        else:
            assert item.metadata["low"] <= value <= item.metadata["high"], name
        assert replaced(config, {name: value}) == config
    assert config_from_dict(config.to_dict()) == config


def test_presets_name_only_settings_backbones_and_losses() -> None:
    for preset in PRESETS.values():
        assert set(preset) <= {"all", *CHOICES["backbone"], *CHOICES["loss"]}
        for values in preset.values():
            assert set(values) <= set(SETTINGS)


def test_the_paper_s_features_come_with_crnn() -> None:
    for preset in PRESETS:
        features = build_config(preset, changes={"backbone": "crnn"}).features
        assert (features.n_mels, features.n_fft, features.hop) == (128, 2048, 512)


def test_an_empty_preset_is_the_defaults() -> None:
    assert build_config() == MemberConfig()
    assert build_config("laptop", changes={"backbone": "ecapa", "loss": "aam"}) == MemberConfig()


BAD: list[Any] = ["", "many", "nan", "inf", "-inf", "0x10", math.nan, math.inf, True, False, None]

BAD += [[1], {"a": 1}, 10**400]


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        MemberConfig().train.lr = 1.0  # type: ignore[misc]
