"""The i-vector of Dehak et al. (IEEE TASLP 19(4), 2011) over cepstra as a network.

The projection behind it holds the linear discriminant analysis. `total_variability` fits it all.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import FeatureConfig, ModelConfig
from embedder.models.frontends import LogMel

CEPSTRA = 20  # coefficients of the cosine transform, the level of the frame among them
SLOPE_FRAMES = 5  # over which a slope is fitted


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients with first and second slopes (Davis & Mermelstein 1980).

    The orthonormal cosine transform (type II) of the log-mel spectrogram, and least-squares slopes
    over five frames (Furui 1981). With `mel_norm` "mean" each band's mean over the segment is gone,
    which is cepstral mean subtraction.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.rows, self.mel_rows = 3 * CEPSTRA, 0
        self.mel = LogMel(config)
        dct = torchaudio.functional.create_dct(CEPSTRA, config.n_mels, norm="ortho")
        self.register_buffer("dct", dct, persistent=False)  # (mels, CEPSTRA)
        self.dct: Tensor

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `cepstra (batch, 60, 1 + samples // hop)`, float32."""
        with torch.autocast(wave.device.type, enabled=False):
            cepstra = torch.matmul(self.dct.T, self.mel(wave))
            slopes = torchaudio.functional.compute_deltas(cepstra, SLOPE_FRAMES)
            bends = torchaudio.functional.compute_deltas(slopes, SLOPE_FRAMES)
            return torch.cat([cepstra, slopes, bends], dim=1)


class IVector(nn.Module):
    """Posterior mean of a segment's place in the total variability space, whitened, of length 1.

    A Gaussian mixture with diagonal covariances Σ (the universal background model, UBM) models all
    frames. A segment shifts the stacked means: M = m + T·w (eq. 2), w standard normal. T is kept
    divided by the mixture's deviations, as are the statistics, so Σ appears nowhere below.
    Everything is a buffer: nothing here learns by gradient.
    """

    fits_buffers = True  # for `count_parameters`

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        rows, components, dim = 3 * CEPSTRA, model.ivector_components, model.ivector_dim
        self.output_dim = dim
        shapes = {
            "feature_mean": torch.zeros(rows),
            "feature_deviation": torch.ones(rows),
            "weights": torch.full((components,), 1 / components),
            "means": torch.randn(components, rows),  # of the UBM, over standardised cepstra
            "variances": torch.ones(components, rows),
            "variability": 0.1 * torch.randn(components, rows, dim),  # Σ^(−1/2)·T
            "centre": torch.zeros(dim),
            "whitening": torch.eye(dim),
        }
        for name, value in shapes.items():
            self.register_buffer(name, value)
        self.feature_mean: Tensor
        self.feature_deviation: Tensor
        self.weights: Tensor
        self.means: Tensor
        self.variances: Tensor
        self.variability: Tensor
        self.centre: Tensor
        self.whitening: Tensor

    def standardised(self, cepstra: Tensor) -> Tensor:
        """`cepstra (batch, rows, frames)` → what the UBM takes, `(batch, frames, rows)`."""
        frames = cepstra.transpose(1, 2)
        return (frames - self.feature_mean) / self.feature_deviation

    def statistics(self, cepstra: Tensor) -> tuple[Tensor, Tensor]:
        """Baum-Welch statistics (eqs. 3 and 5): each component's share of the frames.

        `cepstra (batch, rows, frames)` → `counts (batch, components)`, the sum of its posteriors
        over the frames, and `shifts (batch, components, rows)`, the sum of posteriors times
        (frame − mean) / deviation.
        """
        frames = self.standardised(cepstra)
        precisions = 1 / self.variances
        constant = self.weights.log() + 0.5 * (
            precisions.log().sum(dim=1) - (self.means.square() * precisions).sum(dim=1)
        )
        linear = frames @ (self.means * precisions).T
        square = frames.square() @ precisions.T
        posteriors = torch.softmax(constant + linear - 0.5 * square, dim=2)
        counts = posteriors.sum(dim=1)
        sums = posteriors.transpose(1, 2) @ frames
        shifts = (sums - counts.unsqueeze(2) * self.means) * precisions.sqrt()
        return counts, shifts

    def posterior_mean(self, counts: Tensor, shifts: Tensor) -> Tensor:
        """w = (I + TᵗΣ⁻¹N·T)⁻¹·TᵗΣ⁻¹F (eq. 6), `(batch, dim)`, from `statistics`."""
        components, rows, dim = self.variability.shape
        squares = self.variability.transpose(1, 2) @ self.variability
        identity = torch.eye(dim, device=counts.device)
        precision = identity + (counts @ squares.flatten(1)).view(-1, dim, dim)
        pulled = shifts.flatten(1) @ self.variability.reshape(components * rows, dim)
        factor = torch.linalg.cholesky(precision)
        return torch.cholesky_solve(pulled.unsqueeze(2), factor).squeeze(2)

    def whitened(self, ivector: Tensor) -> Tensor:
        """Whitened and brought to length 1 (Garcia-Romero & Espy-Wilson, Interspeech 2011, 3.1)."""
        return functional.normalize((ivector - self.centre) @ self.whitening.T, dim=1)

    def forward(self, cepstra: Tensor) -> Tensor:
        """`cepstra (batch, rows, frames)` → `(batch, ivector_dim)`, float32, of length 1."""
        with torch.autocast(cepstra.device.type, enabled=False):
            return self.whitened(self.posterior_mean(*self.statistics(cepstra.float())))
