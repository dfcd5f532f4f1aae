"""What a run's members are, as their folders tell it: settings, size, how they were trained.

Enters: a `Run` and its fusion. Leaves: `MemberFacts`, and what is known of the run's own voice
detector and separator. What is missing is None; nothing here loads a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from embedder.artifact import read_json
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.config import detector_fingerprint
from embedder.metrics import Estimate
from embedder.run import Run
from embedder.settings import config_from_dict, train_again
from ensemble.fusion.fitted import Fusion


@dataclass(frozen=True)
class MemberFacts:
    """One member."""

    name: str
    config: MemberConfig | None = None  # None: its folder does not tell
    parameters: int | None = None
    remixed: bool | None = None  # its crops were vocals over other songs' backings


@dataclass(frozen=True)
class Measured:
    """A number that the run holds of one of its own networks, on its validation songs."""

    estimate: Estimate
    songs: int


@dataclass(frozen=True)
class Facts:
    """What a run is made of."""

    members: tuple[MemberFacts, ...]
    prepared: dict[str, Any] | None  # how `prepare` was called
    detector: Measured | None  # share of mixtures' frames that it calls right; None: not used
    separator: Measured | None  # SI-SDR that it adds to the vocals of a 0 dB mixture, dB


def read_facts(run: Run, members: Sequence[str], fusion: Fusion | None) -> Facts:
    """All that the run's folder tells; `UserError` for a file that is there and none of its own."""
    found = tuple(_member(run, name) for name in members)
    separated = any(one.config and one.config.train.stem == "separated" for one in found)
    heard = fusion.listening.detector if fusion else ""
    return Facts(
        found,
        read_json(run.info).get("prepared"),
        _detector(run) if heard and heard == detector_fingerprint(run) else None,
        _separator(run) if separated else None,
    )


def _member(run: Run, name: str) -> MemberFacts:
    path = run.member(name) / "config.json"
    if not path.is_file():
        return MemberFacts(name)
    again = train_again(run, name)
    found = read_json(path, again)
    try:
        about = found.get("about", {})
        parameters, remixed = about.get("parameters"), about.get("remixed")
        return MemberFacts(name, config_from_dict(found["config"]), parameters, remixed)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not describe a member ({error!r}); {again}") from None


def _detector(run: Run) -> Measured | None:
    path = run.detector / "accuracy.json"
    if not path.is_file():
        return None
    try:
        row = next(one for one in read_json(path) if one["condition"] == "mixture")
        return Measured(Estimate(**row["accuracy"]), int(row["songs"]))
    except (StopIteration, KeyError, TypeError, ValueError):
        return None  # older detectors were measured otherwise


def _separator(run: Run) -> Measured | None:
    path = run.separator / "quality.json"
    if not path.is_file():
        return None
    try:
        row = read_json(path)["0 dB"]
        gain = row["gain"]
        value, low, high = (float(gain[name]) for name in ("mean", "low", "high"))
        return Measured(Estimate(value, low, high), int(row["songs"]))
    except (KeyError, TypeError, ValueError):
        return None  # likewise
