"""Settings from texts and files: named, typed, checked against what `config.py` declares.

Enters: a preset, a JSON file, `name=value` texts. Leaves: a `MemberConfig` in which every value is
legal, or a `UserError` that names the setting and its legal values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from embedder.architectures import ARCHITECTURES
from embedder.artifact import read_json
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.errors import Command, UserError, did_you_mean
from embedder.objectives import OBJECTIVES
from embedder.presets import PRESETS
from embedder.run import Run


def _group_types() -> dict[str, type[Any]]:
    hints = get_type_hints(MemberConfig)
    return {f.name: hints[f.name] for f in fields(MemberConfig)}


@cache  # asked for with each value that is checked
def all_settings() -> dict[str, tuple[str, dataclasses.Field[Any], type[Any]]]:
    """Setting name → (group, dataclass field, type), in the order of declaration."""
    found: dict[str, tuple[str, dataclasses.Field[Any], type[Any]]] = {}
    for group, kind in _group_types().items():
        hints = get_type_hints(kind)
        for item in fields(kind):
            if item.name in found:
                raise ValueError(f"setting {item.name} stands in two groups")
            found[item.name] = (group, item, hints[item.name])
    return found


def legal_values(name: str) -> str:
    """The legal values of a setting, in words."""
    _, item, kind = all_settings()[name]
    return legal_range(item, kind)


def legal_range(item: dataclasses.Field[Any], kind: type[Any]) -> str:
    """The legal values that a field declares, in words."""
    if item.metadata["choices"]:
        choices = " | ".join(item.metadata["choices"])
        return choices + (", or a sum such as aam+triplet" if item.metadata["sums"] else "")
    low, high = item.metadata["low"], item.metadata["high"]
    word = "a whole number" if kind is int else "a number"
    return f"{word} from {low:g} to {high:g}"


def _checked(name: str, value: Any) -> Any:
    settings = all_settings()
    if name not in settings:
        raise UserError(
            f"there is no setting '{name}'{did_you_mean(name, settings)}; "
            f"settings are: {', '.join(settings)}"
        )
    _, item, kind = settings[name]
    return legal(item, kind, value)


def legal(item: dataclasses.Field[Any], kind: type[Any], value: Any) -> Any:
    """The value in the field's type; raise `UserError` if it is none that the field declares."""
    single = isinstance(value, str) and "+" not in value
    near = did_you_mean(value, item.metadata["choices"] or ()) if single else ""
    complaint = UserError(
        f"{item.name} = {value!r} is not legal; it must be {legal_range(item, kind)}{near}"
    )
    if kind is str:
        if not isinstance(value, str):
            raise complaint
        parts = value.split("+") if item.metadata["sums"] else [value]
        if len(set(parts)) < len(parts) or not set(parts) <= set(item.metadata["choices"]):
            raise complaint
        return value
    if isinstance(value, bool):
        raise complaint
    try:
        number = kind(value)
        exact = float(number) == float(value)
    except (TypeError, ValueError, OverflowError):
        raise complaint from None
    if not exact or not item.metadata["low"] <= number <= item.metadata["high"]:
        raise complaint
    return number


def parse_assignments(texts: Iterable[str]) -> dict[str, str]:
    """`["lr=0.001"]` → `{"lr": "0.001"}`; raise `UserError` where there is no `=`."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UserError(f"--set takes name=value, as in --set lr=0.001, not '{text}'")
        pairs[name.strip()] = value.strip()
    return pairs


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, whether the mapping is flat or holds the groups of a `config.json`."""
    flat: dict[str, Any] = {}
    groups = _group_types()
    for key, value in values.items():
        if key in groups and isinstance(value, Mapping):
            flat.update(value)
        else:
            flat[key] = value
    return flat


def replaced(config: MemberConfig, values: Mapping[str, Any]) -> MemberConfig:
    """The config with some settings changed; raise `UserError` for an unknown or illegal one."""
    changes: dict[str, dict[str, Any]] = {}
    settings = all_settings()
    for name, value in flatten(values).items():
        checked = _checked(name, value)
        changes.setdefault(settings[name][0], {})[name] = checked
    groups = {g: dataclasses.replace(getattr(config, g), **c) for g, c in changes.items()}
    result = dataclasses.replace(config, **groups)
    _check_together(result)
    return result


def _check_together(config: MemberConfig) -> None:
    augment, train, features = config.augment, config.train, config.features
    if augment.remix_low_db > augment.remix_high_db:
        raise UserError("remix_low_db must not be above remix_high_db")
    if augment.overlay_low_db > augment.overlay_high_db:
        raise UserError("overlay_low_db must not be above overlay_high_db")
    if augment.noise_low_db > augment.noise_high_db:
        raise UserError("noise_low_db must not be above noise_high_db")
    pairing = [part for part in config.loss.parts if OBJECTIVES[part].positives]
    if pairing and train.batch_crops < 2:
        raise UserError(
            f"{pairing[0]} loss needs batch_crops of 2 or more: a positive for each anchor"
        )
    if config.model.backbone == "ecapa" and config.model.channels % config.model.res2_scale:
        raise UserError(
            f"channels ({config.model.channels}) must be a multiple of res2_scale "
            f"({config.model.res2_scale})"
        )
    if augment.band_mask_mels > features.n_mels // 2:
        raise UserError("band_mask_mels must not be above half of n_mels")
    if features.hop > features.n_fft:
        raise UserError("hop must not be above n_fft")
    if 2 * config.separator.separator_hop > config.separator.separator_n_fft:
        raise UserError("separator_hop must not be above half of separator_n_fft")
    if config.separator.separator_hidden % 2:
        raise UserError("separator_hidden must be even: half for each direction of time")
    _check_architecture(config)


def _check_architecture(config: MemberConfig) -> None:
    name, features = config.model.backbone, config.features
    needs = ARCHITECTURES[name]
    if needs.fitted and config.loss.loss != "aam":
        raise UserError(
            f"{name} is fitted without a loss: leave --loss out (of aam it has the logits' scale)"
        )
    if features.n_mels < needs.least_mels:
        raise UserError(
            f"{name} pools the mel axis by {needs.least_mels}; n_mels must be "
            f"{needs.least_mels} or more"
        )
    if config.model.channels % needs.channel_multiple:
        raise UserError(
            f"{name} has heads of equal width; channels ({config.model.channels}) must be a "
            f"multiple of {needs.channel_multiple}"
        )
    shortest_s = min(config.train.segment_s, config.embed.eval_segment_s)
    if 1 + round(shortest_s * SAMPLE_RATE) // features.hop < needs.least_frames:
        least_s = (needs.least_frames - 1) * features.hop / SAMPLE_RATE
        raise UserError(
            f"{name} pools the time axis by {needs.least_frames}; segment_s and eval_segment_s "
            f"must be {needs.least_frames - 1} times hop or more, {least_s:g} s"
        )


def build_config(
    preset: str = "laptop",
    config_file: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> MemberConfig:
    """A preset for the chosen backbone and loss, then a JSON file's settings, then single changes.

    `base`: settings that stand between the preset and the file. For a sum of losses the preset's
    settings of all its parts hold, the first part's above the others'.

    Raises:
        UserError: unknown preset, unknown setting, value out of range, unreadable file.
    """
    if preset not in PRESETS:
        raise UserError(
            f"there is no preset '{preset}'{did_you_mean(preset, PRESETS)}; "
            f"presets are: {', '.join(PRESETS)}"
        )
    chosen = dict(changes or {})
    if config_file is not None:
        loaded = read_json(config_file)
        if not isinstance(loaded, dict):
            raise UserError(f"{config_file} must hold one JSON object of settings")
        chosen = {**flatten(loaded), **chosen}
    chosen = {**flatten(base or {}), **chosen}
    default = MemberConfig()
    backbone = _checked("backbone", chosen.get("backbone", default.model.backbone))
    loss = _checked("loss", chosen.get("loss", default.loss.loss))
    by_preset = PRESETS[preset]
    merged = {
        **by_preset.get("all", {}),
        **ARCHITECTURES[backbone].settings,
        **by_preset.get(backbone, {}),
    }
    for part in reversed(loss.split("+")):
        merged |= by_preset.get(part, {})
    return replaced(default, {**merged, **chosen})


def margin_setting(loss: str) -> str:
    """The setting that is a loss's margin, of a sum the first part's that has one.

    Raises:
        UserError: no such loss, or it has no margin.
    """
    parts = str(_checked("loss", loss)).split("+")
    margins = [OBJECTIVES[part].margin for part in parts if OBJECTIVES[part].margin]
    if not margins:
        having = " | ".join(name for name, about in OBJECTIVES.items() if about.margin)
        raise UserError(f"--margin: the {loss} loss has no margin; these have one: {having}")
    return margins[0]


def member_name(config: MemberConfig) -> str:
    """What a member is called unless the user names it: `ecapa-aam`, `crnn-triplet-vocals-s7`."""
    train = config.train
    fitted = ARCHITECTURES[config.model.backbone].fitted
    parts = [config.model.backbone] + ([] if fitted else [config.loss.loss])
    parts += [train.stem] if train.stem != "mix" else []
    parts += [f"s{train.seed}"] if train.seed else []
    return "-".join(parts)


def config_from_dict(values: Mapping[str, Any]) -> MemberConfig:
    """Read back what `MemberConfig.to_dict` wrote; raise `UserError` on anything else."""
    return replaced(MemberConfig(), values)


OWN_OPTIONS = ("stem", "seed", "epochs", "segment_s")  # settings with an option of their own


def train_command(name: str, config: MemberConfig | None, **more: Any) -> Command:
    """The shortest command that trains a member: the preset that differs least, and what differs.

    Args:
        name: The member's.
        config: Its settings; None where they are not known.
        more: Further options of the command.
    """
    if config is None:
        return Command("train-embedder", name=name, **more)
    values = flatten(config.to_dict())
    preset, changed = min(
        ((preset, _different(values, preset)) for preset in PRESETS), key=lambda one: len(one[1])
    )
    return Command(
        "train-embedder",
        backbone=values["backbone"],
        loss=values["loss"],
        preset=preset if preset != "laptop" else None,
        **{one: str(values[one]) for one in OWN_OPTIONS if one in changed},
        set=tuple(f"{one}={values[one]}" for one in changed if one not in OWN_OPTIONS),
        name=name if name != member_name(config) else None,
        **more,
    )


def train_again(run: Run, name: str) -> Command:
    """The command that trains a member or network again, as far as its folder tells how."""
    more: dict[str, Any] = {"before": "train it again", "overwrite": True}
    if run.training_command != "train-embedder":
        return Command(run.training_command, name=name, **more)
    config = None
    with suppress(UserError, KeyError, TypeError, AttributeError):
        config = config_from_dict(read_json(run.member(name) / "config.json")["config"])
    return train_command(name, config, **more)


def _different(values: Mapping[str, Any], preset: str) -> list[str]:
    """The settings in which a preset differs from `values`; all, where it cannot be built."""
    try:
        built = build_config(preset, changes={n: values[n] for n in ("backbone", "loss")})
    except UserError:
        return list(values)
    there = flatten(built.to_dict())
    return [name for name, value in values.items() if there[name] != value]
