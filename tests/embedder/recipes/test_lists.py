"""Recipes and the benchmark's list hold only settings that exist, for every kind and loss."""

from __future__ import annotations

import pytest

from embedder.architectures import ARCHITECTURES
from embedder.objectives import OBJECTIVES
from embedder.presets import PRESETS
from embedder.recipes.lists import BENCHMARK, PLAIN, RECIPES
from embedder.settings import build_config


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
