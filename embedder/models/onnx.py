"""A network in operations that ONNX has, for any batch and any length, from the same weights.

`portable` gives a copy of a `Network` in which some modules have a double that gives the same
numbers: spectrograms and the separator as plain convolutions, without a Fourier transform or a
complex number, attention and pooling without fixed sizes. Slower in torch, but any ONNX runtime has
the operations. `ARCHITECTURES` says which networks have no such copy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.transforms import Spectrogram

from embedder.models.frontends import LEVEL, SILENCE
from embedder.models.network import Network
from embedder.models.separators.vocal_separator import MIN_MAGNITUDE, POWER, VocalSeparator


def basis(n_fft: int) -> Tensor:
    """Real, then imaginary parts of the DFT's rows for the bins from 0 on, `(2·bins, n_fft)`.

    cos(2πkn/N) and −sin(2πkn/N), float64; k·n is taken modulo N first, so no angle is large.
    """
    turns = torch.outer(torch.arange(n_fft // 2 + 1), torch.arange(n_fft)) % n_fft
    angles = turns.double() * (2 * math.pi / n_fft)
    return torch.cat([torch.cos(angles), -torch.sin(angles)])


def inverse_basis(n_fft: int) -> Tensor:
    """The inverse of `basis` for real signals, `(2·bins, n_fft)`, float64.

    Bins stand for their mirror images too; those at 0 and at half the sample rate have none.
    """
    twice = torch.full((n_fft // 2 + 1, 1), 2.0, dtype=torch.float64)
    twice[0] = 1
    if n_fft % 2 == 0:
        twice[-1] = 1
    return basis(n_fft) * twice.repeat(2, 1) / n_fft


class DftSpectrogram(nn.Module):
    """What torchaudio's `Spectrogram` gives: one convolution with the windowed DFT."""

    basis: Tensor  # (2·bins, 1, n_fft)

    def __init__(self, fast: Spectrogram) -> None:
        super().__init__()
        ours = (fast.center, fast.pad_mode, fast.onesided, fast.normalized, fast.pad)
        if ours != (True, "reflect", True, False, 0) or fast.power not in (1.0, 2.0):
            raise ValueError(f"no convolution for a spectrogram with {ours}, power {fast.power}")
        if fast.win_length != fast.n_fft:
            raise ValueError(f"a window of {fast.win_length}, not {fast.n_fft} samples")
        self.hop, self.padding, self.power = fast.hop_length, fast.n_fft // 2, fast.power
        rows = basis(fast.n_fft) * fast.window.double()
        self.register_buffer("basis", rows.float().unsqueeze(1), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `(batch, bins, 1 + samples // hop)`, magnitude or power."""
        padded = functional.pad(wave.unsqueeze(1), (self.padding, self.padding), mode="reflect")
        real, imaginary = functional.conv1d(padded, self.basis, stride=self.hop).chunk(2, dim=1)
        power = real.square() + imaginary.square()
        return power if self.power == 2.0 else power.sqrt()


class DftSeparator(nn.Module):
    """What `VocalSeparator` gives in eval mode, from the same network.

    Open-Unmix's forward is written out, for it asks for shapes in a way that tracing cannot follow.
    """

    forth: Tensor  # (2·bins, 1, n_fft)
    back: Tensor  # (2·bins, 1, n_fft)
    windows: Tensor  # (1, 1, n_fft), squared

    def __init__(self, fast: VocalSeparator) -> None:
        super().__init__()
        self.network, self.hop, self.padding = fast.network, fast.hop, fast.n_fft // 2
        window = fast.window.double()
        buffers = {
            "forth": (basis(fast.n_fft) * window).unsqueeze(1),
            "back": (inverse_basis(fast.n_fft) * window).unsqueeze(1),
            "windows": window.square().view(1, 1, -1),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.float(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples ≥ 1)` → `vocals (batch, samples)`, float32."""
        samples = wave.shape[1]
        level = wave.square().mean(dim=1, keepdim=True).sqrt().clamp(min=SILENCE) / LEVEL
        missing = -samples % self.hop
        padded = functional.pad((wave / level).unsqueeze(1), (self.padding, self.padding + missing))
        spectrum = functional.conv1d(padded, self.forth, stride=self.hop)
        real, imaginary = spectrum.chunk(2, dim=1)
        magnitude = (real.square() + imaginary.square()).sqrt()
        compressed = magnitude.clamp(min=MIN_MAGNITUDE).pow(POWER)
        gain = self.answer(compressed) / compressed
        weighed = spectrum * torch.cat([gain, gain], dim=1)
        added = functional.conv_transpose1d(weighed, self.back, stride=self.hop)
        ones = torch.ones_like(compressed[:1, :1])
        windows = functional.conv_transpose1d(ones, self.windows, stride=self.hop)
        inside = slice(self.padding, self.padding + samples)  # further out the windows may sum to 0
        return level * added[:, 0, inside] / windows[:, 0, inside]

    def answer(self, compressed: Tensor) -> Tensor:
        """Open-Unmix for one channel: `compressed (batch, bins, frames)` → the same shape, ≥ 0."""
        net = self.network
        frames = (compressed.transpose(1, 2) + net.input_mean) * net.input_scale
        first = torch.tanh(_normed(net.bn1, net.fc1(frames)))
        states, _ = net.lstm(first.transpose(0, 1))
        joined = torch.cat([first, states.transpose(0, 1)], dim=2)
        second = functional.relu(_normed(net.bn2, net.fc2(joined)))
        third = _normed(net.bn3, net.fc3(second))
        gain = functional.relu(third * net.output_scale + net.output_mean)
        return gain.transpose(1, 2) * compressed


def _normed(norm: nn.BatchNorm1d, frames: Tensor) -> Tensor:
    """Batch norm of `(batch, frames, channels)`."""
    normed: Tensor = norm(frames.transpose(1, 2)).transpose(1, 2)
    return normed


class Maximum(nn.Module):
    """`AdaptiveMaxPool2d(1)`: its exported form would be a pooling of the traced size."""

    def __init__(self, pool: nn.AdaptiveMaxPool2d) -> None:
        super().__init__()
        if pool.output_size != 1 or pool.return_indices:
            raise ValueError(f"no maximum over everything: {pool}")

    def forward(self, maps: Tensor) -> Tensor:
        """`maps (batch, channels, bands, frames)` → `(batch, channels, 1, 1)`."""
        return maps.amax(dim=(2, 3), keepdim=True)


class EncoderLayer(nn.Module):
    """`TransformerEncoderLayer` in eval mode: torch's own asks for a fixed number of columns.

    Self-attention (Vaswani et al. 2017, eq. 1), added; two dense layers, added; a norm behind each.
    """

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        if layer.norm_first or layer.activation is not functional.gelu:
            raise ValueError("a layer with norms in front, or with another activation than GELU")
        if not layer.self_attn.batch_first:
            raise ValueError("a layer whose batch does not come first")
        self.layer = layer

    def forward(self, columns: Tensor) -> Tensor:
        """`columns (batch, columns, width)` → the same shape."""
        layer = self.layer
        attended = layer.norm1(columns + self.attended(columns))
        dense = layer.linear2(functional.gelu(layer.linear1(attended)))
        answered: Tensor = layer.norm2(attended + dense)
        return answered

    def attended(self, columns: Tensor) -> Tensor:
        """Each column's answer of all columns, `(batch, columns, width)`."""
        attention = self.layer.self_attn
        batch, count, width = columns.shape
        together = functional.linear(columns, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = (
            part.reshape(batch, count, attention.num_heads, -1).transpose(1, 2)
            for part in together.chunk(3, dim=2)
        )
        likeness = query @ key.transpose(2, 3) * attention.head_dim**-0.5
        answers = likeness.softmax(dim=3) @ value
        joined: Tensor = attention.out_proj(answers.transpose(1, 2).reshape(batch, count, width))
        return joined


DOUBLES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    Spectrogram: DftSpectrogram,
    VocalSeparator: DftSeparator,
    nn.AdaptiveMaxPool2d: Maximum,
    nn.TransformerEncoderLayer: EncoderLayer,
}


def portable(network: Network) -> Network:
    """A copy of the network, in eval mode, with the doubles in their places."""
    double = copy.deepcopy(network).eval()
    _replace(double)
    return double


def _replace(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        kind = type(child)
        if kind in DOUBLES:
            setattr(module, name, DOUBLES[kind](child))
        else:
            _replace(child)
