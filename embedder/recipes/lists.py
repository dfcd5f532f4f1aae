"""What is known to work, as lists of members: the recipes of `python app.py recipe`.

Enters: nothing but what was measured (`DECISIONS.md` has the numbers). Leaves: `RECIPES`, and the
settings of each recipe's members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedder.architectures import ARCHITECTURES
from embedder.config import MemberConfig
from embedder.objectives import OBJECTIVES
from embedder.settings import build_config


@dataclass(frozen=True)
class Recipe:
    """Which members are trained, and what is made for them first."""

    about: str
    members: Mapping[str, Mapping[str, Any]]  # name → settings above those of the preset
    preset: str = "laptop"
    stems: str = "wanted"  # "needed", "wanted" (used where given) or "unused"
    separator: bool = False  # a separator is trained on the stems before the members
    detector: bool = False  # a singing-voice detector is trained first, where there are stems
    extra: Mapping[str, Any] = field(default_factory=dict)  # settings of all its members

    def configs(self, seed: int = 0) -> dict[str, MemberConfig]:
        """Name → config of each member, in the order of training."""
        changes = {"seed": seed, **self.extra}
        return {
            name: build_config(self.preset, changes={**changes, **settings})
            for name, settings in self.members.items()
        }


RECIPES: dict[str, Recipe] = {
    "laptop": Recipe(
        "one member on remixed mixtures: minutes on two cores",
        {"ecapa-aam": {}},
        detector=True,
    ),
    "best": Recipe(
        "members that hear mixtures and members that hear them through a separator of their own",
        {
            "ecapa-aam-separated": {"stem": "separated", "crops_per_song": 12, "epochs": 24},
            "ecapa-aam": {"batch_crops": 2, "epochs": 18},
        },
        stems="needed",
        separator=True,
        detector=True,
    ),
    "nostems": Recipe(
        "mixtures alone: other songs' openings and endings are laid over the crops",
        {"ecapa-aam": {"hop": 256, "crops_per_song": 8, "epochs": 14}},
        stems="unused",
    ),
}

# The default list of `python app.py benchmark`: every architecture with one loss, every loss with
# one architecture, and the papers' baseline, which hears its mixtures as they are.
PLAIN = {"remix": 0, "overlay": 0, "equaliser": 0, "noise": 0, "low_pass": 0}
BENCHMARK: dict[str, dict[str, Any]] = {
    "crnn-plain": {"backbone": "crnn", **PLAIN},
    **{key: {"backbone": key} for key in ARCHITECTURES if key != "ssl"},  # it needs weights
    **{f"ecapa-{key}": {"loss": key} for key in OBJECTIVES if key != "aam"},
    "ecapa-aam+triplet": {"loss": "aam+triplet"},
}
