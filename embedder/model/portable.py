"""A network made of operations that ONNX has, for any batch and any length, from the same weights.

Enters: a `Network`. Leaves: a copy in which some modules have a double that gives the same numbers;
and the architectures that have none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torchaudio.transforms import Spectrogram

from embedder.model.dft import DftSeparator, DftSpectrogram
from embedder.model.network import Network
from embedder.model.separator import VocalSeparator

_MELODY = (
    "it follows the sung pitch frame by frame, in a loop as long as the song where near-equal "
    "pitches may fall either way by rounding"
)
NOT_PORTABLE: dict[str, str] = {
    "crnnm": _MELODY,
    "midlevel": _MELODY,
    "ivector": "it solves a system of linear equations for each segment; ONNX has no operation "
    "that does",
}


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
