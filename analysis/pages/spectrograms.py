"""The spectrograms page: three seconds of each singer, mixture and vocals side by side.

With players of the same three seconds where pages may carry them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.excerpts import Excerpt, Wanted, excerpts
from analysis.page import escape, page
from analysis.run_data import RunData, song_title
from embedder.catalogue import read_catalogue
from embedder.errors import Command, UserError
from embedder.measures.records import (
    MEASURE_SPECTROGRAMS,
    SECONDS,
    SPECTROGRAMS_FILE,
    Spectrograms,
    read_spectrograms,
)
from embedder.run import Run

TICKS = ((200, "200 Hz"), (1000, "1 kHz"), (2000, "2 kHz"), (4000, "4 kHz"))
TITLE = "Spectrograms: the members' input"


def spectrograms_finding(found: Spectrograms) -> str:
    """How much of the mixture's picture is the voice's, in a sentence with its numbers."""
    with_stem = [row for row, (_, vocals) in enumerate(found.keys) if vocals]
    what = f"{SECONDS} seconds of each of {len(found.singers)} singers"
    if len(found.singers) == 1:
        what = f"{SECONDS} seconds of {found.singers[0]}"
    if not with_stem:
        return (
            f"{what} as members get them; there are no vocal stems to set beside the mixtures, "
            f"and this makes them: {Command('separate', method='hdemucs')}"
        )
    alike = {row: _correlation(found, row) for row in with_stem}
    mean = float(np.mean(list(alike.values())))
    least, most = min(alike, key=lambda row: alike[row]), max(alike, key=lambda row: alike[row])
    spread = (
        f", from {alike[least]:.2f} ({found.singers[least]}) to {alike[most]:.2f} "
        f"({found.singers[most]})"
        if len(alike) > 1
        else ""
    )
    whom = "on average" if len(alike) > 1 else f"for {found.singers[least]}"
    return (
        f"{what}: the levels of mixture and vocals correlate with r = {mean:.2f} {whom}{spread}; "
        "what the mixture shows beyond the vocals is the band."
    )


def _correlation(found: Spectrograms, row: int) -> float:
    """Pearson's r between the levels, dB, of a singer's mixture and vocals; 0 for a flat one."""
    pair = [one[row].ravel().astype(np.float64) for one in (found.mixture, found.vocals)]
    if any(one.std() == 0 for one in pair):
        return 0.0
    return float(np.corrcoef(*pair)[0, 1])


def spectrograms_page(run_data: RunData) -> str:
    """The text of `spectrograms.html`."""
    try:
        found = read_spectrograms(run_data.run)
        why = "" if found else f"The spectrograms are not drawn; {MEASURE_SPECTROGRAMS}"
    except UserError as error:
        found, why = None, str(error)
    if found is None:
        return page("spectrograms.html", TITLE, f'<p id="finding">{escape(why)}</p>')
    low, high = found.low_db, found.low_db + 255 * found.step_db
    colours = palette()
    stops = ",".join(
        "#" + "".join(f"{part:02x}" for part in colours[3 * place : 3 * place + 3])
        for place in range(0, 256, 51)
    )
    players = _players(run_data.run, found) if run_data.with_audio else {}
    cards = "".join(_card(found, row, colours, players) for row in range(len(found.singers)))
    old = _old(run_data.run, found)
    body = f"""<p id="finding">{escape(spectrograms_finding(found))}</p>
<p class="soft">Power of {len(found.hertz)} mel bands every {1000 * found.hop_s:g} ms, after each
recording is brought to one level and before each band's mean is taken away. One training song a
singer, from the second on from which most is sung.{" " + escape(old) if old else ""}</p>
<div style="max-width:300px"><div class="scale" style="background:linear-gradient(90deg,{stops})">
</div><div class="ends"><span>{_db(low)}</span><span>{_db(high)}</span></div></div>
{cards}"""
    return page(
        "spectrograms.html",
        TITLE,
        body,
        note=f"Drawn from {SPECTROGRAMS_FILE} of the run's measures.",
    )


def _db(level: float) -> str:
    return f"{level:.0f} dB".replace("-", "−")


def _old(run: Run, found: Spectrograms) -> str:
    """What to do about songs that have changed since they were drawn."""
    songs = {song.id: (song.audio, song.vocals) for song in read_catalogue(run.catalogue).songs}
    changed = sum(
        songs.get(song) != keys for song, keys in zip(found.songs, found.keys, strict=True)
    )
    return f"{changed} of the songs have changed since; {MEASURE_SPECTROGRAMS}" if changed else ""


def _card(
    found: Spectrograms, row: int, colours: list[int], players: dict[tuple[int, str], Excerpt]
) -> str:
    singer, song, start = found.singers[row], found.songs[row], found.starts_s[row]
    parts = [("mixture", found.mixture)]
    if found.keys[row][1]:
        parts.append(("vocals", found.vocals))
    figures = ""
    for name, pictures in parts:
        ticks = "".join(
            f'<span style="bottom:{100 * height(hertz, found.hertz):.1f}%">{label}</span>'
            for hertz, label in TICKS
        )
        alt = f"Log-mel spectrogram of {SECONDS} s of {singer}: {name}"
        player = players.get((row, name))
        audio = (
            f'<audio controls preload="none" src="{escape(player.source)}"></audio>'
            if player
            else ""
        )
        figures += (
            f'<figure class="mel"><figcaption>{name}</figcaption><div class="image">{ticks}'
            f'<img alt="{escape(alt)}" src="{picture(pictures[row], colours)}"></div>'
            f'<div class="ends"><span>{start} s</span><span>{start + SECONDS} s</span></div>'
            f"{audio}</figure>"
        )
    missing = "" if found.keys[row][1] else " (no vocal stem)"
    return (
        f'<section class="singer-mels"><h2>{escape(singer)}</h2>'
        f'<p class="soft">{escape(song_title(song) + missing)}</p>'
        f'<div class="mels">{figures}</div></section>'
    )


def _players(run: Run, found: Spectrograms) -> dict[tuple[int, str], Excerpt]:
    """(singer's row, "mixture" or "vocals") → the three seconds, where they can be cut."""
    places = []
    for row, keys in enumerate(found.keys):
        for name, key in zip(("mixture", "vocals"), keys, strict=True):
            # The decoded recording alone: where a stem's file lies is written down nowhere.
            if key and run.decoded(key).is_file():
                wanted = Wanted(run.decoded(key), key, found.starts_s[row], SECONDS)
                places.append(((row, name), wanted))
    cut = excerpts(run, [wanted for _, wanted in places])
    return {place: excerpt for (place, _), excerpt in zip(places, cut, strict=True) if excerpt}


COLOURS = "magma"  # of matplotlib: as bright as it is loud, also to the colour-blind


def palette() -> list[int]:
    """256 colours as red, green, blue, 0 to 255 each, quietest first."""
    from matplotlib import colormaps

    table = colormaps[COLOURS](np.arange(256))[:, :3]
    return [int(one) for one in np.asarray(table * 255).round().ravel()]


def picture(levels: NDArray[np.uint8], colours: Sequence[int]) -> str:
    """A `data:` address of the picture of `levels (mels, frames)`, the lowest band at the foot."""
    from PIL import Image

    mels, frames = levels.shape
    image = Image.frombytes("P", (frames, mels), np.ascontiguousarray(levels[::-1]).tobytes())
    image.putpalette(list(colours))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def height(hertz: float, centres: Sequence[float]) -> float:
    """How far up a picture with bands around `centres`, Hz, a frequency lies: 0 foot, 1 top."""
    places = (np.arange(len(centres)) + 0.5) / len(centres)
    return float(np.interp(hertz, centres, places))
