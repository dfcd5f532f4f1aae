"""What a listener would say of a piece of music, as far as it can be computed: mid-level features.

Enters: rows of a crop, `(batch, …, frames)` float32: chroma, onsets, dissonance, pitch. Leaves:
`(batch, 7)`, the seven features of Aljanaki & Soleymani (A data-driven approach to mid-level
perceptual musical feature modeling, ISMIR 2018). They had people's ratings; here each is a formula
that stands for what was asked.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from embedder.config import SAMPLE_RATE

MID_LEVEL = (
    "melodiousness",
    "articulation",
    "rhythmic complexity",
    "rhythmic stability",
    "dissonance",
    "tonal stability",
    "minorness",
)
STEP_CENTS = 200.0  # a whole tone: a melody that can be sung along moves mostly by such steps
RHYTHM_HZ = (0.5, 10.0)  # from a slow beat to the fastest notes
BEAT_S = (0.2, 1.5)  # from one beat to the next
# Krumhansl, Cognitive foundations of musical pitch (1990): how well each pitch class fits C.
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
SMALL = 1e-6  # keeps silence from dividing by 0


def mid_level(
    chroma: Tensor, onsets: Tensor, dissonance: Tensor, f0: Tensor, strength: Tensor, hop: int
) -> Tensor:
    """The seven numbers of each crop, `(batch, 7)`, in the order of `MID_LEVEL`.

    `chroma (batch, 12, frames)`; all else `(batch, frames)`: `onsets` in nepers, 0 or more,
    `dissonance` 0 or more, `f0` in Hz, `strength` in [0, 1]; `hop` samples between frames.
    """
    rate = SAMPLE_RATE / hop
    complexity, stability = rhythm(onsets, rate)
    tonality, minorness = key(chroma.mean(dim=2))
    return torch.stack(
        [
            melodiousness(f0, strength),
            torch.log(rate * onsets.mean(dim=1) + SMALL),  # staccato strikes more often and harder
            complexity,
            stability,
            dissonance.mean(dim=1),
            tonality,
            minorness,
        ],
        dim=1,
    )


def melodiousness(f0: Tensor, strength: Tensor) -> Tensor:
    """How clear the pitch is where it moves by a whole tone at most, mean over all frames."""
    cents = 1200 * (f0[:, 1:] / f0[:, :-1]).log2().abs()
    clear = torch.minimum(strength[:, 1:], strength[:, :-1])
    return (clear * (cents <= STEP_CENTS)).mean(dim=1)


def rhythm(onsets: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """`onsets (batch, frames)`, `rate` frames a second → complexity and stability, `(batch,)`.

    Complexity: entropy of the onsets' modulation spectrum from 0.5 to 10 Hz, 1 where all rates are
    equally strong. Stability: the highest autocorrelation from one beat to the next (the pulse
    clarity of Lartillot, Eerola, Toiviainen, Fornari: ISMIR 2008).
    """
    frames = onsets.shape[1]
    centred = onsets - onsets.mean(dim=1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * frames).abs().square()
    rates = torch.arange(frames + 1, device=onsets.device) * rate / (2 * frames)
    inside = spectrum[:, (rates >= RHYTHM_HZ[0]) & (rates <= RHYTHM_HZ[1])] + SMALL**2
    share = inside / inside.sum(dim=1, keepdim=True)
    complexity = -(share * share.log()).sum(dim=1) / math.log(share.shape[1])
    correlation = torch.fft.irfft(spectrum, 2 * frames)
    first, last = (min(frames - 1, max(1, round(beat * rate))) for beat in BEAT_S)
    beats = correlation[:, first : last + 1].amax(dim=1)
    return complexity, beats / (correlation[:, 0] + SMALL**2)


def key(chroma: Tensor) -> tuple[Tensor, Tensor]:
    """`chroma (batch, 12)` of a whole crop → tonal stability and minorness, `(batch,)` each.

    Correlation with the profiles of all 24 keys (Krumhansl 1990; key strength and mode of Lartillot
    & Toiviainen's MIR toolbox): the best of all, and the best minor's less the best major's.
    """

    def best(profile: tuple[float, ...]) -> Tensor:
        row = torch.tensor(profile, device=chroma.device)
        keys = torch.stack([row.roll(tonic) for tonic in range(12)])
        return (_standard(chroma) @ _standard(keys).T).amax(dim=1)

    major, minor = best(MAJOR), best(MINOR)
    return torch.maximum(major, minor), minor - major


def _standard(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(dim=1, keepdim=True)
    length: Tensor = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    return centred / length.clamp(min=SMALL)
