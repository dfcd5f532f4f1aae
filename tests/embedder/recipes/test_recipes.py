"""Recipes and the benchmark's list hold only settings that exist, for every kind and loss."""

from __future__ import annotations

import dataclasses

import pytest

from embedder.architectures import ARCHITECTURES
from embedder.objectives import OBJECTIVES
from embedder.presets import PRESETS
from embedder.recipes import (
    BENCHMARK,
    FIT_S,
    PAGES_S,
    PLAIN,
    PREPARE,
    RECIPES,
    Songs,
    embedding_s,
    steps,
    training_s,
)
from embedder.settings import build_config
from embedder.training.speed import Speed


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_s_members_can_be_built(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.preset in PRESETS
    configs = recipe.configs(seed=3)
    assert list(configs) == list(recipe.members)
    for member, config in configs.items():
        assert config.train.seed == 3
        wanted = {**recipe.extra, **recipe.members[member]}
        flat = {k: v for group in config.to_dict().values() for k, v in group.items()}
        assert {key: flat[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_needs_is_what_its_members_hear(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.stems in {"needed", "wanted", "unused"}
    heard = {config.train.stem for config in recipe.configs().values()}
    assert recipe.separator == ("separated" in heard)
    if recipe.separator or "vocals" in heard:
        assert recipe.stems == "needed"
    if recipe.detector:
        assert recipe.stems != "unused"


def test_the_recipes_that_are_promised_are_there() -> None:
    assert {"laptop", "best", "nostems"} <= set(RECIPES)
    assert len(RECIPES["laptop"].members) == 1
    assert len(RECIPES["best"].members) > 1


def test_the_benchmark_has_every_architecture_and_every_loss() -> None:
    configs = {name: build_config(changes=settings) for name, settings in BENCHMARK.items()}
    assert {config.model.backbone for config in configs.values()} == set(ARCHITECTURES) - {"ssl"}
    assert {config.loss.loss for config in configs.values()} == {*OBJECTIVES, "aam+triplet"}


def test_the_papers_baseline_hears_its_mixtures_as_they_are() -> None:
    config = build_config(changes=BENCHMARK["crnn-plain"])
    assert config.model.backbone == "crnn"
    assert {key: getattr(config.augment, key) for key in PLAIN} == dict.fromkeys(PLAIN, 0)


SONGS = Songs(train=40, validation=10, test=5, mean_s=30)
CONFIG = build_config(
    changes={
        "epochs": 3,
        "crops_per_song": 2,
        "segment_s": 4,
        "eval_segment_s": 4,
        "eval_hop_s": 1,
    }
)
SPEED = Speed(training=100, embedding=500)


def test_training_is_crops_and_a_validation_in_each_epoch() -> None:
    # 40 songs × 2 crops × 4 s at 100 s/s, and 10 songs × 30 s at 500 s/s
    assert training_s(SONGS, CONFIG, SPEED) == pytest.approx(3 * (3.2 + 0.6))


def test_embedding_hears_all_songs_as_often_as_segments_overlap() -> None:
    assert embedding_s(SONGS, CONFIG, SPEED) == pytest.approx(55 * 30 * 4 / 500)


@pytest.mark.parametrize(("stems", "recordings"), [(False, 55), (True, 165)])
def test_the_steps_are_in_the_order_in_which_they_are_done(stems: bool, recordings: int) -> None:
    members = {"a": (CONFIG, SPEED), "b": (CONFIG, dataclasses.replace(SPEED, training=50))}
    found = steps(SONGS, members, cores=2, stems=stems, before={"train-separator": 77.0})
    names = [step.name for step in found]
    assert names == [
        "prepare", "train-separator", "train-embedder", "train-embedder", "fuse", "analyze",
    ]  # fmt: skip
    seconds = [step.seconds for step in found]
    embedding = embedding_s(SONGS, CONFIG, SPEED)
    assert seconds == pytest.approx(
        [recordings * 30 / (2 * PREPARE), 77, 11.4, 21, 2 * embedding + FIT_S, PAGES_S]
    )
    assert f"{recordings} recordings" in found[0].what
    assert [step.what for step in found[2:4]] == ["a: 3 epochs", "b: 3 epochs"]
