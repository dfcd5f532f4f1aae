"""A small set of synthesised singers, albums and songs, with stems: the demo's built-in data.

`synthesise` writes `mix/`, `vocals/` and `backing/`, each holding
`<singer>/<NN-Album>/<NN-Song>.flac` (mono, 16 bit), where mix = vocals + backing sample by sample.

What a singer keeps from album to album is the voice (`synth_voice`). What an album's songs share is
the band and the production, drawn without regard to the singer, so that only the voice tells
singers apart on a new album, while the album effect is there to be fallen for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import fftconvolve, firwin2

from embedder.artifact import read_json, replacing, write_json
from embedder.data.synth_voice import FRAMES, Voice, compose, draw_voice, sing
from embedder.errors import UserError

Place = tuple[int, int, int, int]  # seed, singer, album, song
SOUND = 1  # raised whenever the same settings would sound different, in any of the three files
STEMS = ("vocals", "backing", "mix")  # mix last: where it stands, its stems stand too
# Pairs of words from lists of 8 and 7: walking both at once repeats a pair only after 56.
FIRST = ("mira", "tovin", "elka", "joran", "sanne", "ruben", "ylva", "dario")
LAST = ("ashgrove", "velmar", "tarrow", "okabel", "ferrane", "holmwick", "soriel")
ADJECTIVES = ("Quiet", "Lonely", "Golden", "Broken", "Distant", "Silver", "Restless", "Paper")
NOUNS = ("Harbour", "Highway", "Morning", "Ashes", "Garden", "Signals", "River")
STREAMS = {"tracts": 0, "voice": 1, "album": 2, "plan": 3, "vocals": 4, "band": 5}
MAJOR = (0, 2, 4, 5, 7, 9, 11)
PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (1, 4, 0, 0), (0, 3, 0, 4), (5, 4, 3, 4))
DIRECT = 256  # tap of `Album.response` at which the direct sound stands
Wave = NDArray[np.float64]


def synthesise(
    folder: Path,
    seed: int = 0,
    singers: int = 6,
    albums: int = 4,
    songs: int = 3,
    seconds: float = 12.0,
    rate: int = 16000,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write the set below `folder` and return `folder / "mix"`, ready for `prepare --data_dir`.

    `seconds` per song, at least 6; `rate` in Hz; `progress(done, total)` is called after each song.
    Interrupted and called again, it goes on with the songs that are missing. Raises `UserError` if
    `folder` holds anything else, a set of other settings included; `ValueError` on sizes.
    """
    if not (1 <= singers <= 56 and 1 <= albums <= 99 and 1 <= songs <= 99):
        raise ValueError("singers must lie in 1 to 56, albums and songs in 1 to 99")
    if seed < 0 or not 6.0 <= seconds <= 600.0 or not 16000 <= rate <= 48000:
        raise ValueError("seed must be 0 or more, seconds in 6 to 600, rate in 16000 to 48000 Hz")
    sizes = {"singers": singers, "albums": albums, "songs": songs}
    made_from = {"sound": SOUND, "seed": seed, **sizes, "seconds": float(seconds), "rate": rate}
    marker = folder / "synth.json"
    if marker.is_file():
        if read_json(marker) != made_from:
            raise UserError(f"{folder} holds synthesised songs of other settings; delete it first")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; choose a new one for synthesised songs")
    write_json(marker, made_from)  # first, so that an interrupted set is known as one
    missing = [
        place
        for place in np.ndindex(singers, albums, songs)
        if not all((folder / stem / song_path(*place)).is_file() for stem in STEMS)
    ]
    if missing:
        for leftover in folder.rglob(".*.flac.*"):  # temporary files of a killed run
            leftover.unlink()
    total = singers * albums * songs
    for done, (singer, album, song) in enumerate(missing, total - len(missing) + 1):
        voice = draw_voice(seed, singer)
        vocals, backing = render(voice, (seed, singer, album, song), seconds, rate)
        for stem, wave in zip(STEMS, (vocals, backing, vocals + backing), strict=True):
            with replacing(folder / stem / song_path(singer, album, song)) as temporary:
                soundfile.write(temporary, wave, rate, format="FLAC", subtype="PCM_16")
        if progress is not None:
            progress(done, total)
    return folder / "mix"


def song_path(singer: int, album: int, song: int) -> Path:
    """The path of a song below `mix/`, `vocals/` or `backing/`; places count from 0."""
    folder = f"{album + 1:02d}-{_title(5 * singer + album)}"
    file = f"{song + 1:02d}-{_title(7 * singer + 11 * album + song + 30)}.flac"
    return Path(f"{FIRST[singer % 8]}_{LAST[singer % 7]}", folder, file)


def _title(number: int) -> str:
    return f"{ADJECTIVES[number % 8]}_{NOUNS[number % 7]}"


def render(
    voice: Voice, place: Place, seconds: float, rate: int
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Vocals and backing of the song at `place` as `voice` sings it, (samples,) int16 each.

    Each keeps to half of the range, so that their sum never clips.
    """
    seed, singer, number, _ = place
    samples = round(seconds * rate)
    album = draw_album(seed, singer, number, rate)
    bar_s = 240 / album.tempo
    key = int(generator("plan", *place).integers(-6, 6))
    plan = Plan(key, bar_s, int(np.ceil(seconds / bar_s)))
    rng = generator("vocals", *place)
    melody = compose(voice, plan, rng)
    vocals = sing(voice, melody, samples, rate, rng)
    sung = melody.level[(np.arange(samples) / rate * FRAMES).astype(int)] > 0.1
    vocals *= album.balance / rms(vocals[sung])
    backing = accompany(album, plan, samples, rate, generator("band", *place))
    return produce(vocals, album), produce(backing, album)


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
