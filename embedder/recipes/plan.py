"""What a recipe will do and how long it will take here, before any of it is done.

Enters: a recipe's members with this machine's speeds, and how many songs there are. Leaves: the
steps in order, each with an estimate in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from embedder.config import MemberConfig

PREPARE = 600.0  # seconds of audio that one core decodes in a second, at the least
FIT_S = 10.0  # calibration, weights and their cross-fitting
PAGES_S = 30.0  # maps and pages


@dataclass(frozen=True)
class Speed:
    """Seconds of audio a second on this machine."""

    training: float
    embedding: float


@dataclass(frozen=True)
class Songs:
    """How much there is to hear."""

    train: int
    validation: int
    test: int
    mean_s: float  # length of a song, s

    @property
    def all(self) -> int:
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class Step:
    """One step of a recipe."""

    name: str  # the command that does it
    what: str
    seconds: float


def steps(
    songs: Songs,
    members: Mapping[str, tuple[MemberConfig, Speed]],
    *,
    cores: int,
    stems: bool,
    before: Mapping[str, float],
) -> list[Step]:
    """The steps in order. `before`: what is trained ahead of the members, with its seconds."""
    recordings = songs.all * (3 if stems else 1)
    decoded_s = recordings * songs.mean_s
    found = [Step("prepare", f"{recordings} recordings are decoded", decoded_s / (PREPARE * cores))]
    found += [
        Step(name, "on the training songs' stems", seconds) for name, seconds in before.items()
    ]
    found += [
        Step(
            "train-embedder",
            f"{name}: {config.train.epochs} epochs",
            training_s(songs, config, speed),
        )
        for name, (config, speed) in members.items()
    ]
    embedding = sum(embedding_s(songs, config, speed) for config, speed in members.values())
    found.append(Step("fuse", f"{songs.all} songs are embedded and indexed", embedding + FIT_S))
    found.append(Step("analyze", "pages are drawn", PAGES_S))
    return found


def training_s(songs: Songs, config: MemberConfig, speed: Speed) -> float:
    """All epochs of a member, each with its validation."""
    train = config.train
    crops_s = songs.train * train.crops_per_song * train.segment_s
    return train.epochs * (
        crops_s / speed.training + songs.validation * songs.mean_s / speed.embedding
    )


def embedding_s(songs: Songs, config: MemberConfig, speed: Speed) -> float:
    """All songs once, on the member's overlapping grid."""
    overlap = config.embed.eval_segment_s / config.embed.eval_hop_s
    return songs.all * songs.mean_s * overlap / speed.embedding
