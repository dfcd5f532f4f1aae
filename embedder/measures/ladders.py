"""Which degradations songs are given, and how much of each: names, units and levels.

Nothing is computed here, so that a page can name what `degradations.py` does without loading it.
The kinds are those of the audio degradation toolbox (Mauch & Ewert, ISMIR 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

SONGS = 40  # that are degraded, if nothing else is asked for
SECONDS = 10.0  # heard of each of them, where someone sings
EXCERPT = "excerpt"
FULL = 0.0  # level of `EXCERPT` that leaves the song whole


@dataclass(frozen=True)
class Ladder:
    """One kind of degradation and its levels."""

    title: str
    says: str  # what a level's number is, with its unit
    levels: tuple[float, ...]  # from mild to harsh; ascending where there is a `neutral`
    neutral: float | None = None  # the level between the others that changes nothing

    def text(self, level: float) -> str:
        """A level as people read it, without its unit."""
        if self is LADDERS[EXCERPT] and level == FULL:
            return "full"
        text = f"{level:+g}" if self.neutral == 0 else f"{level:g}"
        return text.replace("-", "−")


LADDERS: dict[str, Ladder] = {
    EXCERPT: Ladder("Excerpt", "length, s", (FULL, 30.0, 10.0, 5.0, 3.0, 1.0)),
    "noise": Ladder("White noise", "signal-to-noise ratio, dB", (30.0, 20.0, 10.0, 0.0)),
    "mp3": Ladder("Mp3", "bitrate, kbit/s", (48.0, 32.0, 16.0, 8.0)),
    "low_pass": Ladder("Low-pass", "cutoff, Hz", (4000.0, 2000.0, 1000.0, 500.0)),
    "clipping": Ladder("Clipping", "samples clipped, %", (2.0, 10.0, 20.0, 40.0)),
    "reverb": Ladder("Reverberation", "RT60, s", (0.3, 0.6, 1.2, 2.4)),
    "gain": Ladder("Gain", "louder by, dB", (-40.0, -20.0, 10.0, 20.0), 0.0),
    "speed": Ladder(
        "Speed", "times as fast, pitch moves along", (0.8, 0.9, 0.95, 1.05, 1.1, 1.25), 1.0
    ),
    "pitch": Ladder("Pitch", "shift, semitones", (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0), 0.0),
    "tempo": Ladder("Tempo", "times as fast, pitch stays", (0.7, 0.85, 1.15, 1.4), 1.0),
}


def steps() -> list[tuple[str, float]]:
    """Every (degradation, level), in the order of the ladders."""
    return [(name, level) for name, ladder in LADDERS.items() for level in ladder.levels]
