"""A training crop, changed as recordings differ and singers do not.

Pitch and formants are never shifted: they are what tells singers apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import audiomentations
import numpy as np
from numpy.typing import NDArray

from embedder.config import SAMPLE_RATE, AugmentConfig

Wave = NDArray[np.float32]

QUIET = 1e-4  # root mean square under which a stem counts as silent (−80 dB full scale)


def _equaliser(config: AugmentConfig) -> Any:
    """A low shelf, a peak and a high shelf; half the time of the library's seven bands."""
    gain = {"min_gain_db": -config.equaliser_db, "max_gain_db": config.equaliser_db, "p": 1.0}
    bands = [
        audiomentations.LowShelfFilter(min_center_freq=80, max_center_freq=600, **gain),
        audiomentations.PeakingFilter(min_center_freq=300, max_center_freq=4000, **gain),
        audiomentations.HighShelfFilter(min_center_freq=1500, max_center_freq=6500, **gain),
    ]
    return audiomentations.Compose(bands, p=config.equaliser)


def _noise(config: AugmentConfig) -> Any:
    return audiomentations.AddColorNoise(
        min_snr_db=config.noise_low_db, max_snr_db=config.noise_high_db, p=config.noise
    )


def _low_pass(config: AugmentConfig) -> Any:
    return audiomentations.LowPassFilter(
        min_cutoff_freq=2500, max_cutoff_freq=7000, p=config.low_pass
    )


AUGMENTATIONS: dict[str, Callable[[AugmentConfig], Any]] = {
    "equaliser": _equaliser,
    "noise": _noise,
    "low_pass": _low_pass,
}


class Augmenter:
    """The chain of `AUGMENTATIONS`, drawn from a generator that is passed in."""

    def __init__(self, config: AugmentConfig) -> None:
        active = [name for name in AUGMENTATIONS if getattr(config, name) > 0]
        self.chain = [AUGMENTATIONS[name](config) for name in active]

    def __call__(self, wave: Wave, rng: np.random.Generator) -> Wave:
        """`wave (samples,)` → the same shape, float32.

        A crop depends on `rng` alone.
        """
        with drawing_from(rng):
            for transform in self.chain:
                wave = transform(wave, SAMPLE_RATE)
        return np.asarray(wave, dtype=np.float32)


@contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """What audiomentations draws inside the block depends on `rng` alone.

    The library draws from Python's and numpy's global generators. They are seeded from `rng` and
    put back afterwards.
    """
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(int(rng.integers(2**32)))
    np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def rms(wave: Wave) -> float:
    """Root mean square of `wave (samples,)`, 0 for an empty one."""
    return math.sqrt(float(np.dot(wave, wave)) / len(wave)) if len(wave) else 0.0


def remix(vocals: Wave, backing: Wave, vocals_level: float, ratio_db: float) -> Wave:
    """Vocals over another song's backing (shuffle-and-remix: Hsieh et al., ICASSP 2020, II.C).

    `vocals_level` is the root mean square that counts as 0 dB (the louder of the crop's and the
    song's own usual one, so that a crop that is hardly sung in is not boosted); the backing is
    scaled to lie `ratio_db` below it. A silent backing leaves the vocals alone.
    """
    backing_level = rms(backing)
    if backing_level < QUIET:
        return vocals
    gain = vocals_level / backing_level * 10 ** (-ratio_db / 20)
    return np.asarray(vocals + np.float32(gain) * backing, dtype=np.float32)
