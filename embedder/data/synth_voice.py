"""The voice of one synthesised singer, and a song as that voice sings it, dry and at its own level.

A voice is a source and a filter (Fant 1960). What a singer keeps from album to album is the voice:
tract length, glottal pulse, breath, vibrato, glide. Balance and production are the album's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import istft, stft

from embedder.data.synth import MAJOR, Plan, Wave, generator

FRAMES = 200  # control frames a second: pitch, formants and levels move at this rate
# Formants F1 to F3 in Hz, means of 33 men: Peterson & Barney 1952, table II.
VOWELS = {
    "i": (270, 2290, 3010), "eh": (530, 1840, 2480), "ae": (660, 1720, 2410),
    "a": (730, 1090, 2440), "o": (570, 840, 2410), "u": (300, 870, 2240), "er": (490, 1350, 1690),
}  # fmt: skip
# F4 and above stand where a uniform tube of 17.5 cm has them: (2n - 1) * 500 Hz (Fant 1960).
UPPER_FORMANTS = tuple(range(3500, 9500, 1000))
# Noise of consonants: centre in Hz, width in octaves, length in seconds, level relative to vowels.
CONSONANTS = (
    (6300, 0.35, 0.09, 0.35), (3300, 0.45, 0.09, 0.4), (4800, 1.2, 0.07, 0.12),  # s, sh, f
    (4200, 0.8, 0.03, 0.5), (1900, 0.5, 0.035, 0.5), (900, 1.0, 0.025, 0.4),  # t, k, p
)  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """What a singer keeps from song to song."""

    tract: float  # factor on all formants, 1 / (tract length / 17.5 cm)
    formant_factors: tuple[float, ...]  # each formant's own deviation, 1 for none
    damping: float  # factor on the formants' bandwidths
    open_quotient: float  # share of a period in which the glottis is open
    tilt_hz: float  # above it the source falls by another 6 dB an octave
    breath: float  # aspiration noise relative to the voiced source
    vibrato_hz: float
    vibrato: float  # half the peak-to-peak extent, semitones
    glide_s: float  # time constant of a portamento
    register: float  # middle of the range, MIDI note number
    span: float = 7.0  # semitones up and down from the middle


def draw_voice(seed: int, singer: int) -> Voice:
    """The voice of one singer. Tract lengths are spread evenly, registers mostly overlap."""
    golden = 0.6180339887  # steps of the golden section stay apart however many singers there are
    tract = 0.84 * (1.22 / 0.84) ** ((generator("tracts", seed).random() + golden * singer) % 1)
    rng = generator("voice", seed, singer)
    deviation = np.exp(rng.normal(0, 0.04, 3 + len(UPPER_FORMANTS)))
    deviation[:2] **= 0.25  # F1 and F2 carry the vowel
    return Voice(
        tract=float(tract),
        formant_factors=tuple(deviation.tolist()),
        damping=float(rng.uniform(0.8, 1.6)),
        open_quotient=float(rng.uniform(0.4, 0.85)),
        tilt_hz=float(np.exp(rng.uniform(np.log(1500), np.log(7000)))),
        breath=float(10 ** rng.uniform(-2.2, -1.0)),
        vibrato_hz=float(rng.uniform(4.5, 7.0)),
        vibrato=float(rng.uniform(0.1, 0.8)),
        glide_s=float(rng.uniform(0.012, 0.05)),
        register=float(rng.uniform(52, 58)),
    )


@dataclass(frozen=True)
class Melody:
    """Control tracks of a sung part, (frames,) each, `FRAMES` a second."""

    f0: Wave  # Hz, defined in rests too
    level: Wave  # of the voiced source, 0 to 1
    formants: Wave  # (formants, frames), Hz
    consonants: tuple[tuple[float, int], ...]  # start in seconds, row of CONSONANTS


def compose(voice: Voice, plan: Plan, rng: np.random.Generator) -> Melody:
    """A random walk over the key's scale; whole bars rest, and each sung bar's last eighth."""
    frames = int(np.ceil(plan.bars * plan.bar_s * FRAMES)) + 1
    low, high = int(np.ceil(voice.register - voice.span)), int(voice.register + voice.span)
    scale = [p for p in range(low, high + 1) if (p - plan.key) % 12 in MAJOR]
    resting = set(rng.permutation(max(plan.bars - 1, 1))[: max(1, round(0.2 * plan.bars))].tolist())
    pitch, vowel, level, age = (np.zeros(frames) for _ in range(4))
    consonants = []
    degree = int(rng.integers(len(scale)))
    for bar in (b for b in range(plan.bars) if b not in resting):
        eighth = 0
        while eighth < 7:
            length = min(int(rng.choice((1, 1, 2, 2, 3, 4))), 7 - eighth)
            degree = int(np.clip(degree + rng.integers(-3, 4), 0, len(scale) - 1))
            start_s = (bar + eighth / 8) * plan.bar_s
            start = round(start_s * FRAMES)
            stop = round((bar + (eighth + length) / 8) * plan.bar_s * FRAMES)
            pitch[start:], vowel[start:] = scale[degree], rng.integers(len(VOWELS))
            age[start:] = np.arange(frames - start) / FRAMES
            level[start:stop] = 10 ** rng.uniform(-0.3, 0.0)
            if rng.random() < 0.6:
                row = int(rng.integers(len(CONSONANTS)))
                consonants.append((start_s, row))
                level[start : start + round(CONSONANTS[row][2] * FRAMES)] = 0
            eighth += length
    first = int(np.argmax(pitch > 0))
    pitch[:first], vowel[:first] = pitch[first], vowel[first]
    pitch = gaussian_filter1d(pitch, voice.glide_s * FRAMES, mode="nearest")
    swing = np.sin(2 * np.pi * voice.vibrato_hz * np.arange(frames) / FRAMES + rng.uniform(0, 6.28))
    pitch += voice.vibrato * np.clip(age / 0.4 - 0.4, 0, 1) * swing
    pitch += gaussian_filter1d(rng.normal(0, 0.4, frames), 6)  # nobody holds a note exactly
    table = np.array([(*low_three, *UPPER_FORMANTS) for low_three in VOWELS.values()])
    formants = table[vowel.astype(int)].T * voice.tract * np.array(voice.formant_factors)[:, None]
    return Melody(
        f0=440 * 2 ** ((pitch - 69) / 12),
        level=gaussian_filter1d(level, 0.012 * FRAMES),
        formants=gaussian_filter1d(formants, 0.02 * FRAMES, axis=1, mode="nearest"),
        consonants=tuple(consonants),
    )


def tract_response(frequency: Wave, formants: Wave, damping: float) -> NDArray[np.complex128]:
    """Complex gain of the vocal tract, 1 at 0 Hz: a cascade of resonances (Fant 1960).

    `frequency` (rows, frames) and `formants` (formants, frames) in Hz. Bandwidths grow from 50 Hz
    with the square of the frequency, a round form of the measured ones (Fant 1972).
    """
    gain = np.ones(frequency.shape, dtype=np.complex128)
    for formant in formants:
        ratio = frequency / formant
        bandwidth = damping * 50 * (1 + formant**2 / 6e6)
        gain /= 1 - ratio**2 + 1j * ratio * (bandwidth / formant)
    return gain


def glottal_source(frequency: Wave, f0: Wave, voice: Voice) -> NDArray[np.complex128]:
    """Spectrum of the radiated glottal pulse: a glottal formant at f0 / (2 open quotient), then
    -6 dB an octave, -12 above `tilt_hz` (after Doval, d'Alessandro & Henrich 2006).
    """
    ratio = frequency * 2 * voice.open_quotient / f0
    pulse = 1j * ratio / (1 - ratio**2 + 1j * ratio)
    return pulse / (1 + 1j * frequency / voice.tilt_hz)


def sing(voice: Voice, melody: Melody, samples: int, rate: int, rng: np.random.Generator) -> Wave:
    """Render a melody, (samples,): harmonics for the pulses, filtered noise for breath."""
    times = np.arange(samples) / rate * FRAMES
    frame = times.astype(int)
    phase = np.cumsum(np.interp(times, np.arange(len(melody.f0)), melody.f0)) * 2 * np.pi / rate
    count = int(0.49 * rate / melody.f0.min())
    frequency = np.arange(1, count + 1)[:, None] * melody.f0
    spectrum = tract_response(frequency, melody.formants, voice.damping) * melody.level
    spectrum *= glottal_source(frequency, melody.f0, voice)
    spectrum *= np.clip((0.49 * rate - frequency) / 300, 0, 1)  # none past Nyquist
    turn = np.exp(1j * phase).astype(np.complex64)
    rotation = np.ones_like(turn)
    weight = (times - frame).astype(np.float32)
    voiced = np.zeros(samples)
    for row in spectrum.astype(np.complex64):
        rotation *= turn
        slope = np.diff(row, append=row[-1:])
        voiced += ((row[frame] + weight * slope[frame]) * rotation).real
    puffs = rng.normal(size=samples) * (1 + 0.6 * np.cos(phase))  # breath comes with the pulses
    window = 4 * (rate // 250)  # 16 ms
    bins, at_s, noise = stft(puffs, rate, nperseg=window, noverlap=3 * window // 4)
    near = np.clip(np.round(at_s * FRAMES).astype(int), 0, len(melody.f0) - 1)
    grid = np.broadcast_to(bins[:, None], noise.shape)
    breath = np.abs(tract_response(grid, melody.formants[:, near], voice.damping))
    gain = voice.breath * breath * melody.level[near]
    for start_s, row in melody.consonants:
        centre, octaves, length_s, loud = CONSONANTS[row]
        hump = np.clip(1 - np.abs((at_s - start_s) / length_s - 0.5) * 2, 0, 1) ** 0.5
        away = np.log2(np.maximum(bins, 1) / (centre * voice.tract**0.5)) / octaves
        gain += loud * np.exp(-0.5 * away[:, None] ** 2) * hump
    _, unvoiced = istft(noise * gain, rate, nperseg=window, noverlap=3 * window // 4)
    return np.asarray(voiced + unvoiced[:samples], dtype=np.float64)
