"""How long a recipe will take on this machine, measured before it begins.

Enters: a recipe and a data folder. Leaves: its steps with estimated seconds. A few steps of each
member's training are run on noise to learn the machine's speed.
"""

from __future__ import annotations

from pathlib import Path

import soundfile

from embedder.catalogue import scan
from embedder.config import SeparatorTrainConfig
from embedder.data.cache import available_cores
from embedder.recipes.lists import Recipe
from embedder.recipes.plan import Songs, Step, steps
from embedder.recipes.speed import measure_speed
from embedder.splits import read_lists, split_songs

LOOKED_AT = 20  # songs whose length is read
SEPARATOR_SPEED = 1.2  # its training to that of the fastest member, as measured on two cores
DETECTOR_S = 180.0


def estimated(
    recipe: Recipe, data_dir: Path, split: str, seed: int, stems: bool, device: str = "auto"
) -> list[Step]:
    """The steps of a recipe over the songs of `data_dir`, with seconds; nothing is decoded."""
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
        training = SeparatorTrainConfig()
        audio_s = training.epochs * training.crops * training.crop_s
        fastest = max(speed.training for _, speed in members.values())
        before["train-separator"] = audio_s / (SEPARATOR_SPEED * fastest)
    if recipe.detector and stems:
        before["train-detector"] = DETECTOR_S
    return steps(size, members, cores=available_cores(), stems=stems, before=before)
