"""What is known to work, as lists of members: the recipes of `python app.py recipe`.

`docs/results` has the numbers behind them. Before a recipe begins, `estimated` says how long it
will take here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedder.architectures import ARCHITECTURES
from embedder.catalogue import scan
from embedder.objectives import OBJECTIVES
from embedder.text import counted

if TYPE_CHECKING:
    from embedder.config import MemberConfig
    from embedder.training.speed import Speed


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
        from embedder.settings import build_config

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
        "members on mixtures and members on what a separator of their own takes out of them",
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
# one architecture, and the papers' baseline, on mixtures as they are.
PLAIN = {"remix": 0, "overlay": 0, "equaliser": 0, "noise": 0, "low_pass": 0}
BENCHMARK: dict[str, dict[str, Any]] = {
    "crnn-plain": {"backbone": "crnn", **PLAIN},
    **{key: {"backbone": key} for key in ARCHITECTURES if key != "ssl"},  # it needs weights
    **{f"ecapa-{key}": {"loss": key} for key in OBJECTIVES if key != "aam"},
    "ecapa-aam+triplet": {"loss": "aam+triplet"},
}


PREPARE = 600.0  # seconds of audio that one core decodes in a second, at the least
FIT_S = 10.0  # calibration, weights and their cross-fitting
PAGES_S = 30.0  # maps and pages


@dataclass(frozen=True)
class Songs:
    """How much audio there is."""

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
    found = [
        Step(
            "prepare",
            f"{counted(recordings, 'recording', ('is', 'are'))} decoded",
            decoded_s / (PREPARE * cores),
        )
    ]
    found += [
        Step(name, "on the training songs' stems", seconds) for name, seconds in before.items()
    ]
    found += [
        Step(
            "train-embedder",
            f"{name}: {counted(config.train.epochs, 'epoch')}",
            training_s(songs, config, speed),
        )
        for name, (config, speed) in members.items()
    ]
    embedding = sum(embedding_s(songs, config, speed) for config, speed in members.values())
    found.append(
        Step(
            "fuse",
            f"{counted(songs.all, 'song', ('is', 'are'))} embedded and indexed",
            embedding + FIT_S,
        )
    )
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


LOOKED_AT = 20  # songs whose length is read
SEPARATOR_SPEED = 1.2  # its training to that of the fastest member, as measured on two cores
DETECTOR_S = 180.0


def estimated(
    recipe: Recipe, data_dir: Path, split: str, seed: int, stems: bool, device: str = "auto"
) -> list[Step]:
    """The steps of a recipe over the songs of `data_dir`, with seconds; nothing is decoded."""
    import soundfile

    from embedder.data.cache import available_cores
    from embedder.splits import read_lists, split_songs
    from embedder.training.speed import measure_speed

    found = read_lists(data_dir, None) if split == "files" else scan(data_dir)
    songs = split_songs(found, split, seed)
    lengths = []
    for song in songs[:: max(1, len(songs) // LOOKED_AT)]:
        try:
            lengths.append(soundfile.info(song.path).duration)
        except soundfile.LibsndfileError:
            continue  # preparing names it
    counts = {name: sum(song.split == name for song in songs) for name in ("train", "validation")}
    size = Songs(
        train=counts["train"],
        validation=counts["validation"],
        test=len(songs) - sum(counts.values()),
        mean_s=sum(lengths) / max(1, len(lengths)),
    )
    members = {
        name: (config, measure_speed(config, device))
        for name, config in recipe.configs(seed).items()
    }
    before = {}
    if recipe.separator:
        from embedder.config import SeparatorTrainConfig

        training = SeparatorTrainConfig()
        audio_s = training.epochs * training.crops * training.crop_s
        fastest = max(speed.training for _, speed in members.values())
        before["train-separator"] = audio_s / (SEPARATOR_SPEED * fastest)
    if recipe.detector and stems:
        before["train-detector"] = DETECTOR_S
    return steps(size, members, cores=available_cores(), stems=stems, before=before)
