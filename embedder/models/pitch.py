"""The sung pitch of any recording: harmonic summation, and the best path through it.

Every frame has a pitch; its strength says how far it can be trusted. The salience of a pitch is a
sum over its harmonics (Hermes, JASA 1988: subharmonic summation), the n-th weighing 0.8ⁿ⁻¹ (Salamon
& Gómez, IEEE TASLP 2012). As in the latter, low frequencies are first turned down: a band's bass is
louder than its singer. The magnitudes halfway between the harmonics count against a pitch, so that
the half of the true one loses (after Sun, ICASSP 2002). From frame to frame a pitch moves little,
so the result is the best path, not the best pitch of each frame.
"""

from __future__ import annotations

import math

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import SAMPLE_RATE

LOWEST, HIGHEST = 80.0, 1000.0  # Hz; E2, a bass's lowest note, to B5
STEP = 20.0  # cents between candidates
N_FFT = 2048  # samples per analysis window: harmonics of the lowest note stand apart
HARMONICS = 8
DECAY = 0.8  # weight of each harmonic to the one below it
BETWEEN = 0.3  # weight of what lies halfway below a harmonic, taken away
CORNER = 200.0  # Hz; magnitudes at f are multiplied by f / (f + CORNER)
WEIGHT = 0.7 / 512  # of a standard deviation of salience, for each sample between two frames
GLIDE = 70.0  # cents: moving this far costs one unit
REACH = 240.0  # cents: the longest glide from a frame to the next; anything beyond is a jump
JUMP = 12.0  # cost of a jump, however far
SILENCE = 1e-6  # spread of salience in a segment that has none


def candidates() -> Tensor:
    """The pitches that are distinguished, `(pitches,)` in Hz, 20 cents from each other."""
    count = 1 + math.floor(1200 / STEP * math.log2(HIGHEST / LOWEST))
    return LOWEST * 2 ** (torch.arange(count, dtype=torch.float64) * STEP / 1200)


def comb(pitches: Tensor) -> Tensor:
    """`pitches (pitches,)`, Hz → the weight of each bin in their salience, `(pitches, bins)`.

    Bins are interpolated linearly; harmonics above half the sample rate are left out.
    """
    bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64)
    weights = torch.zeros(len(pitches), len(bins), dtype=torch.float64)
    for harmonic in range(1, HARMONICS + 1):
        for place, share in ((harmonic, 1.0), (harmonic - 0.5, -BETWEEN)):
            positions = place * pitches[:, None] * N_FFT / SAMPLE_RATE
            triangle = (1 - (bins - positions).abs()).clamp(min=0)
            weights += share * DECAY ** (harmonic - 1) * triangle
    return weights


class Pitch(nn.Module):
    """The likeliest path of one sung pitch, `hop` samples between frames."""

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.weight = WEIGHT * hop
        self.reach = round(REACH / STEP)  # candidates
        self.spectrum = torchaudio.transforms.Spectrogram(n_fft=N_FFT, hop_length=hop, power=1.0)
        pitches = candidates()
        combs = comb(pitches)
        frequencies = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
        self.pitches: Tensor
        self.combs: Tensor
        self.emphasis: Tensor
        self.register_buffer("pitches", pitches.float(), persistent=False)
        self.register_buffer("combs", combs.float(), persistent=False)
        emphasis = frequencies / (frequencies + CORNER)
        self.register_buffer("emphasis", emphasis[:, None], persistent=False)

    @torch.no_grad()
    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """`wave (batch, samples)` → `f0` in Hz and `strength`, `(batch, 1 + samples // hop)` each.

        The strength is the cosine between the comb of the pitch and the spectrum, 0 where it is
        negative or where there is silence.
        """
        with torch.autocast(wave.device.type, enabled=False):
            return self.track(self.spectrum(wave.float()))

    @torch.no_grad()
    def track(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """The same from a spectrum `(batch, N_FFT // 2 + 1, frames)`, float32, that is there."""
        with torch.autocast(magnitude.device.type, enabled=False):
            magnitude = self.emphasis * magnitude
            salience = self.combs @ magnitude  # (batch, pitches, frames)
            spread = salience.std(dim=(1, 2), keepdim=True, correction=0).clamp(min=SILENCE)
            path = self.path(self.weight * salience / spread)
            chosen = salience.gather(1, path.unsqueeze(1)).squeeze(1)
            norms = torch.linalg.vector_norm(self.combs, dim=1)[path]
            norms = norms * torch.linalg.vector_norm(magnitude, dim=1)
            strength = (chosen / norms.clamp(min=SILENCE)).clamp(min=0)
            return self.pitches[path], strength

    def path(self, score: Tensor) -> Tensor:
        """`score (batch, pitches, frames)` → the best path `(batch, frames)`, as indices.

        It maximises the sum of its scores less what it costs to move (Viterbi 1967).
        """
        _, pitches, frames = score.shape
        moves = torch.arange(-self.reach, self.reach + 1, device=score.device)
        costs = moves.abs() * (STEP / GLIDE)
        here = torch.arange(pitches, device=score.device)
        best = score[:, :, 0]
        arrivals = []
        for frame in range(1, frames):
            around = functional.pad(best, (self.reach, self.reach), value=-math.inf)
            glide, move = (around.unfold(1, len(moves), 1) - costs).max(dim=2)
            top, origin = best.max(dim=1, keepdim=True)
            jumps = top - JUMP > glide
            arrivals.append(torch.where(jumps, origin, here + moves[move]))
            best = torch.where(jumps, top - JUMP, glide) + score[:, :, frame]
        place = best.argmax(dim=1, keepdim=True)
        path = [place]
        for arrival in reversed(arrivals):
            place = arrival.gather(1, place)
            path.append(place)
        return torch.cat(path[::-1], dim=1)
