"""Settings by name: what is declared of each, and a config out of presets, files and options.

`presets.py` says in which order values stand above each other. Every value that a user gives is
checked against what `config.py` declares, and refused in one line with the legal ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from embedder.architectures import ARCHITECTURES
from embedder.artifact import Artifact, read_json
from embedder.config import MemberConfig, PretrainConfig, SelfSupervisedConfig, Settings
from embedder.errors import Command, UserError, did_you_mean
from embedder.objectives import LEGAL_LOSSES, OBJECTIVES
from embedder.presets import PRESETS, PRETRAINING, resolved
from embedder.run import Run

OWN_OPTIONS = ("stem", "seed", "epochs", "segment_s")  # settings with an option of their own


@dataclass(frozen=True)
class Setting:
    """What is declared of one setting."""

    name: str
    group: str  # field of `MemberConfig`, or "selfsupervised"
    kind: type[Any]  # int, float or str
    default: int | float | str
    meaning: str  # with its unit
    choices: tuple[str, ...] = ()  # of a text; a number has a range, both ends inclusive
    low: float = 0
    high: float = 0

    @property
    def legal(self) -> str:
        """The legal values, in words."""
        if self.choices:
            return LEGAL_LOSSES if self.name == "loss" else " | ".join(self.choices)
        word = "a whole number" if self.kind is int else "a number"
        return f"{word} from {self.low:g} to {self.high:g}"


def _declared(group: str, model: type[Settings]) -> dict[str, Setting]:
    named = {"backbone": tuple(ARCHITECTURES), "loss": tuple(OBJECTIVES)}
    found = {}
    for name, item in model.model_fields.items():
        choices = named.get(name) or get_args(item.annotation)
        bounds: dict[str, float] = {}
        for rule in item.metadata:
            bounds |= {"low": rule.ge} if hasattr(rule, "ge") else {}
            bounds |= {"high": rule.le} if hasattr(rule, "le") else {}
        kind, meaning = type(item.default), item.description or ""
        found[name] = Setting(name, group, kind, item.default, meaning, choices, **bounds)
    return found


GROUPS: dict[str, type[Settings]] = {
    name: type(item.default) for name, item in MemberConfig.model_fields.items()
}
SETTINGS: dict[str, Setting] = {}  # a member's, in the order of declaration
for _group, _model in GROUPS.items():
    SETTINGS |= _declared(_group, _model)
PRETRAIN_SETTINGS = _declared("selfsupervised", SelfSupervisedConfig)


# From names, texts and files ---------------------------------------------------------------------


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
    for key, value in values.items():
        in_groups = (key in GROUPS or key == "selfsupervised") and isinstance(value, Mapping)
        flat |= value if in_groups else {key: value}
    return flat


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `UserError` for a name that is no setting, with the one that was probably meant."""
    for name in names:
        if name not in known:
            raise UserError(
                f"there is no setting '{name}'{did_you_mean(name, known)}; "
                f"settings are: {', '.join(known)}"
            )


def checked(name: str, value: Any) -> Any:
    """The value of one setting in its type; raise `UserError` if it is not legal."""
    check_names([name], SETTINGS)
    model = GROUPS[SETTINGS[name].group]
    try:
        return getattr(model.model_validate({name: value}), name)
    except ValidationError as error:
        raise _refusal(error) from None


def replaced(config: MemberConfig, values: Mapping[str, Any]) -> MemberConfig:
    """The config with some settings changed; raise `UserError` for an unknown or illegal one."""
    groups = config.to_dict()
    flat = flatten(values)
    check_names(flat, SETTINGS)
    for name, value in flat.items():
        groups[SETTINGS[name].group][name] = value
    try:
        return MemberConfig.model_validate(groups)
    except ValidationError as error:
        raise _refusal(error) from None


def config_from_dict(values: Mapping[str, Any]) -> MemberConfig:
    """Read back what `MemberConfig.to_dict` wrote; raise `UserError` on anything else."""
    if not isinstance(values, Mapping):
        raise UserError(f"{type(values).__name__} holds no settings")
    return replaced(MemberConfig(), values)


def _refusal(error: ValidationError) -> UserError:
    """The first of pydantic's complaints as the line that a user reads."""
    first = error.errors(include_url=False)[0]
    setting = (SETTINGS | PRETRAIN_SETTINGS).get(str(first["loc"][-1])) if first["loc"] else None
    if setting is None:
        return UserError(str(first["ctx"]["error"]))  # settings that do not go together
    value = first["input"]
    single = isinstance(value, str) and "+" not in value
    near = did_you_mean(value, setting.choices) if single else ""
    return UserError(f"{setting.name} = {value!r} is not legal; it must be {setting.legal}{near}")


def _read_settings(file: Path | None) -> dict[str, Any]:
    """The settings of a JSON file, flat; nothing without a file."""
    loaded = {} if file is None else read_json(file)
    if not isinstance(loaded, dict):
        raise UserError(f"{file} must hold one JSON object of settings")
    return flatten(loaded)


def build_config(
    preset: str = "laptop",
    config_file: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> MemberConfig:
    """A preset for the chosen backbone and loss, `base`, a JSON file's settings, single changes.

    Each stands above what is named before it.

    Raises:
        UserError: unknown preset, unknown setting, value out of range, unreadable file.
    """
    chosen = {**flatten(base or {}), **_read_settings(config_file), **(changes or {})}
    backbone, loss = (checked(n, chosen.get(n, SETTINGS[n].default)) for n in ("backbone", "loss"))
    return replaced(MemberConfig(), resolved(preset, backbone, loss) | chosen)


def build_pretraining(
    preset: str = "laptop",
    config_file: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> PretrainConfig:
    """As `build_config`, with `PRETRAINING` as the base.

    Raises:
        UserError: also for a backbone or stem that cannot be pre-trained.
    """
    chosen = {**_read_settings(config_file), **(changes or {})}
    check_names(chosen, PRETRAIN_SETTINGS | SETTINGS)
    try:
        own = SelfSupervisedConfig.model_validate(
            {name: chosen.pop(name) for name in PRETRAIN_SETTINGS if name in chosen}
        )
    except ValidationError as error:
        raise _refusal(error) from None
    member = build_config(preset, None, chosen, PRETRAINING)
    backbone, stem = member.model.backbone, member.train.stem
    if ARCHITECTURES[backbone].fitted:
        raise UserError(f"backbone {backbone} cannot be pre-trained: no gradient reaches it")
    if stem == "separated":
        raise UserError("a pre-training takes stem mix | vocals | both, not separated")
    return PretrainConfig(member=member, own=own)


def margin_setting(loss: str) -> str:
    """The setting that is a loss's margin, of a sum the first part's that has one.

    Raises:
        UserError: no such loss, or it has no margin.
    """
    parts = str(checked("loss", loss)).split("+")
    margins = [OBJECTIVES[part].margin for part in parts if OBJECTIVES[part].margin]
    if not margins:
        having = " | ".join(name for name, about in OBJECTIVES.items() if about.margin)
        raise UserError(f"--margin: the {loss} loss has no margin; these have one: {having}")
    return margins[0]


# To names and commands ---------------------------------------------------------------------------


def member_name(config: MemberConfig) -> str:
    """What a member is called unless the user names it: `ecapa-aam`, `crnn-triplet-vocals-s7`."""
    fitted = ARCHITECTURES[config.model.backbone].fitted
    return _name(config, [config.model.backbone] + ([] if fitted else [config.loss.loss]))


def pretrained_name(config: PretrainConfig) -> str:
    """What a network is called unless the user names it: `simclr-ecapa`, `byol-crnn-vocals-s7`."""
    return _name(config.member, [config.own.method, config.member.model.backbone])


def _name(config: MemberConfig, parts: list[str]) -> str:
    parts += [config.train.stem] if config.train.stem != "mix" else []
    parts += [f"s{config.train.seed}"] if config.train.seed else []
    return "-".join(parts)


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


@dataclass(frozen=True)
class NetworkRecord:
    """What `config.json` says of the network beside it."""

    name: str
    catalogue: str  # fingerprint of the songs that it was trained on
    config: MemberConfig
    about: dict[str, Any]  # how the training went


NETWORK = Artifact(
    "description of a network", 1, NetworkRecord, Command("train-embedder"), finite=False
)


def network_record(run: Run, name: str) -> NetworkRecord:
    """The description of a trained network; `UserError` if it cannot be read."""
    path = run.member(name) / "config.json"
    try:
        return NETWORK.read(path)
    except UserError:  # only then is the command worth its search
        return NETWORK.read(path, train_again(run, name))


def train_again(run: Run, name: str) -> Command:
    """The command that trains a member or network again, as far as its folder tells how."""
    more: dict[str, Any] = {"before": "train it again", "overwrite": True}
    if run.training_command != "train-embedder":
        return Command(run.training_command, name=name, **more)
    config = None
    with suppress(UserError):
        config = NETWORK.read(run.member(name) / "config.json").config
    return train_command(name, config, **more)


def _different(values: Mapping[str, Any], preset: str) -> list[str]:
    """The settings in which a preset differs from `values`; all, where it cannot be built."""
    try:
        built = build_config(preset, changes={n: values[n] for n in ("backbone", "loss")})
    except UserError:
        return list(values)
    there = flatten(built.to_dict())
    return [name for name, value in values.items() if there[name] != value]
