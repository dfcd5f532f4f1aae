"""The folder of one training, made ready to begin or to go on.

Enters: where it is and what decides its outcome. Leaves: whether it is finished already, or a
`UserError` where the same name stands for something else.
"""

from __future__ import annotations

import shutil
from typing import Any

from embedder.artifact import read_json, write_json
from embedder.errors import UserError
from embedder.run import Run

RECIPE = 2  # raised whenever the same settings would train another network
DECISIVE = ("recipe", "fingerprint", "stems", "start", "separator", "detector")


class MadeOtherwise(UserError):
    """A training of this name is there, made from something else."""


def open_training(run: Run, name: str, wanted: dict[str, Any], overwrite: bool) -> bool:
    """Make a training's folder ready to begin or to go on; refuse to mix two trainings.

    `wanted`: what the training is made from; of it what `DECISIVE` names must be the folder's own.
    Returns whether the training is there already, finished. `overwrite`
    takes away a finished one or one made from something else, but goes on with one of its own that
    was cut off.
    """
    if not name or name != name.strip() or any(c in name for c in '/\\:*?"<>|') or name[0] == ".":
        raise UserError(f"'{name}' cannot name a {run.network_kind}: it names a folder and a file")
    wanted = {"recipe": RECIPE, **wanted}
    settings = run.resume(name) / "settings.json"
    finished = run.weights(name).is_file()
    if finished and overwrite:
        shutil.rmtree(run.member(name))
    elif settings.is_file() or finished:
        found = read_json(settings)
        same = all(found.get(part, "") == wanted.get(part, "") for part in DECISIVE)
        if not same and not overwrite:
            raise MadeOtherwise(
                f"{run.network_kind} {name} is already there with {_difference(found, wanted)}; "
                "choose another --name, or --overwrite to train it anew"
            )
        if finished:
            return True
        if not same:
            shutil.rmtree(run.member(name))
    elif run.resume(name).is_dir():  # a removal was cut off: whose state this is, nothing tells
        shutil.rmtree(run.resume(name))
    write_json(settings, wanted)
    return False


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    if found["catalogue"] != wanted["catalogue"]:
        return "other songs or splits"
    if found.get("recipe") != wanted["recipe"]:
        return "a training as another version of this program does it"
    for part in DECISIVE[2:]:
        if found.get(part, "") != wanted.get(part, ""):
            return "other stems" if part == "stems" else f"another {part}"
    changed = [
        f"{name} {old} (now {wanted['config'][group][name]})"
        for group, values in found["config"].items()
        for name, old in values.items()
        if old != wanted["config"][group].get(name)
    ]
    return "other settings: " + ", ".join(changed)
