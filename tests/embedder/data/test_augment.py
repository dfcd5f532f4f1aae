"""Augmentation and remix: drawn from the generator alone, and at the level that was asked for."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder.config import SAMPLE_RATE, AugmentConfig
from embedder.data.augment import AUGMENTATIONS, QUIET, Augmenter, remix, rms
from embedder.settings import SETTINGS

OFF = AugmentConfig(**dict.fromkeys(AUGMENTATIONS, 0.0))
ALWAYS = AugmentConfig(**dict.fromkeys(AUGMENTATIONS, 1.0))


def only(name: str) -> AugmentConfig:
    return OFF.model_copy(update={name: 1.0})


def noise(seed: int, samples: int = 8000, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, samples).astype(np.float32)


def decibels(ratio: float) -> float:
    return float(20 * np.log10(ratio))


def test_each_augmentation_has_its_probability_among_the_settings() -> None:
    for name in AUGMENTATIONS:
        setting = SETTINGS[name]
        assert (setting.group, setting.kind) == ("augment", float)
        assert (setting.low, setting.high) == (0, 1)
        assert setting.meaning.startswith("probability of ")


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_changes_the_sound_and_not_its_shape(name: str) -> None:
    wave = noise(0)
    before = wave.copy()
    out = Augmenter(only(name))(wave, np.random.default_rng(1))
    assert (out.dtype, out.shape) == (np.float32, wave.shape)
    assert np.isfinite(out).all()
    assert rms(out - wave) > 1e-4
    np.testing.assert_array_equal(wave, before)  # what came in stays


@settings(max_examples=20)
@given(st.integers(0, 2**63 - 1), st.integers(1, 9000))
def test_the_same_generator_gives_the_same_sound(seed: int, samples: int) -> None:
    wave = noise(1, samples)
    first = Augmenter(ALWAYS)
    once = first(wave, np.random.default_rng(seed))
    first(wave, np.random.default_rng(seed + 1))  # something in between leaves no trace
    random.seed(4)
    np.random.seed(4)  # noqa: NPY002
    again = first(wave, np.random.default_rng(seed))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once, Augmenter(ALWAYS)(wave, np.random.default_rng(seed)))
    assert (once.dtype, once.shape) == (np.float32, (samples,))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_another_generator_gives_another_sound(name: str) -> None:
    augmenter = Augmenter(only(name))
    outs = [augmenter(noise(2), np.random.default_rng(seed)) for seed in range(4)]
    assert len({out.tobytes() for out in outs}) == 4


def test_the_global_generators_go_on_as_if_nothing_had_been() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    Augmenter(ALWAYS)(noise(3), np.random.default_rng(0))
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_the_global_generators_come_back_after_an_error() -> None:
    def broken(*_: object) -> None:
        random.random()
        raise RuntimeError("no filter")

    augmenter = Augmenter(ALWAYS)
    augmenter.chain = [broken]
    before = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    with pytest.raises(RuntimeError, match="no filter"):
        augmenter(noise(4), np.random.default_rng(0))
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before  # noqa: NPY002


def test_nothing_is_done_where_all_is_off() -> None:
    wave = noise(5)
    augmenter = Augmenter(OFF)
    assert augmenter.chain == []
    np.testing.assert_array_equal(augmenter(wave, np.random.default_rng(0)), wave)


def test_the_chain_is_in_the_order_of_the_dict() -> None:
    chain = Augmenter(ALWAYS).chain
    names = [type(transform).__name__ for transform in chain]
    assert names == ["Compose", "AddColorNoise", "LowPassFilter"]
    bands = [type(transform).__name__ for transform in chain[0].transforms]
    assert bands == ["LowShelfFilter", "PeakingFilter", "HighShelfFilter"]


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_an_augmentation_comes_as_often_as_its_probability(share: float) -> None:
    augmenter = Augmenter(OFF.model_copy(update={"noise": share}))
    wave = noise(6, 64)
    changed = sum(
        not np.array_equal(augmenter(wave, np.random.default_rng(seed)), wave)
        for seed in range(600)
    )
    assert abs(changed / 600 - share) < 0.06  # 3 standard errors


def test_the_noise_is_as_far_below_as_asked() -> None:
    config = only("noise").model_copy(update={"noise_low_db": 12.0, "noise_high_db": 18.0})
    wave = noise(7, 16000)
    ratios = []
    for seed in range(30):
        out = Augmenter(config)(wave, np.random.default_rng(seed))
        ratios.append(decibels(rms(wave) / rms(out - wave)))
    assert 11.9 < min(ratios) < 13.5
    assert 16.5 < max(ratios) < 18.1


def test_the_low_pass_takes_the_top_and_leaves_the_voice() -> None:
    wave = noise(8, 16000)
    hertz = np.fft.rfftfreq(16000, 1 / SAMPLE_RATE)
    for seed in range(5):
        out = Augmenter(only("low_pass"))(wave, np.random.default_rng(seed))
        gain = np.abs(np.fft.rfft(out)) / np.abs(np.fft.rfft(wave))
        assert 0.9 < np.median(gain[(hertz > 100) & (hertz < 1500)]) < 1.1
        assert np.median(gain[hertz > 7500]) < 0.75


def test_the_equaliser_stays_within_its_reach() -> None:
    wave = noise(9, 16000)
    gains = []
    for seed in range(10):
        config = only("equaliser").model_copy(update={"equaliser_db": 3.0})
        out = Augmenter(config)(wave, np.random.default_rng(seed))
        power = np.abs(np.fft.rfft(np.stack([wave, out]))) ** 2
        for band in np.array_split(power[:, 1:], 80, axis=1):
            gains.append(decibels(np.sqrt(band[1].sum() / band[0].sum())))
    assert max(np.abs(gains)) < 9  # neighbouring bands overlap, by two others at most
    assert max(np.abs(gains)) > 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_silence_stays_silence(name: str) -> None:
    out = Augmenter(only(name))(np.zeros(4000, np.float32), np.random.default_rng(0))
    assert not out.any()


def test_rms_is_that_of_the_definition() -> None:
    wave = noise(10, 777)
    slow = (sum(float(value) ** 2 for value in wave) / 777) ** 0.5
    assert rms(wave) == pytest.approx(slow, rel=1e-6)
    assert rms(wave[:0]) == 0.0


@given(
    st.floats(-40, 40),
    st.floats(-60, 0),
    st.floats(-60, 0),
    st.integers(0, 1000),
)
def test_the_backing_lies_as_far_below_as_asked(
    ratio_db: float, vocals_db: float, backing_db: float, seed: int
) -> None:
    vocals = noise(seed, 500, 10 ** (vocals_db / 20))
    backing = noise(seed + 1, 500, 10 ** (backing_db / 20))
    mixed = remix(vocals, backing, rms(vocals), ratio_db)
    assert mixed.dtype == np.float32
    laid_under = mixed.astype(np.float64) - vocals
    # What float32 rounds off the sum: it shows where one part is far below the other.
    rounding = 2e-7 * float(np.abs(mixed).max()) / rms(laid_under)
    assert decibels(rms(vocals) / rms(laid_under)) == pytest.approx(
        ratio_db, abs=0.01 + 9 * rounding
    )
    cosine = float(laid_under @ backing) / np.linalg.norm(laid_under) / np.linalg.norm(backing)
    assert cosine > 0.999  # it is the backing, and the vocals are as they were


def test_the_level_that_counts_is_the_one_given() -> None:
    vocals, backing = noise(11, 2000, 0.001), noise(12, 2000, 0.3)
    laid_under = remix(vocals, backing, 0.1, 6.0).astype(np.float64) - vocals
    assert decibels(0.1 / rms(laid_under)) == pytest.approx(6.0, abs=0.01)


@pytest.mark.parametrize("level", [0.0, QUIET / 2])
def test_a_silent_backing_leaves_the_vocals_alone(level: float) -> None:
    vocals = noise(13)
    mixed = remix(vocals, np.full(8000, level, np.float32), rms(vocals), 0.0)
    np.testing.assert_array_equal(mixed, vocals)
