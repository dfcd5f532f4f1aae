"""The whole way from a waveform to a unit embedding, and the dict of architectures.

Enters: `wave (batch, samples)`. Leaves: `embedding (batch, dim)` of length 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.model.crnn import Crnn
from embedder.model.ecapa import Ecapa
from embedder.model.features import LogMel, Waveform

# What a backbone may ask for by its attribute `hears`: built from `FeatureConfig`, gives
# `features (batch, rows, frames)`, and says how many `rows` there are and how many are mel bands.
FRONTS: dict[str, Callable[..., Any]] = {
    "mel": LogMel,
    "wave": Waveform,
}

# Built from `FeatureConfig` and `ModelConfig`; maps features to `(batch, output_dim)`.
BACKBONES: dict[str, Any] = {
    "ecapa": Ecapa,
    "crnn": Crnn,
}


class Network(nn.Module):
    """Features, a backbone, a linear projection with batch norm, unit length."""

    def __init__(self, config: MemberConfig) -> None:
        super().__init__()
        kind = BACKBONES[config.model.backbone]
        self.features = FRONTS[kind.hears](config.features)
        self.backbone = kind(config.features, config.model)
        self.projection = nn.Sequential(
            nn.Linear(self.backbone.output_dim, config.model.embedding_dim),
            nn.BatchNorm1d(config.model.embedding_dim),
        )

    def embed_features(self, features: Tensor) -> Tensor:
        """`features (batch, rows, frames)` → `embedding (batch, dim)`, float32, unit length."""
        return functional.normalize(self.projection(self.backbone(features)).float(), dim=1)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `embedding (batch, dim)`, float32, unit length."""
        return self.embed_features(self.features(wave))


def margin_free_logits(embedding: Tensor, head: Tensor, scale: float) -> Tensor:
    """Cosines to the class weights, times the training's scale, without any margin.

    `embedding (batch, dim)` of unit length, `head (singers, dim)` → `logits (batch, singers)`.
    """
    return scale * embedding @ functional.normalize(head, dim=1).T


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers in a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


DEVICES: dict[str, Callable[[], bool]] = {
    "cuda": lambda: torch.cuda.is_available(),
    "mps": lambda: torch.backends.mps.is_available(),
    "cpu": lambda: True,
}


def default_device(name: str) -> torch.device:
    """`auto` → the first of `DEVICES` that is there; any other name → that device.

    Raises:
        UserError: no such device, or not on this machine.
    """
    present = [device for device, available in DEVICES.items() if available()]
    chosen = present[0] if name == "auto" else name
    if chosen not in present:
        raise UserError(
            f"--device {name} is not legal here; it must be auto | {' | '.join(sorted(present))}"
        )
    return torch.device(chosen)
