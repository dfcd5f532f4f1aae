"""A song degraded as songs are on their way to a listener, by a level that is asked for.

Enters: `wave (samples,)`, float32 at 16 kHz, a level of `ladders.py` and a generator. Leaves: a
wave, float32; only `speed` and `tempo` change its length. The kinds are those of the audio
degradation toolbox (Mauch & Ewert, ISMIR 2013), by audiomentations where it has them. It has no mp3
encoder of its own, so that one is libsndfile's (LAME), and its rooms need a package that is not
asked for: reverberation is exponentially decaying noise.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import audiomentations
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from embedder.config import SAMPLE_RATE
from embedder.data.augment import drawing_from, rms

Wave = NDArray[np.float32]
Degrade = Callable[[Wave, float, np.random.Generator], Wave]

SLOPE_DB = 24  # of the low-pass, dB an octave
MP3_RATES = (8.0, 160.0)  # kbit/s between which libsndfile places its level, at 16 kHz
MP3_DELAY = 1105  # samples of encoder and decoder; left in where a frame is too short to note them


def _white_noise(wave: Wave, snr_db: float, rng: np.random.Generator) -> Wave:
    return _applied(audiomentations.AddGaussianSNR(snr_db, snr_db, p=1.0), wave, rng)


def _low_pass(wave: Wave, cutoff_hz: float, rng: np.random.Generator) -> Wave:
    transform = audiomentations.LowPassFilter(
        cutoff_hz, cutoff_hz, min_rolloff=SLOPE_DB, max_rolloff=SLOPE_DB, p=1.0
    )
    return _applied(transform, wave, rng)


def _clipping(wave: Wave, percent: float, rng: np.random.Generator) -> Wave:
    """Half of the samples above the upper limit and half below the lower one; an even number."""
    return _applied(audiomentations.ClippingDistortion(int(percent), int(percent), 1.0), wave, rng)


def _gain(wave: Wave, gain_db: float, rng: np.random.Generator) -> Wave:
    """May leave amplitudes above 1, which a file then clips."""
    return _applied(audiomentations.Gain(gain_db, gain_db, p=1.0), wave, rng)


def _pitch(wave: Wave, semitones: float, rng: np.random.Generator) -> Wave:
    return _applied(audiomentations.PitchShift(semitones, semitones, p=1.0), wave, rng)


def _tempo(wave: Wave, rate: float, rng: np.random.Generator) -> Wave:
    transform = audiomentations.TimeStretch(rate, rate, leave_length_unchanged=False, p=1.0)
    return _applied(transform, wave, rng)


def _speed(wave: Wave, rate: float, rng: np.random.Generator) -> Wave:
    """As a tape that runs faster: resampled, so that pitch and formants move along."""
    del rng
    return np.asarray(soxr.resample(wave, SAMPLE_RATE * rate, SAMPLE_RATE), dtype=np.float32)


def _mp3(wave: Wave, kbit_s: float, rng: np.random.Generator) -> Wave:
    """To a constant bitrate and back, in place and of the same length."""
    del rng
    low, high = MP3_RATES
    # libsndfile's level runs from 0, the highest bitrate, to 1, which it refuses.
    level = min(1 - (kbit_s - low) / (high - low), 0.9999)
    buffer = io.BytesIO()
    soundfile.write(
        buffer, wave, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT", compression_level=level,
    )  # fmt: skip
    buffer.seek(0)
    decoded, _ = soundfile.read(buffer, dtype="float32")
    first = MP3_DELAY if len(decoded) > len(wave) else 0
    placed = np.zeros(len(wave), dtype=np.float32)
    kept = decoded[first : first + len(wave)]
    placed[: len(kept)] = kept
    return placed


def impulse_response(rt60_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Of a room whose sound dies away by 60 dB in `rt60_s`: (samples,) of that length.

    The direct sound, and Gaussian noise under an exponential (Polack's model) of the same energy.
    """
    seconds = np.arange(1, math.ceil(rt60_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.normal(size=len(seconds)) * 10 ** (-3 * seconds / rt60_s)
    return np.concatenate([[1.0], tail / np.linalg.norm(tail)])


def _reverb(wave: Wave, rt60_s: float, rng: np.random.Generator) -> Wave:
    """As loud as before, and cut to the same length."""
    wet = oaconvolve(wave, impulse_response(rt60_s, rng))[: len(wave)].astype(np.float32)
    return np.asarray(wet * np.float32(rms(wave) / max(rms(wet), 1e-12)))


DEGRADATIONS: dict[str, Degrade] = {
    "noise": _white_noise,
    "mp3": _mp3,
    "low_pass": _low_pass,
    "clipping": _clipping,
    "reverb": _reverb,
    "gain": _gain,
    "speed": _speed,
    "pitch": _pitch,
    "tempo": _tempo,
}


def degrade(wave: Wave, name: str, level: float, rng: np.random.Generator) -> Wave:
    """`wave (samples,)` degraded; the same for the same generator.

    Raises `ValueError` for another name than those of `DEGRADATIONS`, or an empty wave.
    """
    if name not in DEGRADATIONS or wave.ndim != 1 or not len(wave):
        known = ", ".join(DEGRADATIONS)
        raise ValueError(f"cannot degrade {wave.shape} by {name!r}; needs (samples,) and {known}")
    return DEGRADATIONS[name](wave.astype(np.float32), level, rng)


def _applied(transform: Any, wave: Wave, rng: np.random.Generator) -> Wave:
    with drawing_from(rng):
        return np.asarray(transform(wave, SAMPLE_RATE), dtype=np.float32)
