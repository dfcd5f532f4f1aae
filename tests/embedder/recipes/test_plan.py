"""What a recipe is said to take: the sums behind each step."""

from __future__ import annotations

import dataclasses

import pytest

from embedder.recipes.plan import (
    FIT_S,
    PAGES_S,
    PREPARE,
    Songs,
    Speed,
    embedding_s,
    steps,
    training_s,
)
from embedder.settings import build_config

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
