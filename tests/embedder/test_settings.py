"""Settings: each with its legal values, refused outside them, and the same after a round trip."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.presets import PRESETS
from embedder.settings import (
    all_settings,
    build_config,
    config_from_dict,
    flatten,
    legal_values,
    margin_setting,
    member_name,
    parse_assignments,
    replaced,
)

SETTINGS = all_settings()

CHOICES = {n: i.metadata["choices"] for n, (_, i, _) in SETTINGS.items() if i.metadata["choices"]}

NUMBERS = [name for name in SETTINGS if name not in CHOICES]


def value_of(config: MemberConfig, name: str) -> Any:
    return getattr(getattr(config, SETTINGS[name][0]), name)


def any_value(name: str) -> st.SearchStrategy[Any]:
    """Everything that is legal for one setting on its own."""
    _, item, kind = SETTINGS[name]
    low, high = item.metadata["low"], item.metadata["high"]
    if kind is str:
        return st.sampled_from(item.metadata["choices"])
    return st.integers(low, high) if kind is int else st.floats(low, high)


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
    _, item, kind = SETTINGS[name]
    step = 1 if kind is int else 1e-3
    for value in (item.metadata["low"] - step, item.metadata["high"] + step):
        with pytest.raises(UserError) as raised:
            replaced(MemberConfig(), {name: value})
        assert str(raised.value) == (
            f"{name} = {value!r} is not legal; it must be {legal_values(name)}"
        )
    for value in (item.metadata["low"], item.metadata["high"]):
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
    said = f"{name} = {bad!r} is not legal; it must be {legal_values(name)}"
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
