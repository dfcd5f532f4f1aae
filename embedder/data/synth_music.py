"""How a synthesised song sounds: the singer's voice, and the album's band and production.

A voice is a source and a filter (Fant 1960). What a singer keeps from album to album is the voice:
tract length, glottal pulse, breath, vibrato, glide. Nothing of the band knows a voice: albums of
all singers are drawn alike. What both share is the key and the bars of a song (`Plan`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve, firwin2, istft, stft

Wave = NDArray[np.float64]

STREAMS = {"tracts": 0, "voice": 1, "album": 2, "plan": 3, "vocals": 4, "band": 5}
MAJOR = (0, 2, 4, 5, 7, 9, 11)
PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (1, 4, 0, 0), (0, 3, 0, 4), (5, 4, 3, 4))
DIRECT = 256  # tap of `Album.response` at which the direct sound stands
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


def generator(stream: str, *place: int) -> np.random.Generator:
    """A generator of its own for each stream and place, so that songs need not wait for others."""
    seed, *rest = place
    key = (STREAMS[stream], *rest, *(0,) * (3 - len(rest)))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@dataclass(frozen=True)
class Plan:
    """What the singer and the band of one song agree on."""

    key: int  # semitones above or below C
    bar_s: float
    bars: int


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


@dataclass(frozen=True)
class Album:
    """What the songs of an album share: band and production. Nothing of the singer."""

    tempo: float  # beats a minute
    progression: tuple[int, ...]  # degree of the scale in each bar
    rolloff: float  # partial k of the keys has amplitude k**-rolloff
    bass_rolloff: float
    attack_s: float
    decay_s: float
    detune: float  # ratio between the keys' two strings
    snare_s: float
    balance: float  # vocals to backing, amplitude ratio
    arpeggio: bool
    hits: NDArray[np.bool_]  # (8,) eighths on which the keys play
    kick: NDArray[np.bool_]  # (16,) sixteenths
    hat: NDArray[np.bool_]  # (16,)
    mixer: Wave  # (4,) gains of keys, bass, drums, noise floor
    response: Wave  # taps of the production: equaliser, low-pass and room in one filter


def draw_album(seed: int, singer: int, album: int, rate: int) -> Album:
    """Band and production of one album; the same distribution for every singer."""
    rng = generator("album", seed, singer, album)
    knots = (0, 80, 250, 700, 1600, 3300)  # Hz, where the equaliser is set; 3 dB up or down each
    cut = rng.uniform(0.55, 0.94) * 8000
    points = (*knots, 0.95 * cut, min(1.1 * cut, 0.49 * rate), rate / 2)
    tone = firwin2(2 * DIRECT + 1, points, (*10 ** (rng.normal(0, 0.15, 7)), 0, 0), fs=rate)
    room = rng.normal(size=round(rng.uniform(0.2, 1.2) * rate))
    room *= 10 ** (-3 * np.arange(len(room)) / len(room))  # its length is its reverberation time
    room *= np.sqrt(10 ** rng.uniform(-2.0, -0.5) / np.sum(room**2))  # -20 to -5 dB of the direct
    even = np.arange(16) % 2 == 0
    return Album(
        tempo=float(rng.uniform(88, 138)),
        progression=PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))],
        rolloff=float(rng.uniform(0.7, 2.2)),
        bass_rolloff=float(rng.uniform(1.0, 3.0)),
        attack_s=float(10 ** rng.uniform(-2.5, -1.0)),
        decay_s=float(10 ** rng.uniform(-0.7, 0.5)),
        detune=float(1 + rng.uniform(0, 0.008)),
        snare_s=float(rng.uniform(0.03, 0.12)),
        balance=float(10 ** (rng.uniform(0, 8) / 20)),
        arpeggio=bool(rng.random() < 0.5),
        hits=(rng.random(8) < 0.5) | (np.arange(8) == 0),
        kick=((rng.random(16) < 0.15) & even) | (np.arange(16) % 8 == 0),
        hat=(even | (rng.random(16) < 0.4)) & (rng.random(16) < 0.9),
        mixer=10 ** (rng.uniform((-3, -6, -12, -50), (3, 3, 0, -28)) / 20),
        response=fftconvolve(tone, np.concatenate([[1.0], room])),
    )


def _note(pitch: float, seconds: float, rolloff: float, album: Album, rate: int) -> Wave:
    """An instrument's note of at most 10 partials, mono, (samples,)."""
    time = np.arange(int(seconds * rate)) / rate
    f0 = 440 * 2 ** ((pitch - 69) / 12)
    partials = np.arange(1, min(10, int(0.45 * rate / f0)) + 1)[:, None]
    angles = (2 * np.pi * f0 * time * partials).astype(np.float32)
    waves = np.sin(angles) + np.sin(angles * np.float32(album.detune))
    envelope = (1 - np.exp(-time / album.attack_s)) * np.exp(-time / album.decay_s)
    fade = np.clip((seconds - time) / 0.02, 0, 1)
    return np.asarray((waves * partials**-rolloff).sum(0) * envelope * fade, dtype=np.float64)


def accompany(album: Album, plan: Plan, samples: int, rate: int, rng: np.random.Generator) -> Wave:
    """Play the album's band for one song: (samples,), unit RMS. Knows nothing of the singer."""
    keys, bass, drums = (np.zeros(samples + rate) for _ in range(3))

    def add(track: Wave, sound: Wave, bar: float, gain: float = 1.0) -> None:
        start = round(bar * plan.bar_s * rate)
        room = track[start : start + len(sound)]
        room += gain * sound[: len(room)]

    time = np.arange(rate // 4) / rate
    kick = np.sin(2 * np.pi * (50 * time + 4 * (1 - np.exp(-time / 0.03)))) * np.exp(-time / 0.08)
    snare = rng.normal(0, 0.5, len(time)) + np.sin(2 * np.pi * 190 * time)
    snare *= np.exp(-time / album.snare_s)
    hat = np.diff(rng.normal(0, 0.15, len(time)), n=2, append=(0, 0)) * np.exp(-time / 0.03)
    turn = int(rng.integers(len(album.progression)))
    order = rng.permutation(8)
    for bar in range(plan.bars):
        root = album.progression[(bar + turn) % len(album.progression)]
        steps = (root, root + 2, root + 4)
        chord = [60 + plan.key + MAJOR[s % 7] + 12 * (s // 7) for s in steps]
        for eighth in np.flatnonzero(album.hits | album.arpeggio):
            length = plan.bar_s * (0.25 if album.arpeggio else 0.5)
            for pitch in [chord[order[eighth] % 3]] if album.arpeggio else chord:
                note = _note(pitch, length, album.rolloff, album, rate)
                add(keys, note, bar + eighth / 8, rng.uniform(0.7, 1.0))
        for beat in (0, 2, 3) if rng.random() < 0.5 else (0, 2):
            note = _note(chord[0] - 24, plan.bar_s / 4, album.bass_rolloff, album, rate)
            add(bass, note, bar + beat / 4)
        for step in range(16):
            add(drums, kick, bar + step / 16, float(album.kick[step]))
            add(drums, snare, bar + step / 16, float(step in (4, 12)))
            add(drums, hat, bar + step / 16, float(album.hat[step]) * rng.uniform(0.6, 1.0))
    tracks = (keys, bass, drums, rng.normal(size=samples + rate))
    band = sum(g * t / rms(t) for g, t in zip(album.mixer, tracks, strict=True))
    return np.asarray(band[:samples] / rms(band[:samples]), dtype=np.float64)


def produce(stem: Wave, album: Album) -> NDArray[np.int16]:
    """Equalise, reverberate and quantise: unit RMS becomes -26 dB of full scale."""
    wave = 0.05 * fftconvolve(stem, album.response)[DIRECT : DIRECT + len(stem)]
    wave *= min(1.0, 0.49 / float(np.abs(wave).max()))
    return np.asarray(np.round(wave * 32767), dtype=np.int16)


def rms(wave: Wave) -> float:
    """Root of the mean square of `wave`, (samples,), in its own unit."""
    return float(np.sqrt(np.mean(wave**2)))
