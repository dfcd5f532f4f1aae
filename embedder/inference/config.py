"""How songs are embedded: the grid of segments, and what a segment weighs.

It goes into each store's `made_from` and into `fusion.json`, so that `predict` embeds
new files exactly as the fusion's songs were embedded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from embedder.artifact import file_fingerprint
from embedder.config import EmbedConfig, MemberConfig
from embedder.errors import UserError
from embedder.run import Run
from embedder.settings import SETTINGS, replaced

MOST_TTA = 1000  # random segments more of a song


@dataclass(frozen=True)
class InferenceConfig:
    """What may differ from one fusion to the next without training a member again."""

    segment_s: float | None = None  # length of a segment, s; None: each member's eval_segment_s
    hop_s: float | None = None  # from one segment to the next, s; None: each member's eval_hop_s
    tta: int = 0  # segments more of each song, from places that its audio decides
    detector: str = ""  # fingerprint of the voice detector; "": every segment weighs 1

    def __post_init__(self) -> None:
        for name, value in (("segment_s", self.segment_s), ("hop_s", self.hop_s)):
            setting = SETTINGS[f"eval_{name}"]
            if value is not None and not setting.low <= value <= setting.high:
                raise UserError(f"--{name} {value:g} is not legal; it must be {setting.legal}")
        if not 0 <= self.tta <= MOST_TTA:
            raise UserError(f"--tta {self.tta} is not legal; it must be from 0 to {MOST_TTA}")

    def grid(self, config: MemberConfig) -> EmbedConfig:
        """The grid of a member; `UserError` if its architecture cannot take so short a segment."""
        asked = {"eval_segment_s": self.segment_s, "eval_hop_s": self.hop_s}
        return replaced(config, {n: v for n, v in asked.items() if v is not None}).embed

    def made_from(self, config: MemberConfig) -> dict[str, str]:
        """What a member's store says of how its songs were embedded.

        `grid` is for people to read, `segment_s` for programs; `activity` says what judged voice.
        """
        grid = self.grid(config)
        more = f" and {self.tta} more" if self.tta else ""
        judged_by = "energy" if config.train.recording == "vocals" else self.detector
        return {
            "grid": f"{grid.eval_segment_s:g} s every {grid.eval_hop_s:g} s{more}",
            "segment_s": f"{grid.eval_segment_s:g}",
            "activity": judged_by if self.detector else "none",
        }


def segment_s_of(made_from: Mapping[str, str]) -> float | None:
    """The length of a segment, s, that a store's `made_from` says; None where it says none."""
    try:
        return float(made_from["segment_s"])
    except (KeyError, ValueError):
        return None


def detector_fingerprint(run: Run) -> str:
    """The fingerprint of the run's voice detector; empty where none is trained."""
    return file_fingerprint(run.detector_weights) if run.detector_weights.is_file() else ""
