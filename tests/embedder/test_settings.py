"""Settings: what is declared, what is refused, and the same after a round trip.

A member's and a pre-training's, and the order in which presets, files and options stand.
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.main import get_command

import app
from embedder.architectures import ARCHITECTURES
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.presets import PRESETS, PRETRAINING
from embedder.settings import (
    GROUPS,
    PRETRAIN_SETTINGS,
    SETTINGS,
    Setting,
    build_config,
    build_pretraining,
    config_from_dict,
    flatten,
    margin_setting,
    member_name,
    parse_assignments,
    pretrained_name,
    replaced,
)

CHOICES = {name: one.choices for name, one in SETTINGS.items() if one.choices}
NUMBERS = [name for name in SETTINGS if name not in CHOICES]
TRAINED = [name for name in CHOICES["backbone"] if not ARCHITECTURES[name].fitted]
FAMILIES = [
    *itertools.product(PRESETS, CHOICES["backbone"], ["aam"]),
    *itertools.product(PRESETS, TRAINED, ["triplet"]),
    *itertools.product(PRESETS, ["ecapa"], [*CHOICES["loss"][1:], "supcon+subcenter"]),
]


# What is declared --------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [*SETTINGS.values(), *PRETRAIN_SETTINGS.values()], ids=str)
def test_every_setting_says_what_it_means_and_what_is_legal(one: Setting) -> None:
    assert one.meaning.strip()
    if one.kind is str:
        assert len(set(one.choices)) == len(one.choices) >= 2
        assert one.legal.startswith(" | ".join(one.choices))
        assert one.default in one.choices
    else:
        assert one.kind in (int, float)
        assert -math.inf < one.low <= one.default <= one.high < math.inf
        assert one.legal.startswith("a whole number" if one.kind is int else "a number")
        assert one.legal.endswith(f" from {one.low:g} to {one.high:g}")


def test_a_name_stands_in_one_group_only() -> None:
    groups = [*(model.model_fields for model in GROUPS.values()), PRETRAIN_SETTINGS]
    assert sum(map(len, groups)) == len(SETTINGS) + len(PRETRAIN_SETTINGS)
    assert not set(SETTINGS) & set(PRETRAIN_SETTINGS)


@pytest.mark.parametrize(
    ("command", "names"),
    [("train-embedder", ("loss", "backbone", "stem")), ("pretrain", ("method", "backbone"))],
)
def test_help_names_the_choices(command: str, names: tuple[str, ...]) -> None:
    options = {one.name: one for one in get_command(app.app).commands[command].params}  # type: ignore[attr-defined]
    for name in names:
        assert (SETTINGS | PRETRAIN_SETTINGS)[name].legal in str(options[name].help)


def test_help_imports_neither_pydantic_nor_numpy() -> None:
    program = "import app, sys; print({'pydantic', 'numpy', 'torch'} & {*sys.modules})"
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "set()"


def test_a_config_is_valid_and_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MemberConfig().train.lr = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        type(MemberConfig().train)(lr=2.0)
    assert (
        MemberConfig.model_json_schema()["$defs"]["TrainConfig"]["properties"]["lr"]["maximum"] == 1
    )


@pytest.mark.parametrize(("preset", "backbone", "loss"), FAMILIES)
def test_every_preset_is_legal(preset: str, backbone: str, loss: str) -> None:
    config = build_config(preset, changes={"backbone": backbone, "loss": loss})
    assert (config.model.backbone, config.loss.loss) == (backbone, loss)
    assert all(type(value_of(config, name)) is one.kind for name, one in SETTINGS.items())
    assert config_from_dict(config.to_dict()) == config


def test_presets_name_only_settings_backbones_and_losses() -> None:
    for preset in PRESETS.values():
        assert set(preset) <= {"all", *CHOICES["backbone"], *CHOICES["loss"]}
        for values in preset.values():
            assert set(values) <= set(SETTINGS)


def test_the_laptop_preset_is_the_defaults_and_a_paper_s_features_come_with_its_network() -> None:
    assert build_config() == MemberConfig()
    for preset in PRESETS:
        features = build_config(preset, changes={"backbone": "crnn"}).features
        assert (features.n_mels, features.n_fft, features.hop) == (128, 2048, 512)


# What is legal -----------------------------------------------------------------------------------


def value_of(config: MemberConfig, name: str) -> Any:
    return getattr(getattr(config, SETTINGS[name].group), name)


def any_value(name: str) -> st.SearchStrategy[Any]:
    """Everything that is legal for one setting on its own."""
    one = SETTINGS[name]
    if one.choices:
        return st.sampled_from(one.choices)
    if one.kind is int:
        return st.integers(int(one.low), int(one.high))
    return st.floats(one.low, one.high)


def configs() -> st.SearchStrategy[MemberConfig]:
    """Legal configs with any of their settings changed."""

    def build(changes: dict[str, Any]) -> MemberConfig | None:
        try:
            return replaced(MemberConfig(), changes)
        except UserError as error:
            assert "is not legal" not in str(error)  # noqa: PT017 (some do not go together)
            return None

    free = {name: any_value(name) for name in SETTINGS}
    return st.fixed_dictionaries({}, optional=free).map(build).filter(lambda c: c is not None)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_outside_its_bounds_is_refused(name: str) -> None:
    one = SETTINGS[name]
    step = 1 if one.kind is int else 1e-3
    for value in (one.low - step, one.high + step):
        with pytest.raises(UserError) as raised:
            replaced(MemberConfig(), {name: value})
        assert str(raised.value) == (f"{name} = {value!r} is not legal; it must be {one.legal}")
    for value in (one.low, one.high):
        try:
            assert value_of(replaced(MemberConfig(), {name: value}), name) == value
        except UserError as error:
            assert "is not legal" not in str(error)  # noqa: PT017 (it need not be raised)


BAD: list[Any] = ["", "many", "nan", "inf", "-inf", "0x10", math.nan, math.inf, True, False, None]

BAD += [[1], {"a": 1}, 10**400]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad)[:20])
@pytest.mark.parametrize("name", ["n_mels", "lr", "seed", "remix_low_db"])
def test_what_is_no_number_is_refused(name: str, bad: Any) -> None:
    with pytest.raises(UserError, match=rf"^{name} = .* is not legal; it must be a "):
        replaced(MemberConfig(), {name: bad})


@pytest.mark.parametrize("bad", [80.5, "80.5", "8e1", "80 mels"])
def test_a_whole_number_is_whole(bad: Any) -> None:
    with pytest.raises(UserError, match=r"n_mels = .* must be a whole number from 16 to 256"):
        replaced(MemberConfig(), {"n_mels": bad})


def test_numbers_arrive_in_their_type_from_texts_and_json() -> None:
    config = replaced(MemberConfig(), {"epochs": "3", "n_mels": 64.0, "lr": "1e-3", "remix": 1})
    values = (config.train.epochs, config.features.n_mels, config.train.lr, config.augment.remix)
    assert values == (3, 64, 0.001, 1.0)
    assert [type(value) for value in values] == [int, int, float, float]


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("bad", ["", "Ecapa", "AAM", 1, True, None, ["aam"]])
def test_what_is_no_choice_is_refused(name: str, bad: Any) -> None:
    with pytest.raises(UserError) as raised:
        replaced(MemberConfig(), {name: bad})
    said = f"{name} = {bad!r} is not legal; it must be {SETTINGS[name].legal}"
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("loss", ["aam+triplet", "triplet+aam", "supcon+subcenter+cosface"])
def test_losses_add_up(loss: str) -> None:
    config = replaced(MemberConfig(), {"loss": loss})
    assert config.loss.loss == loss
    assert config.loss.parts == tuple(loss.split("+"))


@pytest.mark.parametrize(
    "bad", ["aam+", "+aam", "aam++triplet", "aam+aam", "aam+hinge", "aam + triplet"]
)
def test_a_sum_of_losses_is_one_of_different_losses(bad: str) -> None:
    with pytest.raises(UserError, match=r"^loss = '.*or a sum such as aam\+triplet$"):
        replaced(MemberConfig(), {"loss": bad})
    with pytest.raises(UserError, match=r"backbone = .ecapa\+crnn. is not legal"):
        replaced(MemberConfig(), {"backbone": "ecapa+crnn"})


def test_a_sum_has_the_preset_of_its_parts_the_first_above_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = {"aam": {"lr": 0.01, "epochs": 3}, "triplet": {"lr": 0.02, "batch_crops": 7}}
    monkeypatch.setitem(PRESETS, "laptop", {"all": {"lr": 0.5}, **own})
    train = build_config(changes={"loss": "aam+triplet"}).train
    assert (train.lr, train.epochs, train.batch_crops) == (0.01, 3, 7)
    train = build_config(changes={"loss": "triplet+aam"}).train
    assert (train.lr, train.epochs, train.batch_crops) == (0.02, 3, 7)


@pytest.mark.parametrize(
    ("loss", "setting"),
    [
        ("aam", "aam_margin"),
        ("subcenter", "aam_margin"),
        ("cosface", "cosface_margin"),
        ("triplet+cosface", "triplet_margin"),
        ("softmax+proxyanchor", "proxy_margin"),
    ],
)
def test_a_loss_s_margin_is_a_setting(loss: str, setting: str) -> None:
    assert margin_setting(loss) == setting


def test_a_loss_without_a_margin_says_which_have_one() -> None:
    with pytest.raises(
        UserError, match=r"supcon\+softmax loss has no margin; these .*: aam \| sub"
    ):
        margin_setting("supcon+softmax")
    with pytest.raises(UserError, match="loss = 'hinge' is not legal"):
        margin_setting("hinge")


def test_a_base_stands_between_the_preset_and_the_rest(tmp_path: Path) -> None:
    base = {"train": {"lr": 0.1, "epochs": 5}, "segment_s": 4.0}
    (tmp_path / "mine.json").write_text('{"epochs": 6}', encoding="utf-8")
    config = build_config("demo", tmp_path / "mine.json", {"segment_s": 5}, base).train
    assert (config.lr, config.epochs, config.segment_s) == (0.1, 6, 5)
    assert config.crops_per_song == build_config("demo").train.crops_per_song
    assert build_config(base={"backbone": "crnn"}).features.n_mels == 128


@pytest.mark.parametrize("name", ["learning_rate", "", "train", "LR"])
def test_an_unknown_setting_is_named_beside_the_known(name: str) -> None:
    with pytest.raises(UserError, match=f"^there is no setting '{name}'.*; settings are: n_mels, "):
        replaced(MemberConfig(), {name: 1})


SHORT = {"backbone": "crnn", "n_mels": 128, "n_fft": 2048, "hop": 1024, "eval_segment_s": 0.95}

TOGETHER = [
    ({"remix_low_db": 7}, "remix_low_db must not be above remix_high_db"),
    ({"noise_low_db": 50}, "noise_low_db must not be above noise_high_db"),
    ({"loss": "triplet", "batch_crops": 1}, "^triplet loss needs batch_crops of 2 or more"),
    ({"loss": "aam+supcon", "batch_crops": 1}, "^supcon loss needs batch_crops of 2 or more"),
    ({"channels": 250}, r"channels \(250\) must be a multiple of res2_scale \(4\)"),
    ({"band_mask_mels": 41}, "band_mask_mels must not be above half of n_mels"),
    ({"hop": 513}, "hop must not be above n_fft"),
    ({"backbone": "crnn"}, "n_mels must be 128 or more"),
    ({"backbone": "attention", "channels": 18}, r"channels \(18\) must be a multiple of 4$"),
    (SHORT, r"segment_s and eval_segment_s must be 15 times hop or more, 0\.96 s$"),
]


@pytest.mark.parametrize(("changes", "message"), TOGETHER)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        replaced(MemberConfig(), changes)


@given(configs())
def test_a_config_comes_back_from_json(config: MemberConfig) -> None:
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config_from_dict(flatten(config.to_dict())) == config
    texts = [f"{name}={value_of(config, name)}" for name in SETTINGS]
    assert replaced(MemberConfig(), parse_assignments(texts)) == config


@given(configs(), st.sampled_from(sorted(SETTINGS)), st.data())
def test_a_change_changes_that_setting_and_the_fingerprint(
    config: MemberConfig, name: str, data: st.DataObject
) -> None:
    value = data.draw(any_value(name))
    assume(value != value_of(config, name))
    try:
        changed = replaced(config, {name: value})
    except UserError:
        assume(False)
    assert value_of(changed, name) == value
    assert all(value_of(changed, n) == value_of(config, n) for n in SETTINGS if n != name)
    assert changed.fingerprint() != config.fingerprint()
    assert replaced(changed, {name: value_of(config, name)}).fingerprint() == config.fingerprint()


# Presets, files and options ----------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(value: Any) -> Path:
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return write


def test_a_file_may_be_flat_or_in_groups(write: Any) -> None:
    flat = build_config(config_file=write({"lr": 0.01, "loss": "triplet"}))
    grouped = write({"train": {"lr": 0.01}, "loss": {"loss": "triplet"}})
    assert build_config(config_file=grouped) == flat
    assert (flat.train.lr, flat.loss.loss) == (0.01, "triplet")


def test_changes_beat_the_file_and_the_file_beats_the_preset(write: Any) -> None:
    preset = build_config("demo")
    file = build_config("demo", write({"channels": 128, "epochs": 3}))
    both = build_config("demo", write({"channels": 128, "epochs": 3}), {"channels": 160})
    assert (preset.model.channels, preset.train.epochs, preset.model.mfa_channels) == (96, 10, 192)
    assert (file.model.channels, file.train.epochs, file.model.mfa_channels) == (128, 3, 192)
    assert (both.model.channels, both.train.epochs, both.model.mfa_channels) == (160, 3, 192)


def test_the_file_s_backbone_chooses_within_the_preset(write: Any) -> None:
    path = write({"model": {"backbone": "crnn"}, "hop": 400})
    config = build_config("laptop", path)
    assert (config.features.n_mels, config.features.hop) == (128, 400)
    assert build_config("laptop", path, {"backbone": "ecapa"}).features.n_mels == 80


def test_a_whole_config_read_from_a_file_is_that_config(write: Any) -> None:
    config = build_config("base", changes={"backbone": "crnn", "seed": 4, "stem": "vocals"})
    assert build_config("laptop", write(config.to_dict())) == config


def test_files_that_are_no_settings_are_refused(write: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.json must hold one JSON object of settings"):
        build_config(config_file=write([{"lr": 0.1}]))
    with pytest.raises(UserError, match=r"absent\.json is missing"):
        build_config(config_file=tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{lr: 1}", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.json is not JSON"):
        build_config(config_file=tmp_path / "bad.json")
    with pytest.raises(UserError, match="there is no setting 'lrr'"):
        build_config(config_file=write({"train": {"lrr": 0.1}}))
    with pytest.raises(UserError, match="there is no setting 'train'"):
        build_config(config_file=write({"train": 3}))


def test_an_unknown_preset_or_choice_is_refused() -> None:
    with pytest.raises(UserError, match="no preset 'huge'; presets are: laptop, base, demo"):
        build_config("huge")
    with pytest.raises(UserError, match=r"loss = 'hinge' is not legal; it must be aam \| sub"):
        build_config(changes={"loss": "hinge"})
    with pytest.raises(UserError, match=r"backbone = \['crnn'\] is not legal"):
        build_config(changes={"backbone": ["crnn"]})


def test_assignments_are_names_and_values() -> None:
    assert parse_assignments(["lr=0.001", " stem = vocals", "lr=2", "a=b=c"]) == {
        "lr": "2",
        "stem": "vocals",
        "a": "b=c",
    }


@pytest.mark.parametrize("bad", ["lr", "lr=", "=3", " = ", ""])
def test_what_is_no_assignment_is_refused(bad: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_assignments([bad])
    assert str(raised.value) == f"--set takes name=value, as in --set lr=0.001, not '{bad}'"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "ecapa-aam"),
        ({"backbone": "crnn", "loss": "triplet"}, "crnn-triplet"),
        ({"stem": "vocals"}, "ecapa-aam-vocals"),
        ({"seed": 7}, "ecapa-aam-s7"),
        ({"loss": "aam+triplet"}, "ecapa-aam+triplet"),
        ({"loss": "triplet", "stem": "vocals", "seed": 2}, "ecapa-triplet-vocals-s2"),
        ({"backbone": "ivector", "stem": "vocals"}, "ivector-vocals"),
    ],
)
def test_a_member_is_called_after_what_sets_it_apart(changes: dict[str, Any], name: str) -> None:
    assert member_name(build_config(changes=changes)) == name


# Pre-training ------------------------------------------------------------------------------------


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
def test_an_illegal_value_of_a_pretraining_is_refused_with_the_legal_ones(
    name: str, bad: Any
) -> None:
    with pytest.raises(UserError) as raised:
        build_pretraining(changes={name: bad})
    expected = f"{name} = {bad!r} is not legal; it must be {PRETRAIN_SETTINGS[name].legal}"
    assert str(raised.value).startswith(expected)


def test_an_unknown_setting_of_a_pretraining_is_named_beside_all_that_are_known() -> None:
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


def test_a_whole_pretraining_read_from_a_file_is_that_config(tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match=r"takes stem mix \| vocals \| both, not separated"):
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
