"""How songs are heard: what is asked for at test time, and what a store says of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig, segment_s_of

Tiny = Callable[..., MemberConfig]


def test_what_is_not_asked_for_is_as_trained(tiny: Tiny) -> None:
    config = tiny()  # 2 s every 1 s
    assert InferenceConfig().grid(config) == config.embed
    longer = InferenceConfig(segment_s=5).grid(config)
    assert (longer.eval_segment_s, longer.eval_hop_s) == (5, 1)
    denser = InferenceConfig(hop_s=0.5).grid(config)
    assert (denser.eval_segment_s, denser.eval_hop_s) == (2, 0.5)


def test_a_store_names_the_grid_that_was_heard_not_the_one_asked_for(tiny: Tiny) -> None:
    config = tiny()
    assert InferenceConfig().made_from(config)["grid"] == "2 s every 1 s"
    assert InferenceConfig(2.0, 1.0).made_from(config) == InferenceConfig().made_from(config)
    assert (
        InferenceConfig(4.5, 0.75, 3).made_from(config)["grid"] == "4.5 s every 0.75 s and 3 more"
    )


@pytest.mark.parametrize("seconds", [2, 4.5, 0.75, 10])
def test_the_length_of_a_segment_is_read_back(seconds: float, tiny: Tiny) -> None:
    assert segment_s_of(InferenceConfig(seconds, 1.0, 3).made_from(tiny())) == seconds
    assert segment_s_of({"checkpoint": "ab"}) is None
    assert segment_s_of({"segment_s": "no number"}) is None


@pytest.mark.parametrize(
    ("stem", "detector", "activity"),
    [("mix", "", "none"), ("vocals", "", "none"), ("mix", "ab", "ab"), ("vocals", "ab", "energy")],
)
def test_a_store_names_what_judged_the_voice(
    stem: str, detector: str, activity: str, tiny: Tiny
) -> None:
    assert InferenceConfig(detector=detector).made_from(tiny(stem=stem))["activity"] == activity


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"segment_s": 0.4}, r"--segment_s 0\.4 is not legal; it must be a number from 0\.5 to 30"),
        ({"segment_s": 31}, r"--segment_s 31 is not legal"),
        ({"segment_s": float("nan")}, r"--segment_s nan is not legal"),
        ({"hop_s": 0.0}, r"--hop_s 0 is not legal; it must be a number from 0\.1 to 30"),
        ({"tta": -1}, r"--tta -1 is not legal; it must be from 0 to 1000"),
        ({"tta": 1001}, r"--tta 1001 is not legal"),
    ],
)
def test_what_cannot_be_is_one_line(asked: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InferenceConfig(**asked)  # type: ignore[arg-type]


def test_a_segment_too_short_for_an_architecture_is_refused(tiny: Tiny) -> None:
    config = tiny(backbone="crnn", n_mels=128, hop=1024, n_fft=2048, segment_s=2.0)
    with pytest.raises(UserError, match="crnn pools the time axis by 16"):
        InferenceConfig(segment_s=0.5).grid(config)
