"""Songs degraded as songs are on their way to a listener, and the severity levels of each kind.

The kinds are those of the audio degradation toolbox (Mauch & Ewert, ISMIR 2013), by audiomentations
where it has them. It has no mp3 encoder of its own, so that one is libsndfile's (LAME), and its
rooms need a package that is not required: reverberation is exponentially decaying noise.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedder.run import SAMPLE_RATE

if TYPE_CHECKING:  # the command line reads the levels, and loads no array library for that
    import numpy as np
    from numpy.typing import NDArray

    Wave = NDArray[np.float32]
    Degrade = Callable[[Wave, float, np.random.Generator], Wave]

SONGS = 40  # that are degraded, if nothing else is asked for
SECONDS = 10.0  # of each of them, where someone sings
EXCERPT = "excerpt"
FULL = 0.0  # level of `EXCERPT` that leaves the song whole

SLOPE_DB = 24  # of the low-pass, dB an octave
MP3_RATES = (8.0, 160.0)  # kbit/s between which libsndfile places its level, at 16 kHz
MP3_DELAY = 1105  # samples of encoder and decoder; left in where a frame is too short to note them


@dataclass(frozen=True)
class Degradation:
    """One kind of degradation with its severity levels."""

    title: str
    says: str  # what a level's number is, with its unit
    levels: tuple[float, ...]  # from mild to harsh; ascending where there is a `neutral`
    neutral: float | None = None  # the level between the others that changes nothing
    apply: Degrade | None = None  # None: the level is the length of the excerpt

    def text(self, level: float) -> str:
        """A level as people read it, without its unit."""
        if self is DEGRADATIONS[EXCERPT] and level == FULL:
            return "full"
        text = f"{level:+g}" if self.neutral == 0 else f"{level:g}"
        return text.replace("-", "−")


def degrade(wave: Wave, name: str, level: float, rng: np.random.Generator) -> Wave:
    """A wave degraded at a level; the same for the same generator.

    Args:
        wave: `(samples,)`, float32 at 16 kHz.
        name: key of `DEGRADATIONS`, but not `EXCERPT`.
        level: of that degradation, in its own unit.
        rng: the source of randomness.

    Returns:
        A wave, float32; only "speed" and "tempo" change its length. "gain" may leave amplitudes
        above 1, which a file then clips.

    Raises:
        ValueError: another name, or an empty wave.
    """
    degradation = DEGRADATIONS.get(name)
    if degradation is None or degradation.apply is None or wave.ndim != 1 or not len(wave):
        known = ", ".join(name for name in DEGRADATIONS if name != EXCERPT)
        raise ValueError(f"cannot degrade {wave.shape} by {name!r}; needs (samples,) and {known}")
    return degradation.apply(wave.astype("float32"), level, rng)


def severity_levels() -> list[tuple[str, float]]:
    """Every (degradation, level), in the order of `DEGRADATIONS`."""
    return [(name, level) for name, kind in DEGRADATIONS.items() for level in kind.levels]


def _with(transform: str, *names: str, **fixed: object) -> Degrade:
    """A transform of audiomentations whose parameters `names` all take the level."""

    def apply(wave: Wave, level: float, rng: np.random.Generator) -> Wave:
        import audiomentations
        import numpy as np

        from embedder.data.augment import drawing_from

        built = getattr(audiomentations, transform)(**dict.fromkeys(names, level), **fixed, p=1.0)
        with drawing_from(rng):
            return np.asarray(built(wave, SAMPLE_RATE), dtype=np.float32)

    return apply


def _clipping(wave: Wave, percent: float, rng: np.random.Generator) -> Wave:
    """Half of the samples above the upper limit and half below the lower one; an even number."""
    limits = ("min_percentile_threshold", "max_percentile_threshold")
    return _with("ClippingDistortion", *limits)(wave, int(percent), rng)


def _speed(wave: Wave, rate: float, rng: np.random.Generator) -> Wave:
    """As a tape that runs faster: resampled, so that pitch and formants move along."""
    import numpy as np
    import soxr

    del rng
    return np.asarray(soxr.resample(wave, SAMPLE_RATE * rate, SAMPLE_RATE), dtype=np.float32)


def _mp3(wave: Wave, kbit_s: float, rng: np.random.Generator) -> Wave:
    """To a constant bitrate and back, in place and of the same length."""
    import numpy as np
    import soundfile

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
    import numpy as np

    seconds = np.arange(1, math.ceil(rt60_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.normal(size=len(seconds)) * 10 ** (-3 * seconds / rt60_s)
    return np.concatenate([[1.0], tail / np.linalg.norm(tail)])


def _reverb(wave: Wave, rt60_s: float, rng: np.random.Generator) -> Wave:
    """As loud as before, and cut to the same length."""
    import numpy as np
    from scipy.signal import oaconvolve

    from embedder.data.augment import rms

    wet = oaconvolve(wave, impulse_response(rt60_s, rng))[: len(wave)].astype(np.float32)
    return np.asarray(wet * np.float32(rms(wave) / max(rms(wet), 1e-12)))


DEGRADATIONS: dict[str, Degradation] = {
    EXCERPT: Degradation("Excerpt", "length, s", (FULL, 30.0, 10.0, 5.0, 3.0, 1.0)),
    "noise": Degradation(
        "White noise",
        "signal-to-noise ratio, dB",
        (30.0, 20.0, 10.0, 0.0),
        apply=_with("AddGaussianSNR", "min_snr_db", "max_snr_db"),
    ),
    "mp3": Degradation("Mp3", "bitrate, kbit/s", (48.0, 32.0, 16.0, 8.0), apply=_mp3),
    "low_pass": Degradation(
        "Low-pass",
        "cutoff, Hz",
        (4000.0, 2000.0, 1000.0, 500.0),
        apply=_with(
            "LowPassFilter",
            *("min_cutoff_freq", "max_cutoff_freq"),
            min_rolloff=SLOPE_DB,
            max_rolloff=SLOPE_DB,
        ),
    ),
    "clipping": Degradation(
        "Clipping", "samples clipped, %", (2.0, 10.0, 20.0, 40.0), apply=_clipping
    ),
    "reverb": Degradation("Reverberation", "RT60, s", (0.3, 0.6, 1.2, 2.4), apply=_reverb),
    "gain": Degradation(
        "Gain",
        "louder by, dB",
        (-40.0, -20.0, 10.0, 20.0),
        0.0,
        _with("Gain", "min_gain_db", "max_gain_db"),
    ),
    "speed": Degradation(
        "Speed",
        "times as fast, pitch moves along",
        (0.8, 0.9, 0.95, 1.05, 1.1, 1.25),
        1.0,
        _speed,
    ),
    "pitch": Degradation(
        "Pitch",
        "shift, semitones",
        (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0),
        0.0,
        _with("PitchShift", "min_semitones", "max_semitones"),
    ),
    "tempo": Degradation(
        "Tempo",
        "times as fast, pitch stays",
        (0.7, 0.85, 1.15, 1.4),
        1.0,
        _with("TimeStretch", "min_rate", "max_rate", leave_length_unchanged=False),
    ),
}
