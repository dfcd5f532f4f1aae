"""Timbre and mid-level features beside a CRNN (Zhang, Wang, Cheng, Xiao: IJCNN 2022).

The front end `Descriptors` gives mel bands with 66 rows of descriptors below them. In the backbone,
as in the paper, what the convolutions make of the mels is first joined with timbre, then, after the
recurrent layer, with mid-level features: what a listener would say of a piece of music, the seven
of Aljanaki & Soleymani (A data-driven approach to mid-level perceptual musical feature modeling,
ISMIR 2018). The paper's come from a network trained on people's ratings. Here seven are formulas
that stand for what people were asked, and 25 more are learnt from the rows of music together with
the rest.
"""

from __future__ import annotations

import math

import torch
import torchaudio
from torch import Tensor, nn

from embedder.config import SAMPLE_RATE, FeatureConfig, ModelConfig
from embedder.models.crnn import (
    CHANNELS,
    HIDDEN,
    POOLS,
    bands_left,
    convolutions,
    recurrence,
    steps_of,
)
from embedder.models.frontends import LogMel, one_level
from embedder.models.pitch import N_FFT, Pitch
from embedder.models.pooling import Statistics
from embedder.models.zoo.descriptors import (
    CONTRAST_ROWS,
    HARMONIC_ROWS,
    SHAPE_ROWS,
    Harmony,
    harmonic_levels,
    octaves,
    onsets,
    spectral_contrast,
    spectral_shape,
    zero_crossings,
)

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

CEPSTRA = 20  # cepstral coefficients, without the first, which is the frame's level
TIMBRE_ROWS = SHAPE_ROWS + CONTRAST_ROWS + HARMONIC_ROWS + 1 + CEPSTRA
MUSIC_ROWS = 12 + 4  # chroma; onsets, dissonance, pitch and its strength
MID_LEVEL_ROWS = len(MID_LEVEL)

TIMBRE = 64  # numbers on timbre in each step
MUSIC_CHANNELS = 64
LEARNT = 32 - MID_LEVEL_ROWS  # mid-level features that have no formula
FRAMES_PER_STEP = math.prod(pool for _, pool in POOLS)  # frames of one step of the recurrent layer
OUTLIER = 4.0  # standard deviations beyond which a descriptor is cut


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


class Descriptors(nn.Module):
    """Mels, then timbre (`TIMBRE_ROWS`), music (`MUSIC_ROWS`), mid-level (`MID_LEVEL_ROWS`)."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.hop = config.hop
        self.mel_rows = config.n_mels
        self.rows = config.n_mels + TIMBRE_ROWS + MUSIC_ROWS + MID_LEVEL_ROWS
        self.mel = LogMel(config)
        self.pitch = Pitch(config.hop)
        self.harmony = Harmony(N_FFT // 2 + 1)
        dct = torchaudio.functional.create_dct(CEPSTRA + 1, config.n_mels, norm="ortho")[:, 1:]
        self.dct: Tensor
        self.register_buffer("dct", dct.T.contiguous(), persistent=False)  # (CEPSTRA, mels)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `(batch, mels + 66, 1 + samples // hop)`, float32."""
        with torch.autocast(wave.device.type, enabled=False):
            mel = self.mel(wave)
            wave = one_level(wave.float())
            magnitude = self.pitch.spectrum(wave)
            f0, strength = self.pitch.track(magnitude)
            chroma, dissonance = self.harmony(magnitude)
            flux = onsets(mel)
            crop = mid_level(chroma, flux, dissonance, f0, strength, self.hop)
            rows = [
                mel,
                spectral_shape(magnitude),
                spectral_contrast(magnitude),
                harmonic_levels(magnitude, f0),
                zero_crossings(wave, N_FFT, self.hop).unsqueeze(1),
                self.dct @ mel,
                chroma,
                torch.stack([flux, dissonance, octaves(f0), strength], dim=1),
                crop.unsqueeze(2).expand(-1, -1, mel.shape[2]),
            ]
            return torch.cat(rows, dim=1)


class Standard(nn.Module):
    """Rows at mean 0 and standard deviation 1 over the training, and cut at four deviations.

    Some descriptors are ratios with little below the line; single frames must not outweigh a crop.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(rows, affine=False)

    def forward(self, rows: Tensor) -> Tensor:
        """`rows (batch, rows)` or `(batch, rows, frames)` → the same shape, in [−4, 4]."""
        normed: Tensor = self.norm(rows.float())
        return normed.clamp(-OUTLIER, OUTLIER)


class MidLevel(nn.Module):
    """The CRNN with timbre beside its steps and mid-level features beside its last state."""

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.parts = (features.n_mels, TIMBRE_ROWS, MUSIC_ROWS, MID_LEVEL_ROWS)
        self.norm = nn.BatchNorm1d(features.n_mels)
        self.blocks = convolutions()
        self.timbre_norm = Standard(TIMBRE_ROWS)
        self.timbre = nn.Sequential(nn.Linear(2 * TIMBRE_ROWS, TIMBRE), nn.ELU())
        self.gru = recurrence(CHANNELS[-1] * bands_left(features.n_mels) + TIMBRE)
        self.music = nn.Sequential(
            Standard(MUSIC_ROWS),
            nn.Conv1d(MUSIC_ROWS, MUSIC_CHANNELS, 5, padding=2),
            nn.ELU(),
            nn.BatchNorm1d(MUSIC_CHANNELS),
            nn.Conv1d(MUSIC_CHANNELS, MUSIC_CHANNELS, 5, padding=2),
            nn.ELU(),
            nn.BatchNorm1d(MUSIC_CHANNELS),
            Statistics(),
            nn.Linear(2 * MUSIC_CHANNELS, LEARNT),
        )
        self.mid_level_norm = Standard(MID_LEVEL_ROWS)
        self.dropout = nn.Dropout(0.3)
        self.output_dim = HIDDEN + LEARNT + MID_LEVEL_ROWS

    def forward(self, rows: Tensor) -> Tensor:
        """`rows (batch, mels + 66, frames)` → `(batch, 64)`; needs 16 frames or more."""
        mel, timbre, music, mid_level = torch.split(rows, list(self.parts), dim=1)
        frames = steps_of(self.blocks(self.norm(mel).unsqueeze(1)))
        states, _ = self.gru(torch.cat([frames, self.timbre(self.of_steps(timbre))], dim=2))
        learnt, computed = self.music(music), self.mid_level_norm(mid_level[:, :, 0])
        joined: Tensor = self.dropout(torch.cat([states[:, -1], learnt, computed], dim=1))
        return joined

    def of_steps(self, timbre: Tensor) -> Tensor:
        """`timbre (batch, rows, frames)` → `(batch, frames // 16, 2·rows)`: means, deviations."""
        steps = timbre.shape[2] // FRAMES_PER_STEP
        frames = self.timbre_norm(timbre)[:, :, : steps * FRAMES_PER_STEP].unflatten(
            2, (steps, FRAMES_PER_STEP)
        )
        spread = frames.std(dim=3, correction=0)
        return torch.cat([frames.mean(dim=3), spread], dim=1).transpose(1, 2)
