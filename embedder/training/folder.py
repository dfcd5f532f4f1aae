"""The folder of one training: its files, and whether a training may begin, resume or is done.

`settings.json` says what the training is made from. While it is unfinished, `last.ckpt` holds its
last whole epoch and `best.safetensors` the best weights so far, where epochs compete.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedder.artifact import read_json, write_json
from embedder.errors import UserError
from embedder.run import Run


class MadeOtherwise(UserError):
    """A training is there already, made from something else."""


@dataclass(frozen=True)
class TrainingFolder:
    """Where one training keeps what it leaves (`root`) and what it resumes from (`resume`)."""

    root: Path
    resume: Path

    @property
    def weights(self) -> Path:
        """There once the training is finished."""
        return self.root / "model.safetensors"

    @property
    def log(self) -> Path:
        return self.root / "log.csv"

    @property
    def settings(self) -> Path:
        return self.resume / "settings.json"

    @property
    def state(self) -> Path:
        return self.resume / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.resume / "best.safetensors"

    def open(
        self,
        made_from: dict[str, Any],
        refusal: Callable[[dict[str, Any]], str],
        *,
        overwrite: bool,
        decisive: Sequence[str] = (),
        keep_unfinished: bool = False,
    ) -> bool:
        """Make the folder ready to begin or to resume; never mix two trainings.

        Args:
            made_from: All that decides the outcome; it is written to `settings.json`.
            refusal: What to say of the settings found, where they are others.
            overwrite: Remove a finished training, or an unfinished one made from something else. An
                unfinished one of these settings is resumed all the same.
            decisive: The keys of `made_from` that must agree. Default: all.
            keep_unfinished: Refuse to remove an unfinished training of other settings, too.

        Returns:
            Whether the training is finished already.

        Raises:
            MadeOtherwise: The folder holds a training made from something else.
        """
        finished = self.weights.is_file()
        if finished and overwrite:
            shutil.rmtree(self.root)
        elif finished or self.settings.is_file():
            found = read_json(self.settings)
            keys = decisive or {*found, *made_from}
            same = all(found.get(key, "") == made_from.get(key, "") for key in keys)
            if not same and not overwrite and (finished or keep_unfinished):
                raise MadeOtherwise(refusal(found))
            if finished:
                return True
            if not same:
                shutil.rmtree(self.root)
        elif self.resume.is_dir():  # a removal was cut off: nothing says whose state this is
            shutil.rmtree(self.resume)
        write_json(self.settings, made_from)
        return False

    def clear(self) -> None:
        """Remove what only an unfinished training needs, and what killed ones left behind."""
        leftovers = (*self.root.glob(".*"), *self.resume.glob(".*"))
        for path in (self.state, self.best, *leftovers):
            path.unlink(missing_ok=True)


RECIPE = 2  # raised whenever the same settings would train another network
DECISIVE = ("recipe", "fingerprint", "stems", "start", "separator", "detector")


def open_network_folder(
    run: Run, name: str, made_from: dict[str, Any], overwrite: bool
) -> tuple[TrainingFolder, bool]:
    """Open the folder of a member, or of a pre-trained network (see `TrainingFolder.open`).

    Args:
        run: Its `networks` says which of the two.
        name: Of the network.
        made_from: With the keys "catalogue" and "config", and what `DECISIVE` names.
        overwrite: Replace a network of this name.

    Returns:
        The folder, and whether the training is finished already.

    Raises:
        UserError: The name cannot name a folder.
        MadeOtherwise: A network of this name is made from something else.
    """
    if not name or name != name.strip() or any(c in name for c in '/\\:*?"<>|') or name[0] == ".":
        raise UserError(f"'{name}' cannot name a {run.network_kind}: it names a folder and a file")
    wanted = {"recipe": RECIPE, **made_from}
    folder = TrainingFolder(run.member(name), run.resume(name))
    finished = folder.open(
        wanted,
        lambda found: (
            f"{run.network_kind} {name} is already there with {_difference(found, wanted)}; choose "
            "another --name, or --overwrite to train it again"
        ),
        overwrite=overwrite,
        decisive=DECISIVE,
        keep_unfinished=True,
    )
    return folder, finished


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What tells two trainings apart."""
    if found["catalogue"] != wanted["catalogue"]:
        return "other songs or splits"
    if found.get("recipe") != wanted["recipe"]:
        return "a training as another version of this program does it"
    for part in DECISIVE[2:]:
        if found.get(part, "") != wanted.get(part, ""):
            return "other stems" if part == "stems" else f"another {part}"
    changed = [
        f"{name} {old} (now {wanted['config'][group].get(name)})"
        for group, values in found["config"].items()
        for name, old in values.items()
        if old != wanted["config"][group].get(name)
    ]
    return "other settings: " + ", ".join(changed)
