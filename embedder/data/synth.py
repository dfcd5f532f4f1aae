"""A small set of synthesised singers, albums and songs, with stems: the demo's built-in data.

`synthesise` writes `mix/`, `vocals/` and `backing/`, each holding
`<singer>/<NN-Album>/<NN-Song>.flac` (mono, 16 bit), where mix = vocals + backing sample by sample.

What a singer keeps from album to album is the voice (`synth_music`). What an album's songs share is
the band and the production, drawn without regard to the singer, so that only the voice tells
singers apart on a new album, while the album effect is there to be fallen for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from embedder.artifact import read_json, replacing, write_json
from embedder.data.synth_music import (
    FRAMES,
    Plan,
    Voice,
    accompany,
    compose,
    draw_album,
    draw_voice,
    generator,
    produce,
    rms,
    sing,
)
from embedder.errors import UserError

Place = tuple[int, int, int, int]  # seed, singer, album, song

SOUND = 1  # raised whenever the same settings would sound different, in any of the three files
STEMS = ("vocals", "backing", "mix")  # mix last: where it stands, its stems stand too
# Pairs of words from lists of 8 and 7: walking both at once repeats a pair only after 56.
FIRST = ("mira", "tovin", "elka", "joran", "sanne", "ruben", "ylva", "dario")
LAST = ("ashgrove", "velmar", "tarrow", "okabel", "ferrane", "holmwick", "soriel")
ADJECTIVES = ("Quiet", "Lonely", "Golden", "Broken", "Distant", "Silver", "Restless", "Paper")
NOUNS = ("Harbour", "Highway", "Morning", "Ashes", "Garden", "Signals", "River")


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
